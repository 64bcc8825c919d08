/** The system control hypercall's operations. @spec xen:common/sysctl.c do_sysctl */
import { XEN_SYSCTL, XEN_SYSCTL_INTERFACE_VERSION, xen_sysctl } from '../../../abi/xen/sysctl.js';
import { XenError } from '../../../boundary/xen-error.js';
import { requireControl } from '../../access.js';
import type { Call, Outcome } from '../call.js';
import { argument, readGuest } from '../guest-struct.js';
import { implementation, operationTable } from '../operation-table.js';
import { getdomaininfolist } from './getdomaininfolist.js';
import { physinfo } from './physinfo.js';
import type { SysctlOperation } from './sysctl-operation.js';

export const sysctlOperations = operationTable<SysctlOperation>(XEN_SYSCTL, [getdomaininfolist, physinfo], {
  errno: 'ENOSYS',
  note: 'there is no machine to control',
});

export function sysctl(call: Call, args: readonly bigint[]): Outcome {
  const address = argument(args, 0);
  const op = readGuest(call.memory, address, xen_sysctl);
  if (op.interface_version !== XEN_SYSCTL_INTERFACE_VERSION) {
    throw new XenError('EACCES', `sysctl interface version 0x${op.interface_version.toString(16)}`);
  }
  requireControl(call.caller);
  const operation = implementation(sysctlOperations, op.cmd, 'sysctl', 'ENOSYS');
  call.name = `sysctl/${operation.name}`;
  return operation.run(call, address, op);
}
