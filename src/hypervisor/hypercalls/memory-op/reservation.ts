/**
 * What the reservation calls have in common: whose reservation, which extents, and where to go on. These calls return how
 * many extents they have done and never an errno; whatever is wrong just ends them early.
 * @spec xen:common/memory.c do_memory_op, construct_memop_from_reservation, max_order
 */
import type { TypeOf } from '../../../abi/layout.js';
import {
  MEMOP_EXTENT_SHIFT,
  XENMEMF_address_bits_mask,
  XENMEMF_exact_node_request,
  XENMEMF_vnode,
  xen_memory_reservation,
} from '../../../abi/xen/memory.js';
import { XenError } from '../../../boundary/xen-error.js';
import { requireTarget } from '../../access.js';
import type { Domain } from '../../domain.js';
import type { Call } from '../call.js';
import { GuestArray } from '../guest-array.js';
import { readGuest } from '../guest-struct.js';

const MAX_EXTENTS = BigInt(0xffffffff >>> MEMOP_EXTENT_SHIFT);
/** The largest extents that an ordinary and the control domain may ask for. */
const DOMU_MAX_ORDER = 9;
const CTLDOM_MAX_ORDER = 18;
/** Machine addresses here fit in this many bits: a request for fewer than a page offset makes no sense. */
const PAGE_SHIFT = 12;
const NUMA_NO_NODE = 0xff;
const MAX_NUMNODES = 64;

export interface Reservation {
  readonly domain: Domain;
  readonly frames: GuestArray;
  readonly nrExtents: number;
  readonly order: number;
  readonly flags: number;
}

/** The reservation a call is about, or undefined where the call ends before its first extent. */
export function readReservation(call: Call, address: bigint, start: number): Reservation | undefined {
  try {
    return checkReservation(call, readGuest(call.memory, address, xen_memory_reservation), start);
  } catch (error) {
    if (error instanceof XenError) return undefined;
    throw error;
  }
}

function checkReservation(
  call: Call,
  wanted: TypeOf<typeof xen_memory_reservation>,
  start: number,
): Reservation | undefined {
  if (wanted.nr_extents > MAX_EXTENTS || BigInt(start) >= wanted.nr_extents) return undefined;
  const domain = call.hypervisor.domains.getAny(wanted.domid, call.caller);
  if (!flagsMakeSense(wanted.mem_flags, call.caller)) return undefined;
  requireTarget(call.caller, domain);
  const maxOrder = call.caller.kind === 'control' ? CTLDOM_MAX_ORDER : DOMU_MAX_ORDER;
  if (wanted.extent_order > maxOrder) return undefined;
  const nrExtents = Number(wanted.nr_extents);
  const frames = new GuestArray(call.memory, wanted.extent_start, nrExtents);
  return { domain, frames, nrExtents, order: wanted.extent_order, flags: wanted.mem_flags };
}

function flagsMakeSense(flags: number, caller: Domain): boolean {
  const addressBits = flags & XENMEMF_address_bits_mask;
  if (addressBits !== 0 && addressBits <= PAGE_SHIFT) return false;
  if (flags & XENMEMF_vnode) return true; // no domain has virtual nodes, so there is nothing to choose
  const node = ((flags >>> 8) - 1) & 0xff;
  if (node === NUMA_NO_NODE) return true;
  return caller.kind === 'control' ? node < MAX_NUMNODES : (flags & XENMEMF_exact_node_request) === 0;
}
