/** EVTCHNOP_bind_vcpu. @spec xen:common/event_channel.c evtchn_bind_vcpu */
import { evtchn_bind_vcpu } from '../../../abi/xen/event-channel.js';
import { readGuest } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { EventChannelOperation } from './event-channel-operation.js';

export const bind_vcpu: Implemented<EventChannelOperation> = {
  name: 'bind_vcpu',
  status: 'supported',
  run(call, address) {
    const { port, vcpu } = readGuest(call.memory, address, evtchn_bind_vcpu);
    call.caller.evtchn.bindVcpu(port, vcpu);
    return 0;
  },
};
