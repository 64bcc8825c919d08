/** EVTCHNOP_close. @spec xen:common/event_channel.c evtchn_close */
import { evtchn_close } from '../../../abi/xen/event-channel.js';
import { readGuest } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { EventChannelOperation } from './event-channel-operation.js';

export const close: Implemented<EventChannelOperation> = {
  name: 'close',
  status: 'supported',
  run(call, address) {
    const { port } = readGuest(call.memory, address, evtchn_close);
    call.caller.evtchn.closeByGuest(port);
    return 0;
  },
};
