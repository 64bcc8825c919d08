/**
 * XENMEM_populate_physmap: pages for a domain at given gfns. A PV domain has no such map: it gets any frames and is told
 * which.
 *
 * @spec xen:common/memory.c populate_physmap
 * @deviates where a gfn cannot be mapped, the page goes back instead of staying with the domain unmapped
 * @deviates a preempted call keeps its place inside an extent: 1 GiB extents don't make a call last longer
 */
import { XENMEMF_populate_on_demand } from '../../../abi/xen/memory.js';
import { XenError } from '../../../boundary/xen-error.js';
import type { Domain } from '../../domain.js';
import { gfnOf, isMappable, mapPage } from '../../physmap.js';
import type { Call, Steps } from '../call.js';
import type { Implemented } from '../operation-table.js';
import type { MemoryOperation } from './memory-operation.js';
import { type Reservation, readReservation } from './reservation.js';

/** Extents, and frames of an extent, between looks for preemption. */
const PREEMPT_INTERVAL = 64;

export const populate_physmap: Implemented<MemoryOperation> = {
  name: 'populate_physmap',
  status: 'partial',
  note: 'no populate-on-demand; PV domains get single frames only',
  run(call, address, start) {
    const reservation = readReservation(call, address, start);
    if (!reservation || reservation.flags & XENMEMF_populate_on_demand) return start;
    return populate(call, reservation, start);
  },
};

function* populate(call: Call, reservation: Reservation, start: number): Steps {
  const { domain, frames, nrExtents, order } = reservation;
  if (domain.kind !== 'hvm' && order > 0) return start;
  for (let done = start; done < nrExtents; done++) {
    if (done % PREEMPT_INTERVAL === 0 && done !== start && call.preemption.due()) yield;
    try {
      if (domain.kind === 'hvm') {
        const complete = yield* populateExtent(call, domain, gfnOf(frames.read(done)), 2 ** order);
        if (!complete) return done;
      } else {
        frames.read(done);
        frames.write(done, BigInt(populatePv(domain)));
      }
    } catch (error) {
      if (error instanceof XenError) return done; // out of memory or of address space: what is done is done
      throw error;
    }
  }
  return nrExtents;
}

/** @returns whether the domain lived to see the end of it */
function* populateExtent(call: Call, domain: Domain, base: number, nrPages: number): Generator<void, boolean, void> {
  if (domain.isDying) return false;
  domain.memory.reserve(nrPages);
  for (let page = 0; page < nrPages; page++) {
    if (!isMappable(base + page)) {
      domain.memory.unreserve(nrPages - page);
      return false;
    }
    mapPage(domain, base + page, domain.memory.take());
    if (page % PREEMPT_INTERVAL === PREEMPT_INTERVAL - 1 && call.preemption.due()) {
      yield;
      if (domain.isDying) return false; // it took the reservation with it
    }
  }
  return true;
}

function populatePv(domain: Domain): number {
  if (domain.isDying) throw new XenError('EINVAL', `domain ${domain.domid} is dying`);
  const mfn = domain.memory.allocate();
  mapPage(domain, mfn, mfn); // a PV domain's frames are called by their mfns
  return mfn;
}
