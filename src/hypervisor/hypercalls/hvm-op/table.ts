/** The HVM hypercall's operations. @spec xen:arch/x86/hvm/hvm.c do_hvm_op */
import { HVMOP } from '../../../abi/xen/hvm-op.js';
import type { Call, Outcome } from '../call.js';
import { argument, u32Argument } from '../guest-struct.js';
import { implementation, operationTable } from '../operation-table.js';
import { get_mem_type } from './get-mem-type.js';
import { get_param } from './get-param.js';
import type { HvmOperation } from './hvm-operation.js';
import { set_param } from './set-param.js';

export const hvmOperations = operationTable<HvmOperation>(
  HVMOP,
  [get_mem_type, get_param, set_param],
  { errno: 'ENOSYS', note: 'not needed by a device model' },
  {
    set_pci_intx_level: { errno: 'ENOSYS', note: 'a DM operation since 4.9' },
    set_isa_irq_level: { errno: 'ENOSYS', note: 'a DM operation since 4.9' },
    set_pci_link_route: { errno: 'ENOSYS', note: 'a DM operation since 4.9' },
    altp2m: { errno: 'EOPNOTSUPP', note: 'one physmap a domain' },
  },
);

export function hvm_op(call: Call, args: readonly bigint[]): Outcome {
  const operation = implementation(hvmOperations, u32Argument(args, 0), 'hvm_op', 'ENOSYS');
  call.name = `hvm_op/${operation.name}`;
  return operation.run(call, argument(args, 1));
}
