/** EVTCHNOP_alloc_unbound: a port that another domain may bind. @spec xen:common/event_channel.c evtchn_alloc_unbound */
import { evtchn_alloc_unbound } from '../../../abi/xen/event-channel.js';
import { DOMID_SELF } from '../../../abi/xen/xen.js';
import { requireTarget } from '../../access.js';
import { readGuest, writeGuestField } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { EventChannelOperation } from './event-channel-operation.js';

export const alloc_unbound: Implemented<EventChannelOperation> = {
  name: 'alloc_unbound',
  status: 'supported',
  run(call, address) {
    const { dom, remote_dom } = readGuest(call.memory, address, evtchn_alloc_unbound);
    const domain = call.hypervisor.domains.getAny(dom, call.caller);
    requireTarget(call.caller, domain);
    const port = domain.evtchn.allocUnbound(remote_dom === DOMID_SELF ? call.caller.domid : remote_dom);
    writeGuestField(call.memory, address, evtchn_alloc_unbound.fields.port, port);
    return 0;
  },
};
