/**
 * Repeated accesses (REP string instructions): how many may go into one request, and those that the hypervisor does
 * itself because nobody is asked for them.
 *
 * Counts and addresses are the guest's. Within one page of either side the same server claims all repetitions and the
 * work is bounded; the guest's instruction does the rest as further accesses.
 *
 * @spec xen:arch/x86/hvm/emulate.c hvmemul_do_io, xen:arch/x86/hvm/intercept.c hvm_process_io_intercept
 */
import { PAGE_SIZE } from '../../abi/ids.js';
import type { Domain } from '../domain.js';
import { readGuest, writeGuest } from './guest-copy.js';
import { allOnes, type IoOutcome, type IoRequest, type IoResult } from './io-request.js';

const OFFSET_MASK = BigInt(PAGE_SIZE - 1);

/** How many of a request's repetitions one request may carry: at least one. */
export function limitRepetitions(request: IoRequest): number {
  let count = request.count ?? 1;
  if (count <= 1) return 1;
  if (request.space === 'memory') count = Math.min(count, withinPage(request.addr, request));
  if (request.dataIsPtr) count = Math.min(count, withinPage(request.data, request));
  return count;
}

function withinPage(addr: bigint, request: IoRequest): number {
  const offset = Number(addr & OFFSET_MASK);
  const tail = PAGE_SIZE - offset;
  if (tail < request.size) return 1; // a single one crosses already
  return Math.floor((request.df ? offset + request.size : tail) / request.size);
}

/** An access that nobody claims: reads give all ones, into guest memory where the data is there; writes are dropped. */
export function unclaimedAccess(domain: Domain, request: IoRequest, count: number): IoResult {
  if (!request.isWrite && request.dataIsPtr) {
    const ones = new Uint8Array(request.size).fill(0xff);
    for (let i = 0; i < count; i++) writeGuest(domain, repetition(request.data, request, i), ones);
  }
  return withoutData(request, count, 'unclaimed');
}

/** Reads of guest memory whose writes only are claimed: part of a read-modify-write instruction. */
export function readClaimedMemory(domain: Domain, request: IoRequest, count: number): IoResult {
  const bytes = new Uint8Array(8);
  const part = bytes.subarray(0, request.size);
  for (let i = 0; i < count; i++) {
    if (!readGuest(domain, repetition(request.addr, request, i), part)) return withoutData(request, i, 'unhandled');
    if (request.dataIsPtr) writeGuest(domain, repetition(request.data, request, i), part);
  }
  return { data: new DataView(bytes.buffer).getBigUint64(0, true), outcome: 'emulated', count };
}

/** What the guest gets where there is no answer. */
export function withoutData(request: IoRequest, count: number, outcome: IoOutcome): IoResult {
  return { data: request.isWrite ? 0n : allOnes(request.size), outcome, count };
}

function repetition(base: bigint, request: IoRequest, i: number): bigint {
  const step = BigInt(i * request.size);
  return BigInt.asUintN(64, request.df ? base - step : base + step);
}
