/**
 * Resources of a domain that another domain may map: so far, the pages of its ioreq servers.
 * @spec xen:common/memory.c _acquire_resource, resource_max_frames
 */
import { ERRNO } from '../abi/errno.js';
import {
  XENMEM_resource_grant_table,
  XENMEM_resource_ioreq_server,
  XENMEM_resource_vmtrace_buf,
} from '../abi/xen/memory.js';
import { XenError } from '../boundary/xen-error.js';
import type { Domain } from './domain.js';
import type { IoreqServers } from './ioreq/ioreq-servers.js';

const RESOURCE_TYPES = new Set([
  XENMEM_resource_ioreq_server,
  XENMEM_resource_grant_table,
  XENMEM_resource_vmtrace_buf,
]);

/** @throws XenError EINVAL where the domain has none of that type, EOPNOTSUPP for an unknown type */
function ioreqServersOf(domain: Domain, type: number): IoreqServers {
  switch (type) {
    case XENMEM_resource_ioreq_server:
      if (!domain.hvm) throw new XenError('EINVAL', `domain ${domain.domid} has no ioreq servers`);
      return domain.hvm.ioreq;
    case XENMEM_resource_vmtrace_buf:
      throw new XenError('EINVAL', 'no vCPU is traced');
    case XENMEM_resource_grant_table:
      throw new XenError('EOPNOTSUPP', 'grant tables cannot be mapped');
    default:
      throw new XenError('EOPNOTSUPP', `no resource type ${type}`);
  }
}

/**
 * How many frames a resource has: a property of the domain, whether or not the resource exists. Of a type that doesn't
 * exist Xen says EOPNOTSUPP too, but in the number: callers see success and 2^32 - 95 frames.
 * @throws XenError EINVAL where the domain has none of that type, EOPNOTSUPP for grant tables
 */
export function resourceMaxFrames(domain: Domain, type: number): number {
  if (!RESOURCE_TYPES.has(type)) return -ERRNO.EOPNOTSUPP >>> 0;
  return ioreqServersOf(domain, type).resourceMaxFrames;
}

/** The mfns of some frames of a resource, all or none. @throws XenError EINVAL, ENOENT, EPERM, EOPNOTSUPP, ENOMEM */
export function acquireResource(
  caller: Domain,
  domain: Domain,
  type: number,
  id: number,
  frame: bigint,
  nrFrames: number,
): number[] {
  const servers = ioreqServersOf(domain, type);
  if ((frame + BigInt(nrFrames)) >> 32n !== 0n) throw new XenError('EINVAL', `frame ${frame} of a resource`);
  // A count above the resource's own fails at the first frame too many: there is no need to go on from there.
  return servers.resourceFrames(caller, id, frame, Math.min(nrFrames, servers.resourceMaxFrames + 1));
}
