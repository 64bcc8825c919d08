/**
 * XENMEM_add_to_physmap: moves pages of a domain within it, one or a range, or puts its shared info page somewhere.
 * @spec xen:common/memory.c xenmem_add_to_physmap, xatp_permission_check, xen:arch/x86/mm/p2m.c
 *   xenmem_add_to_physmap_one
 */
import type { TypeOf } from '../../../abi/layout.js';
import {
  XENMAPSPACE_dev_mmio,
  XENMAPSPACE_gmfn,
  XENMAPSPACE_gmfn_foreign,
  XENMAPSPACE_gmfn_range,
  XENMAPSPACE_grant_table,
  XENMAPSPACE_shared_info,
  xen_add_to_physmap,
} from '../../../abi/xen/memory.js';
import { XenError } from '../../../boundary/xen-error.js';
import { requireTarget } from '../../access.js';
import type { Domain } from '../../domain.js';
import { gfnOf, INVALID_GFN, movePage, placeSharedInfo } from '../../physmap.js';
import type { Call, Steps } from '../call.js';
import { readGuest } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { MemoryOperation } from './memory-operation.js';

const PREEMPT_INTERVAL = 16;
/** Sizes are 16 bits wide, so no honest continuation starts above this. */
export const MAX_SIZE = 0xffff;

export const add_to_physmap: Implemented<MemoryOperation> = {
  name: 'add_to_physmap',
  status: 'partial',
  note: 'no grant table space',
  run(call, address, start) {
    if (start > MAX_SIZE) throw new XenError('EDOM', 'continuation beyond any range');
    const xatp = readGuest(call.memory, address, xen_add_to_physmap);
    if (xatp.space === XENMAPSPACE_gmfn_foreign) throw new XenError('ENOSYS', 'foreign pages come by the batched call');
    const domain = call.hypervisor.domains.getAny(xatp.domid, call.caller);
    checkSpace(call, domain, xatp.space);
    if (xatp.gpfn === INVALID_GFN) throw new XenError('EINVAL', 'the invalid gfn');
    if (xatp.space === XENMAPSPACE_gmfn_range) return moveRange(call, domain, xatp, start);
    addOne(domain, xatp.space, xatp.idx, xatp.gpfn);
    return 0;
  },
};

function* moveRange(call: Call, domain: Domain, xatp: TypeOf<typeof xen_add_to_physmap>, start: number): Steps {
  if (xatp.size < start) throw new XenError('EILSEQ', 'continuation beyond the range');
  const size = BigInt(xatp.size);
  if (xatp.gpfn + size > INVALID_GFN || xatp.idx + size > INVALID_GFN) throw new XenError('EOVERFLOW', 'range wraps');
  for (let done = start; done < xatp.size; done++) {
    addOne(domain, XENMAPSPACE_gmfn, xatp.idx + BigInt(done), xatp.gpfn + BigInt(done));
    if (done % PREEMPT_INTERVAL === PREEMPT_INTERVAL - 1 && call.preemption.due()) yield;
  }
  return 0;
}

/** @throws XenError EACCES, EPERM */
export function checkSpace(call: Call, domain: Domain, space: number): void {
  if (domain.kind !== 'hvm') throw new XenError('EACCES', `domain ${domain.domid} has no physmap`);
  if (space === XENMAPSPACE_dev_mmio) throw new XenError('EACCES', 'device memory is for the hardware domain only');
  requireTarget(call.caller, domain);
}

/** @throws XenError EINVAL, ENOENT, EOPNOTSUPP */
export function addOne(domain: Domain, space: number, index: bigint, gpfn: bigint): void {
  if (domain.isDying) throw new XenError('EINVAL', `domain ${domain.domid} is dying`);
  switch (space) {
    case XENMAPSPACE_gmfn:
      movePage(domain, gfnOf(index), gfnOf(gpfn));
      return;
    case XENMAPSPACE_shared_info:
      if (index !== 0n) throw new XenError('EINVAL', 'shared info is one page');
      placeSharedInfo(domain, gfnOf(gpfn));
      return;
    case XENMAPSPACE_grant_table:
      throw new XenError('EOPNOTSUPP', 'no grant table to map');
    default:
      throw new XenError('EINVAL', `no map space ${space}`);
  }
}
