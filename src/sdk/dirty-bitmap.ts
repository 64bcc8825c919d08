/**
 * Which of a run of guest frames changed: the answer to track_dirty_vram, one bit a frame, lowest bit first. Bits
 * beyond the last frame are ignored: Xen fills whole bytes.
 */

/** Consecutive frames, counted from the bitmap's first. */
export interface DirtyRun {
  readonly first: number;
  readonly count: number;
}

export class DirtyBitmap implements Iterable<DirtyRun> {
  /** @param bits at least nrFrames bits */
  constructor(
    readonly firstGfn: bigint,
    readonly nrFrames: number,
    private readonly bits: Uint8Array,
  ) {}

  /** @param index counts from `firstGfn`; false outside the range */
  isDirty(index: number): boolean {
    if (index < 0 || index >= this.nrFrames) return false;
    return (((this.bits[index >>> 3] ?? 0) >>> (index & 7)) & 1) === 1;
  }

  /** Dirty frames as runs, ascending. */
  *[Symbol.iterator](): Iterator<DirtyRun> {
    let first = -1;
    for (let i = 0; i < this.nrFrames; i++) {
      if (first < 0 && (i & 7) === 0 && this.bits[i >>> 3] === 0) {
        i += 7; // eight clean frames at once
        continue;
      }
      if (this.isDirty(i)) {
        if (first < 0) first = i;
      } else if (first >= 0) {
        yield { first, count: i - first };
        first = -1;
      }
    }
    if (first >= 0) yield { first, count: this.nrFrames - first };
  }

  /** Number of dirty frames. */
  get nrDirty(): number {
    let n = 0;
    for (const run of this) n += run.count;
    return n;
  }
}
