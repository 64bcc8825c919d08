/** EVTCHNOP_unmask. @spec xen:common/event_channel.c evtchn_unmask */
import { evtchn_unmask } from '../../../abi/xen/event-channel.js';
import { readGuest } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { EventChannelOperation } from './event-channel-operation.js';

export const unmask: Implemented<EventChannelOperation> = {
  name: 'unmask',
  status: 'supported',
  run(call, address) {
    const { port } = readGuest(call.memory, address, evtchn_unmask);
    call.caller.evtchn.unmask(port);
    return 0;
  },
};
