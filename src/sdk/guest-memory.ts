/**
 * Guest memory as a device model sees it: foreign mappings, and a small cache of them for copying data to and from
 * guest-physical addresses. A mapping stays on the memory it was made for, so the cache is dropped whenever the guest's
 * memory map may have changed (an invalidate request, a relocation).
 *
 * The guest can change the contents at any time: copy once, then look.
 */
import { PAGE_SHIFT, PAGE_SIZE } from '../abi/ids.js';
import type { MappedMemory, PrivcmdFile } from './xen-devices.js';

const OFFSET_MASK = BigInt(PAGE_SIZE - 1);

/** Consecutive guest frames, mapped. */
export class GuestMapping {
  constructor(
    readonly firstGfn: bigint,
    readonly nrFrames: number,
    private readonly memory: MappedMemory,
    private readonly errors: Int32Array,
  ) {}

  /** Positive errno of a frame (counted from the first) that could not be mapped; 0 for a mapped one. */
  errno(frame: number): number {
    return Math.abs(this.errors[frame] ?? 0);
  }

  get allMapped(): boolean {
    return this.errors.every((e) => e === 0);
  }

  /** The live bytes, `nrFrames` * 4096. Frames with an errno must not be touched: the process would die. */
  get bytes(): Uint8Array {
    return this.memory.bytes;
  }

  unmap(): void {
    this.memory.unmap();
  }
}

/** Maps `nrFrames` frames from `firstGfn`; single frames may fail, see `GuestMapping.errno`. */
export function mapGuestFrames(
  privcmd: PrivcmdFile,
  domid: number,
  firstGfn: bigint,
  nrFrames: number,
  writable: boolean,
): GuestMapping {
  const gfns = Array.from({ length: nrFrames }, (_, i) => firstGfn + BigInt(i));
  const { memory, errors } = privcmd.mmapBatch(domid, gfns, { writable });
  return new GuestMapping(firstGfn, nrFrames, memory, errors);
}

/** Pages kept mapped; the oldest goes first. */
const CACHE_PAGES = 64;

export class GuestPhysicalMemory {
  private readonly pages = new Map<bigint, GuestMapping>();

  constructor(
    private readonly privcmd: PrivcmdFile,
    private readonly domid: number,
  ) {}

  /** Copies from guest memory. @returns false where any of it is not there; `into` is then partly filled */
  read(address: bigint, into: Uint8Array): boolean {
    return this.copy(address, into, (page, buffer) => buffer.set(page));
  }

  /** Copies into guest memory. @returns false where any of it is not there; the rest may have been written */
  write(address: bigint, from: Uint8Array): boolean {
    return this.copy(address, from, (page, buffer) => page.set(buffer));
  }

  /** Forgets every mapping. */
  invalidate(): void {
    for (const mapping of this.pages.values()) mapping.unmap();
    this.pages.clear();
  }

  private copy(address: bigint, buffer: Uint8Array, move: (page: Uint8Array, buffer: Uint8Array) => void): boolean {
    let at = address;
    for (let done = 0; done < buffer.length; ) {
      const offset = Number(at & OFFSET_MASK);
      const length = Math.min(buffer.length - done, PAGE_SIZE - offset);
      const page = this.page(at >> BigInt(PAGE_SHIFT));
      if (!page) return false;
      move(page.bytes.subarray(offset, offset + length), buffer.subarray(done, done + length));
      done += length;
      at += BigInt(length);
    }
    return true;
  }

  private page(gfn: bigint): GuestMapping | undefined {
    const cached = this.pages.get(gfn);
    if (cached) return cached;
    const mapping = mapGuestFrames(this.privcmd, this.domid, gfn, 1, true);
    if (!mapping.allMapped) {
      mapping.unmap();
      return undefined;
    }
    if (this.pages.size >= CACHE_PAGES) {
      const [oldest] = this.pages.keys();
      this.pages.get(oldest as bigint)?.unmap();
      this.pages.delete(oldest as bigint);
    }
    this.pages.set(gfn, mapping);
    return mapping;
  }
}
