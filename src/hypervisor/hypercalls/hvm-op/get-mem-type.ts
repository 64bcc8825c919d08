/** HVMOP_get_mem_type. @spec xen:arch/x86/hvm/hvm.c hvmop_get_mem_type */
import { HVMMEM_ioreq_server, HVMMEM_mmio_dm, HVMMEM_ram_ro, HVMMEM_ram_rw } from '../../../abi/xen/dm-op.js';
import { xen_hvm_get_mem_type } from '../../../abi/xen/hvm-op.js';
import { XenError } from '../../../boundary/xen-error.js';
import { requireTarget } from '../../access.js';
import type { P2mType } from '../../p2m.js';
import { gfnOf } from '../../physmap.js';
import { readGuest, writeGuest } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { HvmOperation } from './hvm-operation.js';

/** Pages whose writes are watched count as read-only, as in Xen. */
const CODES: Readonly<Record<P2mType, number>> = {
  mmio_dm: HVMMEM_mmio_dm,
  ioreq_server: HVMMEM_ioreq_server,
  ram_ro: HVMMEM_ram_ro,
  ram_logdirty: HVMMEM_ram_ro,
  ram_rw: HVMMEM_ram_rw,
};

export const get_mem_type: Implemented<HvmOperation> = {
  name: 'get_mem_type',
  status: 'supported',
  run(call, address) {
    const query = readGuest(call.memory, address, xen_hvm_get_mem_type);
    const domain = call.hypervisor.domains.getAny(query.domid, call.caller);
    requireTarget(call.caller, domain);
    if (!domain.hvm) throw new XenError('EINVAL', `domain ${domain.domid} is not HVM`);
    query.mem_type = CODES[domain.p2m.type(gfnOf(query.pfn))];
    writeGuest(call.memory, address, xen_hvm_get_mem_type, query);
    return 0;
  },
};
