/**
 * A set of small integers that finds its lowest member, or the lowest from some index on: which event channel ports,
 * domids or frames are free, which domids are in use. Every operation costs a handful of word operations whatever the
 * size: a bitmap of the members, a bitmap of that bitmap's non-empty words above it, and so on until one word is left.
 *
 * Trusts its callers: they check indices; adding twice or deleting what isn't there is a bug of ours.
 */

const WORD_SHIFT = 5;
const WORD_BITS = 1 << WORD_SHIFT;
const WORD_MASK = WORD_BITS - 1;

export class IndexSet {
  /** levels[0] has one bit an index; each level above, one bit a word of the level below. */
  private levels: Uint32Array[];
  private nrMembers = 0;
  private nrIndices = 0;

  /** @param size indices 0 to size-1 may be members; with `full`, all of them are */
  constructor(size: number, full: 'full' | 'empty') {
    if (full === 'full') {
      this.levels = [];
      this.growFull(size);
    } else {
      this.levels = emptyLevels(size);
      this.nrIndices = size;
    }
  }

  /** One more than the highest index there can be. */
  get limit(): number {
    return this.nrIndices;
  }

  /** How many members there are. */
  get count(): number {
    return this.nrMembers;
  }

  has(index: number): boolean {
    return (((this.levels[0]?.[index >>> WORD_SHIFT] ?? 0) >>> (index & WORD_MASK)) & 1) === 1;
  }

  /** Makes indices up to `limit`-1 possible, and members. */
  growFull(limit: number): void {
    const first = this.nrIndices;
    if (limit <= first) return;
    const old = this.levels[0];
    this.levels = emptyLevels(limit);
    const words = this.levels[0]!;
    if (old) words.set(old);
    for (let i = first; i < limit; i++) words[i >>> WORD_SHIFT]! |= 1 << (i & WORD_MASK);
    for (let level = 1; level < this.levels.length; level++) {
      const below = this.levels[level - 1]!;
      const above = this.levels[level]!;
      for (let i = 0; i < below.length; i++) if (below[i] !== 0) above[i >>> WORD_SHIFT]! |= 1 << (i & WORD_MASK);
    }
    this.nrMembers += limit - first;
    this.nrIndices = limit;
  }

  /** The lowest member at or above `from`, -1 when there is none. */
  lowestFrom(from: number): number {
    let index = from;
    for (let level = 0; level < this.levels.length; level++) {
      const words = this.levels[level]!;
      const at = index >>> WORD_SHIFT;
      if (at >= words.length) return -1;
      const word = words[at]! & (-1 << (index & WORD_MASK));
      if (word !== 0) return this.descend(level, (at << WORD_SHIFT) + lowestBit(word));
      index = at + 1;
    }
    return -1;
  }

  /** Deletes the lowest member and returns it, -1 when there is none. */
  takeLowest(): number {
    const index = this.lowestFrom(0);
    if (index >= 0) this.delete(index);
    return index;
  }

  add(index: number): void {
    if (index < 0 || index >= this.nrIndices || this.has(index)) throw new Error(`index ${index} cannot be added`);
    this.nrMembers++;
    let at = index;
    for (const words of this.levels) {
      const before = words[at >>> WORD_SHIFT]!;
      words[at >>> WORD_SHIFT] = before | (1 << (at & WORD_MASK));
      if (before !== 0) return;
      at >>>= WORD_SHIFT;
    }
  }

  delete(index: number): void {
    if (!this.has(index)) throw new Error(`index ${index} is not in the set`);
    this.nrMembers--;
    let at = index;
    for (const words of this.levels) {
      const after = words[at >>> WORD_SHIFT]! & ~(1 << (at & WORD_MASK));
      words[at >>> WORD_SHIFT] = after;
      if (after !== 0) return;
      at >>>= WORD_SHIFT;
    }
  }

  /** From a bit of a level down to the lowest member below it. */
  private descend(level: number, bit: number): number {
    let index = bit;
    for (let below = level - 1; below >= 0; below--) {
      index = (index << WORD_SHIFT) + lowestBit(this.levels[below]![index]!);
    }
    return index;
  }
}

function lowestBit(word: number): number {
  return 31 - Math.clz32(word & -word);
}

function emptyLevels(size: number): Uint32Array[] {
  const levels: Uint32Array[] = [];
  let length = size;
  do {
    length = Math.max(1, Math.ceil(length / WORD_BITS));
    levels.push(new Uint32Array(length));
  } while (length > 1);
  return levels;
}
