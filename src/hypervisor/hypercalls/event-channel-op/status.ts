/** EVTCHNOP_status. @spec xen:common/event_channel.c evtchn_status */
import {
  EVTCHNSTAT_closed,
  EVTCHNSTAT_interdomain,
  EVTCHNSTAT_ipi,
  EVTCHNSTAT_unbound,
  EVTCHNSTAT_virq,
  evtchn_status,
} from '../../../abi/xen/event-channel.js';
import { requireTarget } from '../../access.js';
import type { ChannelState } from '../../event-channels.js';
import { readGuest, writeGuest } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { EventChannelOperation } from './event-channel-operation.js';

const CODES: Readonly<Record<ChannelState, number>> = {
  free: EVTCHNSTAT_closed,
  reserved: EVTCHNSTAT_closed,
  unbound: EVTCHNSTAT_unbound,
  interdomain: EVTCHNSTAT_interdomain,
  virq: EVTCHNSTAT_virq,
  ipi: EVTCHNSTAT_ipi,
};

export const status: Implemented<EventChannelOperation> = {
  name: 'status',
  status: 'supported',
  run(call, address) {
    const query = readGuest(call.memory, address, evtchn_status);
    const domain = call.hypervisor.domains.getAny(query.dom, call.caller);
    requireTarget(call.caller, domain);
    const channel = domain.evtchn.status(query.port);
    query.status = CODES[channel.state];
    query.vcpu = channel.vcpuId;
    // What the caller had in the union stays, where the state has nothing to put there.
    if (channel.state === 'virq') query.u.virq = channel.virq;
    else if (channel.state === 'unbound') query.u.virq = withLow16(query.u.virq, channel.remoteDomid);
    else if (channel.state === 'interdomain') {
      query.u.virq = withLow16(query.u.virq, channel.remoteDomid);
      query.u.interdomain.port = channel.remotePort;
    }
    writeGuest(call.memory, address, evtchn_status, query);
    return 0;
  },
};

/** A domid in the union, whose last member's word covers it. */
function withLow16(word: number, domid: number): number {
  return ((word & 0xffff0000) | domid) >>> 0;
}
