/** EVTCHNOP_send. @spec xen:common/event_channel.c evtchn_send */
import { evtchn_send } from '../../../abi/xen/event-channel.js';
import { readGuest } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { EventChannelOperation } from './event-channel-operation.js';

export const send: Implemented<EventChannelOperation> = {
  name: 'send',
  status: 'supported',
  run(call, address) {
    const { port } = readGuest(call.memory, address, evtchn_send);
    call.caller.evtchn.send(port);
    return 0;
  },
};
