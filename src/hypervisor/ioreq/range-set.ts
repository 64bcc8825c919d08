/**
 * A set of 64-bit numbers kept as disjoint, non-adjacent ranges: which ports, addresses or PCI devices an ioreq server
 * claims. Sorted, so every question costs a binary search; bounded, because whoever adds ranges is a device model.
 *
 * Bounds come from guests: callers have checked start <= end, and both below 2^64.
 *
 * @spec xen:common/rangeset.c
 */
import { XenError } from '../../boundary/xen-error.js';

/** A request's or a server's range; `end` belongs to it. */
export interface Range {
  readonly start: bigint;
  readonly end: bigint;
}

export class RangeSet {
  // Two arrays and not one of objects: the search touches only the starts. Typed, because moving their contents is then
  // one copy; they grow with what is in use.
  private starts = new BigUint64Array(8);
  private ends = new BigUint64Array(8);
  private count = 0;

  constructor(private readonly limit: number) {}

  get size(): number {
    return this.count;
  }

  /** All ranges in ascending order. */
  *[Symbol.iterator](): Generator<Range> {
    for (let i = 0; i < this.count; i++) yield { start: this.starts[i]!, end: this.ends[i]! };
  }

  /** Whether all of it is in the set. */
  contains(start: bigint, end: bigint): boolean {
    const i = this.find(start);
    return i >= 0 && this.ends[i]! >= end;
  }

  /**
   * Adds a range, unless any of it is in the set already. It merges with its neighbours where it touches them.
   * @returns whether it was added
   * @throws XenError ENOMEM where the set is full. A range that touches only its upper neighbour needs room of its own
   * for a moment, as in Xen; one that touches its lower neighbour does not.
   */
  add(start: bigint, end: bigint): boolean {
    const below = this.find(start);
    const above = below + 1;
    const hasAbove = above < this.count;
    if (below >= 0 && this.ends[below]! >= start) return false;
    if (hasAbove && this.starts[above]! <= end) return false;
    const touchesBelow = below >= 0 && this.ends[below]! + 1n === start;
    if (!touchesBelow && this.count >= this.limit) throw new XenError('ENOMEM', `over ${this.limit} ranges`);
    const touchesAbove = hasAbove && end + 1n === this.starts[above]!;
    if (touchesBelow && touchesAbove) {
      this.ends[below] = this.ends[above]!;
      this.removeAt(above);
    } else if (touchesBelow) {
      this.ends[below] = end;
    } else if (touchesAbove) {
      this.starts[above] = start;
    } else {
      this.insertAt(above, start, end);
    }
    return true;
  }

  /**
   * Removes a range, if all of it is in the set.
   * @returns whether it was removed
   * @throws XenError ENOMEM where that would split a range and the set is full
   */
  remove(start: bigint, end: bigint): boolean {
    const i = this.find(start);
    if (i < 0 || this.ends[i]! < end) return false;
    const first = this.starts[i]!;
    const last = this.ends[i]!;
    if (first === start && last === end) {
      this.removeAt(i);
    } else if (first === start) {
      this.starts[i] = end + 1n;
    } else if (last === end) {
      this.ends[i] = start - 1n;
    } else {
      if (this.count >= this.limit) throw new XenError('ENOMEM', `over ${this.limit} ranges`);
      this.ends[i] = start - 1n;
      this.insertAt(i + 1, end + 1n, last);
    }
    return true;
  }

  /** Index of the highest range that starts at or below `value`, -1 when there is none. */
  private find(value: bigint): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.starts[middle]! <= value) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  private insertAt(i: number, start: bigint, end: bigint): void {
    if (this.count === this.starts.length) this.grow();
    this.starts.copyWithin(i + 1, i, this.count);
    this.ends.copyWithin(i + 1, i, this.count);
    this.starts[i] = start;
    this.ends[i] = end;
    this.count++;
  }

  private removeAt(i: number): void {
    this.starts.copyWithin(i, i + 1, this.count);
    this.ends.copyWithin(i, i + 1, this.count);
    this.count--;
  }

  private grow(): void {
    const { starts, ends } = this;
    this.starts = new BigUint64Array(starts.length * 2);
    this.ends = new BigUint64Array(ends.length * 2);
    this.starts.set(starts);
    this.ends.set(ends);
  }
}
