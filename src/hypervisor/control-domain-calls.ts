/** The hypervisor as dom0's kernel sees it. */
import type { Mapping } from '../boundary/extent.js';
import type { GuestBuffer, GuestMemory } from '../boundary/guest-buffer.js';
import type { EventChannelCalls, Hypercalls } from '../boundary/hypercalls.js';
import type { Operation } from '../boundary/operation.js';
import type { Domain } from './domain.js';
import { mapForeign, mapFrames } from './foreign-frames.js';
import { Call, HypercallOperation } from './hypercalls/call.js';
import { beginDmOp } from './hypercalls/dm-op/dm-op.js';
import { startHypercall } from './hypercalls/table.js';
import type { Hypervisor } from './hypervisor.js';
import { acquireResource, resourceMaxFrames } from './resources.js';

export class ControlDomainCalls implements Hypercalls {
  readonly events: EventChannelCalls;

  constructor(
    private readonly hypervisor: Hypervisor,
    private readonly caller: Domain,
  ) {
    const { evtchn } = caller;
    this.events = {
      bindInterdomain: (domid, port) => evtchn.bindInterdomain(hypervisor.domains.getAny(domid, caller), port),
      allocUnbound: (domid, atPort) => evtchn.allocUnbound(domid, atPort),
      bindVirq: (virq) => evtchn.bindVirq(virq, 0),
      close: (port) => evtchn.closeByGuest(port),
      send: (port) => evtchn.send(port),
      acknowledge: (port) => {
        evtchn.mask(port);
        evtchn.clearPending(port);
      },
      unmask: (port) => evtchn.unmask(port),
    };
  }

  dmOp(domid: number, buffers: readonly GuestBuffer[]): Operation {
    return beginDmOp(this.hypervisor, this.caller, domid, buffers);
  }

  hypercall(op: number, args: readonly bigint[], memory: GuestMemory): Operation {
    const call = new Call(this.hypervisor, this.caller, memory);
    return new HypercallOperation(call, () => startHypercall(call, op, args));
  }

  foreignFrames(domid: number, gfns: readonly bigint[]): Mapping {
    return mapForeign(this.hypervisor.domains.getAny(domid, this.caller), gfns);
  }

  resourceSize(domid: number, type: number, _id: number): number {
    return resourceMaxFrames(this.hypervisor.resourceOwner(this.caller, domid), type);
  }

  resourceFrames(domid: number, type: number, id: number, frame: bigint, nrFrames: number): Mapping {
    const domain = this.hypervisor.resourceOwner(this.caller, domid);
    return mapFrames(domain, acquireResource(this.caller, domain, type, id, frame, nrFrames));
  }
}
