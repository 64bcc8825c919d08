/**
 * EVTCHNOP_reset: closes all ports of the caller, or of a paused domain. Its continuation has an operation of its own,
 * which only a call that was preempted makes sense of.
 * @spec xen:common/event_channel.c evtchn_reset
 */
import { evtchn_reset } from '../../../abi/xen/event-channel.js';
import { XenError } from '../../../boundary/xen-error.js';
import { requireTarget } from '../../access.js';
import type { Domain } from '../../domain.js';
import type { Call, Outcome, Steps } from '../call.js';
import { readGuest } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { EventChannelOperation } from './event-channel-operation.js';

function begin(call: Call, address: bigint, resuming: boolean): Outcome {
  const { dom } = readGuest(call.memory, address, evtchn_reset);
  const domain = call.hypervisor.domains.getAny(dom, call.caller);
  requireTarget(call.caller, domain);
  if (domain !== call.caller && domain.controllerPauseCount === 0) {
    throw new XenError('EINVAL', `domain ${domain.domid} is not paused`);
  }
  return resetAll(call, domain, resuming);
}

function* resetAll(call: Call, domain: Domain, resuming: boolean): Steps {
  for (let again = resuming; !domain.evtchn.reset(again, call.preemption); again = true) yield;
  return 0;
}

export const reset: Implemented<EventChannelOperation> = {
  name: 'reset',
  status: 'supported',
  run: (call, address) => begin(call, address, false),
};

export const reset_cont: Implemented<EventChannelOperation> = {
  name: 'reset_cont',
  status: 'supported',
  run: (call, address) => begin(call, address, true),
};
