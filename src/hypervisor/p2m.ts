/**
 * A domain's physical-to-machine map: gfn to mfn and type. Sparse: memory is spent on chunks of 512 gfns (2 MiB of
 * guest memory) that hold at least one page, and given back with the last of them.
 *
 * gfns come from guests and toolstacks, already exact numbers; one that no page table could hold reads as a hole and
 * cannot be mapped.
 *
 * @spec xen:arch/x86/mm/p2m.c
 */

export const P2M_INVALID = -1;

/** One more than the highest gfn: a four-level table maps 48 bits of guest-physical address. */
export const P2M_GFN_LIMIT = 2 ** 36;

/** @spec xen p2m types, as far as they can be observed */
export type P2mType = 'ram_rw' | 'ram_ro' | 'ram_logdirty' | 'mmio_dm' | 'ioreq_server';

const TYPES: readonly P2mType[] = ['mmio_dm', 'ram_rw', 'ram_ro', 'ram_logdirty', 'ioreq_server'];
const TYPE_CODES = new Map<P2mType, number>(TYPES.map((type, code) => [type, code]));

const CHUNK_SIZE = 512;

/** mfn 0 is never valid, so 0 marks a hole. */
interface Chunk {
  readonly mfns: Uint32Array;
  readonly types: Uint8Array;
  nrMapped: number;
}

export class P2m {
  private readonly chunks = new Map<number, Chunk>();
  private highestGfn = -1;
  private nrEntries = 0;
  // Accesses come in runs: the chunk of the last one is usually that of the next.
  private lastIndex = -1;
  private lastChunk: Chunk | undefined;

  /** Highest gfn ever mapped (Xen's max_mapped_pfn), -1 when none. */
  get maxMappedGfn(): number {
    return this.highestGfn;
  }

  /** Mapped gfns. */
  get nrMapped(): number {
    return this.nrEntries;
  }

  /** mfn at gfn, or P2M_INVALID for a hole. */
  mfn(gfn: number): number {
    return this.chunkOf(gfn)?.mfns[gfn % CHUNK_SIZE] || P2M_INVALID;
  }

  /** Type at gfn; a hole is `mmio_dm`. */
  type(gfn: number): P2mType {
    return TYPES[this.chunkOf(gfn)?.types[gfn % CHUNK_SIZE] ?? 0] as P2mType;
  }

  set(gfn: number, mfn: number, type: P2mType): void {
    if (!isGfn(gfn) || mfn <= 0 || type === 'mmio_dm')
      throw new Error(`cannot map gfn ${gfn} to mfn ${mfn} as ${type}`);
    const chunk = this.chunkOf(gfn) ?? this.addChunk(gfn);
    const slot = gfn % CHUNK_SIZE;
    if (chunk.mfns[slot] === 0) {
      chunk.nrMapped++;
      this.nrEntries++;
    }
    chunk.mfns[slot] = mfn;
    chunk.types[slot] = TYPE_CODES.get(type) as number;
    if (gfn > this.highestGfn) this.highestGfn = gfn;
  }

  /** Removes the entry and returns its mfn (P2M_INVALID for a hole). */
  remove(gfn: number): number {
    const chunk = this.chunkOf(gfn);
    const slot = gfn % CHUNK_SIZE;
    const mfn = chunk?.mfns[slot];
    if (!chunk || !mfn) return P2M_INVALID;
    chunk.mfns[slot] = 0;
    chunk.types[slot] = 0;
    this.nrEntries--;
    if (--chunk.nrMapped === 0) {
      this.chunks.delete(Math.floor(gfn / CHUNK_SIZE));
      this.lastIndex = -1;
      this.lastChunk = undefined;
    }
    return mfn;
  }

  /** Changes the type where it is `from`; false where it is something else. */
  changeType(gfn: number, from: P2mType, to: P2mType): boolean {
    const chunk = this.chunkOf(gfn);
    const slot = gfn % CHUNK_SIZE;
    if (!chunk || chunk.mfns[slot] === 0 || chunk.types[slot] !== TYPE_CODES.get(from)) return false;
    if (to === 'mmio_dm') throw new Error('a mapped page never becomes a hole by a change of type');
    chunk.types[slot] = TYPE_CODES.get(to) as number;
    return true;
  }

  /**
   * Every mapped gfn, a chunk at a time, in no particular order. The map may be changed between two chunks: what is
   * added may or may not be seen.
   */
  *mappedGfns(): Generator<number> {
    for (const [index, chunk] of this.chunks) {
      for (let slot = 0; slot < CHUNK_SIZE; slot++) if (chunk.mfns[slot] !== 0) yield index * CHUNK_SIZE + slot;
    }
  }

  /** Forgets one chunk of mappings and says whether any was left: a dying domain's map goes in bounded steps. */
  dropChunk(): boolean {
    for (const [index, chunk] of this.chunks) {
      this.chunks.delete(index);
      this.nrEntries -= chunk.nrMapped;
      this.lastIndex = -1;
      this.lastChunk = undefined;
      return true;
    }
    return false;
  }

  private chunkOf(gfn: number): Chunk | undefined {
    const index = Math.floor(gfn / CHUNK_SIZE);
    if (index !== this.lastIndex) {
      this.lastIndex = index;
      this.lastChunk = this.chunks.get(index);
    }
    return this.lastChunk;
  }

  private addChunk(gfn: number): Chunk {
    const chunk = { mfns: new Uint32Array(CHUNK_SIZE), types: new Uint8Array(CHUNK_SIZE), nrMapped: 0 };
    const index = Math.floor(gfn / CHUNK_SIZE);
    this.chunks.set(index, chunk);
    this.lastIndex = index;
    this.lastChunk = chunk;
    return chunk;
  }
}

function isGfn(gfn: number): boolean {
  return Number.isInteger(gfn) && gfn >= 0 && gfn < P2M_GFN_LIMIT;
}
