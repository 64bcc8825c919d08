/** HVMOP_set_param. @spec xen:arch/x86/hvm/hvm.c hvmop_set_param */
import { xen_hvm_param } from '../../../abi/xen/hvm-op.js';
import { readGuest } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { HvmOperation } from './hvm-operation.js';
import { checkAccess, paramsOf, setParam } from './params.js';

export const set_param: Implemented<HvmOperation> = {
  name: 'set_param',
  status: 'partial',
  note: 'values are checked and kept; those for vCPUs, timers and Viridian have no effect',
  run(call, address) {
    const { domid, index, value } = readGuest(call.memory, address, xen_hvm_param);
    const { domain, hvm } = paramsOf(call, domid, index);
    checkAccess(call, domain, index, 'set');
    setParam(hvm, index, value);
    return 0;
  },
};
