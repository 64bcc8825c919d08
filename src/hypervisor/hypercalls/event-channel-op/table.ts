/**
 * The event channel hypercall: unpack, do, write the answer back. What event channels are is in event-channels.ts.
 * @spec xen:common/event_channel.c do_event_channel_op
 */
import { EVTCHNOP } from '../../../abi/xen/event-channel.js';
import type { Call, Outcome } from '../call.js';
import { argument, u32Argument } from '../guest-struct.js';
import { implementation, operationTable } from '../operation-table.js';
import { alloc_unbound } from './alloc-unbound.js';
import { bind_interdomain } from './bind-interdomain.js';
import { bind_ipi } from './bind-ipi.js';
import { bind_vcpu } from './bind-vcpu.js';
import { bind_virq } from './bind-virq.js';
import { close } from './close.js';
import type { EventChannelOperation } from './event-channel-operation.js';
import { reset, reset_cont } from './reset.js';
import { send } from './send.js';
import { status } from './status.js';
import { unmask } from './unmask.js';

export const eventChannelOperations = operationTable<EventChannelOperation>(
  EVTCHNOP,
  [alloc_unbound, bind_interdomain, bind_ipi, bind_vcpu, bind_virq, close, reset, reset_cont, send, status, unmask],
  { errno: 'ENOSYS', note: 'channels have the two-level ABI; a kernel falls back to it' },
  {
    bind_pirq: { errno: 'EINVAL', note: 'domains have no physical interrupts' },
    expand_array: { errno: 'EOPNOTSUPP', note: 'channels have the two-level ABI' },
  },
);

export function event_channel_op(call: Call, args: readonly bigint[]): Outcome {
  const operation = implementation(eventChannelOperations, u32Argument(args, 0), 'event_channel_op', 'ENOSYS');
  call.name = `event_channel_op/${operation.name}`;
  return operation.run(call, argument(args, 1));
}
