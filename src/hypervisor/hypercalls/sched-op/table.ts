/** The scheduler hypercall, as far as a toolstack uses it. @spec xen:common/sched/core.c do_sched_op */
import { SCHEDOP, sched_remote_shutdown } from '../../../abi/xen/sched.js';
import { requireControl } from '../../access.js';
import type { Call } from '../call.js';
import { argument, readGuest, u32Argument } from '../guest-struct.js';
import { type Implemented, implementation, operationTable } from '../operation-table.js';

type SchedOperation = (call: Call, address: bigint) => number;

const remote_shutdown: Implemented<SchedOperation> = {
  name: 'remote_shutdown',
  status: 'supported',
  run(call, address) {
    const { domain_id, reason } = readGuest(call.memory, address, sched_remote_shutdown);
    const domain = call.hypervisor.domains.get(domain_id);
    requireControl(call.caller);
    domain.shutdown(reason);
    return 0;
  },
};

export const schedOperations = operationTable<SchedOperation>(SCHEDOP, [remote_shutdown], {
  errno: 'ENOSYS',
  note: 'for vCPUs, which have an engine of their own',
});

export function sched_op(call: Call, args: readonly bigint[]): number {
  const operation = implementation(schedOperations, u32Argument(args, 0), 'sched_op', 'ENOSYS');
  call.name = `sched_op/${operation.name}`;
  return operation.run(call, argument(args, 1));
}
