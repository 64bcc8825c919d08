/** HVMOP_get_param. @spec xen:arch/x86/hvm/hvm.c hvmop_get_param */
import { xen_hvm_param } from '../../../abi/xen/hvm-op.js';
import { readGuest, writeGuest } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { HvmOperation } from './hvm-operation.js';
import { checkAccess, getParam, paramsOf } from './params.js';

export const get_param: Implemented<HvmOperation> = {
  name: 'get_param',
  status: 'supported',
  run(call, address) {
    const query = readGuest(call.memory, address, xen_hvm_param);
    const { domain, hvm } = paramsOf(call, query.domid, query.index);
    checkAccess(call, domain, query.index, 'get');
    query.value = getParam(hvm, query.index);
    writeGuest(call.memory, address, xen_hvm_param, query);
    return 0;
  },
};
