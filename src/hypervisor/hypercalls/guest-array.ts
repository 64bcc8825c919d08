/**
 * An array of 64-bit numbers in the caller's memory, read in order: each element once, many elements a copy. Where the
 * array stops being readable, the elements before that point still are.
 */
import type { GuestMemory } from '../../boundary/guest-buffer.js';
import { XenError } from '../../boundary/xen-error.js';

const WINDOW = 64;
const ELEMENT_SIZE = 8;

export class GuestArray {
  private readonly window = new Uint8Array(WINDOW * ELEMENT_SIZE);
  private readonly view = new DataView(this.window.buffer);
  private first = 0;
  private count = 0;

  /** @param length elements; a bound that the caller of the hypercall chose, nothing is allocated for it */
  constructor(
    private readonly memory: GuestMemory,
    private readonly address: bigint,
    private readonly length: number,
  ) {}

  /** Indices must not go down. @throws XenError EFAULT */
  read(index: number): bigint {
    if (index < this.first || index >= this.first + this.count) this.fill(index);
    return this.view.getBigUint64((index - this.first) * ELEMENT_SIZE, true);
  }

  /** @throws XenError EFAULT */
  write(index: number, value: bigint): void {
    const bytes = new Uint8Array(ELEMENT_SIZE);
    new DataView(bytes.buffer).setBigUint64(0, value, true);
    this.memory.copyTo(this.addressOf(index), bytes);
  }

  private fill(index: number): void {
    this.count = 0;
    this.first = index;
    const wanted = Math.min(WINDOW, this.length - index);
    this.count = this.copied(index, wanted) ? wanted : this.copyOne(index);
  }

  private copied(index: number, count: number): boolean {
    try {
      this.memory.copyFrom(this.addressOf(index), this.window.subarray(0, count * ELEMENT_SIZE));
      return true;
    } catch (error) {
      if (error instanceof XenError) return false;
      throw error;
    }
  }

  private copyOne(index: number): number {
    this.memory.copyFrom(this.addressOf(index), this.window.subarray(0, ELEMENT_SIZE));
    return 1;
  }

  private addressOf(index: number): bigint {
    return BigInt.asUintN(64, this.address + BigInt(index * ELEMENT_SIZE));
  }
}
