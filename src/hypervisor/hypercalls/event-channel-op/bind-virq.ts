/** EVTCHNOP_bind_virq. @spec xen:common/event_channel.c evtchn_bind_virq */
import { evtchn_bind_virq } from '../../../abi/xen/event-channel.js';
import { readGuest, writeGuestField } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { EventChannelOperation } from './event-channel-operation.js';

export const bind_virq: Implemented<EventChannelOperation> = {
  name: 'bind_virq',
  status: 'partial',
  note: 'only VIRQ_DOM_EXC is ever raised',
  run(call, address) {
    const { virq, vcpu } = readGuest(call.memory, address, evtchn_bind_virq);
    const port = call.caller.evtchn.bindVirq(virq, vcpu);
    writeGuestField(call.memory, address, evtchn_bind_virq.fields.port, port);
    return 0;
  },
};
