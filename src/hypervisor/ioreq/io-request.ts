/**
 * One access of a guest's vCPU that nobody inside the hypervisor emulates, and what became of it.
 * Written by a vCPU engine or the I/O player from what a guest does: its numbers are the guest's.
 * @spec xen:public/hvm/ioreq.h, xen:arch/x86/hvm/emulate.c hvmemul_do_io
 */

/** `port`: x86 port I/O; `memory`: MMIO. PCI configuration cycles are found by the hypervisor among the ports. */
export type IoSpace = 'port' | 'memory';

export interface IoRequest {
  readonly space: IoSpace;
  /** Port or guest-physical address. */
  readonly addr: bigint;
  /** Bytes of one access: 1, 2, 4 or 8. Others are undefined: reads give all ones, writes are dropped. */
  readonly size: number;
  readonly isWrite: boolean;
  /** What is written; where `dataIsPtr`, the guest-physical address to copy from or to. */
  readonly data: bigint;
  /** Repetitions of a string instruction, 1 for others. Fewer may be done: see IoResult. */
  readonly count?: number;
  /** The direction flag: repetitions go downwards. */
  readonly df?: boolean;
  readonly dataIsPtr?: boolean;
  /** May go through the buffered ring where the server has one, if it is a write. */
  readonly buffered?: boolean;
}

/**
 * - served: a device model answered (or, for a buffered write, will have it)
 * - emulated: the hypervisor did it itself (a read of memory that is claimed for writes)
 * - unclaimed: no server claims all of it
 * - unhandled: its server cannot take it (no page, or the device model has broken its slot)
 * - retry: the server that memory type belonged to has just gone; do the access again
 * - lost: its server went away before it answered
 * - crashed: the device model broke the protocol; the domain was crashed for it
 */
export type IoOutcome = 'served' | 'emulated' | 'unclaimed' | 'unhandled' | 'retry' | 'lost' | 'crashed';

export interface IoResult {
  /** What a read gives, within its size: all ones for everything but `served` and `emulated`. */
  readonly data: bigint;
  readonly outcome: IoOutcome;
  /** Repetitions done, at most those asked for. */
  readonly count: number;
}

export type IoCompletion = (result: IoResult) => void;

/** All ones in the bytes of an access. */
export function allOnes(size: number): bigint {
  return size >= 8 ? 0xffff_ffff_ffff_ffffn : (1n << BigInt(size * 8)) - 1n;
}
