/** EVTCHNOP_bind_interdomain. @spec xen:common/event_channel.c evtchn_bind_interdomain */
import { evtchn_bind_interdomain } from '../../../abi/xen/event-channel.js';
import { readGuest, writeGuestField } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { EventChannelOperation } from './event-channel-operation.js';

export const bind_interdomain: Implemented<EventChannelOperation> = {
  name: 'bind_interdomain',
  status: 'supported',
  run(call, address) {
    const { remote_dom, remote_port } = readGuest(call.memory, address, evtchn_bind_interdomain);
    const remote = call.hypervisor.domains.getAny(remote_dom, call.caller);
    const port = call.caller.evtchn.bindInterdomain(remote, remote_port);
    writeGuestField(call.memory, address, evtchn_bind_interdomain.fields.local_port, port);
    return 0;
  },
};
