/** Structs in the caller's memory: each read is one copy, decided on as it was then. */
import { decode, encode, type Field, type Layout } from '../../abi/layout.js';
import type { GuestMemory } from '../../boundary/guest-buffer.js';

/** @throws XenError EFAULT */
export function readGuest<T>(memory: GuestMemory, address: bigint, layout: Layout<T>): T {
  const bytes = new Uint8Array(layout.size);
  memory.copyFrom(address, bytes);
  return decode(layout, bytes);
}

/** @throws XenError EFAULT */
export function writeGuest<T>(memory: GuestMemory, address: bigint, layout: Layout<T>, value: T): void {
  memory.copyTo(address, encode(layout, value));
}

/** Writes one field of a struct at `address` and leaves the others alone. @throws XenError EFAULT */
export function writeGuestField<T>(memory: GuestMemory, address: bigint, field: Field<T>, value: T): void {
  writeGuest(memory, address + BigInt(field.offset), field.layout, value);
}

/** A 32-bit number out of a register: Xen takes `int` and `unsigned int` arguments from the low half. */
export function u32Argument(args: readonly bigint[], index: number): number {
  return Number(BigInt.asUintN(32, args[index] ?? 0n));
}

export function argument(args: readonly bigint[], index: number): bigint {
  return BigInt.asUintN(64, args[index] ?? 0n);
}
