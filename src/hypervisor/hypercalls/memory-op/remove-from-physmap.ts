/**
 * XENMEM_remove_from_physmap: unmaps a page, which stays the domain's.
 * @spec xen:common/memory.c do_memory_op
 */
import { xen_remove_from_physmap } from '../../../abi/xen/memory.js';
import { XenError } from '../../../boundary/xen-error.js';
import { requireTarget } from '../../access.js';
import { P2M_INVALID } from '../../p2m.js';
import { gfnOf } from '../../physmap.js';
import { readGuest } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { MemoryOperation } from './memory-operation.js';

export const remove_from_physmap: Implemented<MemoryOperation> = {
  name: 'remove_from_physmap',
  status: 'supported',
  run(call, address, start) {
    if (start !== 0) throw new XenError('EINVAL', 'remove_from_physmap cannot be continued');
    const { domid, gpfn } = readGuest(call.memory, address, xen_remove_from_physmap);
    const domain = call.hypervisor.domains.getAny(domid, call.caller);
    if (domain.kind !== 'hvm') throw new XenError('EACCES', `domain ${domid} has no physmap`);
    requireTarget(call.caller, domain);
    const mfn = domain.p2m.remove(gfnOf(gpfn));
    if (mfn === P2M_INVALID) throw new XenError('ENOENT', `nothing at gfn 0x${gpfn.toString(16)}`);
    if (mfn === domain.sharedInfoMfn) domain.sharedInfoGfn = P2M_INVALID;
    return 0;
  },
};
