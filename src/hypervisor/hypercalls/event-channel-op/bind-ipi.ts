/** EVTCHNOP_bind_ipi. @spec xen:common/event_channel.c evtchn_bind_ipi */
import { evtchn_bind_ipi } from '../../../abi/xen/event-channel.js';
import { readGuest, writeGuestField } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { EventChannelOperation } from './event-channel-operation.js';

export const bind_ipi: Implemented<EventChannelOperation> = {
  name: 'bind_ipi',
  status: 'supported',
  run(call, address) {
    const { vcpu } = readGuest(call.memory, address, evtchn_bind_ipi);
    const port = call.caller.evtchn.bindIpi(vcpu);
    writeGuestField(call.memory, address, evtchn_bind_ipi.fields.port, port);
    return 0;
  },
};
