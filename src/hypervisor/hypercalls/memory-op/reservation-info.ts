/**
 * XENMEM_current_reservation, XENMEM_maximum_reservation and XENMEM_maximum_gpfn: one number about a domain.
 * @spec xen:common/memory.c do_memory_op, xen:arch/x86/mm.c domain_get_maximum_gpfn
 */
import { xen_memory_domain } from '../../../abi/xen/memory.js';
import { XenError } from '../../../boundary/xen-error.js';
import { requireTarget } from '../../access.js';
import type { Domain } from '../../domain.js';
import { readGuest } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { MemoryOperation } from './memory-operation.js';

function about(name: string, tell: (domain: Domain) => number): Implemented<MemoryOperation> {
  return {
    name,
    status: 'supported',
    run(call, address, start) {
      if (start !== 0) throw new XenError('EINVAL', `${name} cannot be continued`);
      const { domid } = readGuest(call.memory, address, xen_memory_domain);
      const domain = call.hypervisor.domains.getAny(domid, call.caller);
      requireTarget(call.caller, domain);
      return tell(domain);
    },
  };
}

export const current_reservation = about('current_reservation', (domain) => domain.memory.totPages);
export const maximum_reservation = about('maximum_reservation', (domain) => domain.memory.maxPages);
/** A PV domain tells its own maximum in shared info, which nothing here fills in: 0. */
export const maximum_gpfn = about('maximum_gpfn', (domain) =>
  domain.kind === 'hvm' ? Math.max(domain.p2m.maxMappedGfn, 0) : 0,
);
