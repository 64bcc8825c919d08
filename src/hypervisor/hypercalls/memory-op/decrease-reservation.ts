/**
 * XENMEM_decrease_reservation: gives pages back. An extent with a hole in it ends the call, its pages before the hole
 * gone.
 * @spec xen:common/memory.c decrease_reservation, guest_remove_page
 */

import { XenError } from '../../../boundary/xen-error.js';
import { gfnOf, removePage } from '../../physmap.js';
import type { Call, Steps } from '../call.js';
import type { Implemented } from '../operation-table.js';
import type { MemoryOperation } from './memory-operation.js';
import { type Reservation, readReservation } from './reservation.js';

const PREEMPT_INTERVAL = 64;

export const decrease_reservation: Implemented<MemoryOperation> = {
  name: 'decrease_reservation',
  status: 'supported',
  run(call, address, start) {
    const reservation = readReservation(call, address, start);
    return reservation ? decrease(call, reservation, start) : start;
  },
};

function* decrease(call: Call, { domain, frames, nrExtents, order }: Reservation, start: number): Steps {
  const nrPages = 2 ** order;
  let sinceCheck = 0;
  for (let done = start; done < nrExtents; done++) {
    try {
      const base = gfnOf(frames.read(done));
      for (let page = 0; page < nrPages; page++) {
        removePage(domain, base + page);
        if (++sinceCheck >= PREEMPT_INTERVAL) {
          sinceCheck = 0;
          if (call.preemption.due()) yield;
        }
      }
    } catch (error) {
      if (error instanceof XenError) return done;
      throw error;
    }
  }
  return nrExtents;
}
