/**
 * Which pages of a domain's memory have been written: for migration, every page (`enable`, then `collect`), and for a
 * display, one range of it (`trackVram`). The two are independent.
 *
 * The display's range works through the type of its pages: `ram_logdirty` means clean since the last look, and the
 * guest's first write makes it `ram_rw` again. Writes by a device model through a mapping of its own are not seen; the
 * device model reports them (dm_op modified_memory) where they count, which is for migration.
 *
 * Guest-frame numbers and counts come from device models: any number is harmless.
 *
 * @spec xen:arch/x86/mm/paging.c (log-dirty), xen:arch/x86/mm/hap/hap.c hap_track_dirty_vram
 */

import type { Preemption } from '../boundary/operation.js';
import { XenError } from '../boundary/xen-error.js';
import { P2M_GFN_LIMIT, type P2m } from './p2m.js';

/** Dirty bits are kept for this many pages at a time. */
const CHUNK_PAGES = 32768;

/** Pages looked at between two looks for preemption. */
const STEP = 256;

/** Whoever runs the guest, and knows of writes that haven't been reported page by page. */
export interface WriteSource {
  /** Reports every page written since the last time, through `guestWrote`. */
  flush(): void;
}

interface VramRange {
  readonly first: bigint;
  readonly nr: number;
}

export class LogDirty {
  /** Pages newly marked since the bitmap was last cleaned. */
  dirtyCount = 0;
  /** Writes by the guest that changed a page's type. */
  faultCount = 0;
  source: WriteSource | undefined;
  private chunks: Map<number, Uint8Array> | undefined;
  private vram: VramRange | undefined;

  constructor(private readonly p2m: P2m) {}

  get isEnabled(): boolean {
    return this.chunks !== undefined;
  }

  /** @param hasClaimedPages pages whose writes go to an ioreq server, and so would be missed. @throws XenError EINVAL, EBUSY */
  enable(hasClaimedPages: boolean): void {
    if (this.chunks) throw new XenError('EINVAL', 'log-dirty is enabled already');
    if (hasClaimedPages) throw new XenError('EBUSY', 'pages of type ioreq_server are left');
    this.source?.flush(); // what was written before doesn't count
    this.chunks = new Map();
    this.dirtyCount = 0;
    this.faultCount = 0;
  }

  disable(): void {
    this.chunks = undefined;
  }

  /** A page was written, by whoever. */
  markDirty(gfn: number): void {
    if (!this.chunks) return;
    const index = Math.floor(gfn / CHUNK_PAGES);
    let chunk = this.chunks.get(index);
    if (!chunk) {
      chunk = new Uint8Array(CHUNK_PAGES / 8);
      this.chunks.set(index, chunk);
    }
    const bit = gfn % CHUNK_PAGES;
    const mask = 1 << (bit & 7);
    if (chunk[bit >>> 3]! & mask) return;
    chunk[bit >>> 3]! |= mask;
    this.dirtyCount++;
  }

  /** The guest wrote a page. */
  guestWrote(gfn: number): void {
    if (this.p2m.changeType(gfn, 'ram_logdirty', 'ram_rw')) this.faultCount++;
    this.markDirty(gfn);
  }

  /**
   * Copies dirty bits of 8-page groups from `firstGfn` (a multiple of 8) on into `bitmap`, zeros where nothing was marked.
   * With `clean` they are cleared.
   */
  copyBits(firstGfn: number, bitmap: Uint8Array, clean: boolean): void {
    let done = 0;
    while (done < bitmap.length) {
      const gfn = firstGfn + done * 8;
      const chunk = this.chunks?.get(Math.floor(gfn / CHUNK_PAGES));
      const at = (gfn % CHUNK_PAGES) >>> 3;
      const length = Math.min(CHUNK_PAGES / 8 - at, bitmap.length - done);
      const part = bitmap.subarray(done, done + length);
      if (chunk) {
        const bits = chunk.subarray(at, at + length);
        part.set(bits);
        if (clean) bits.fill(0);
      } else {
        part.fill(0);
      }
      done += length;
    }
  }

  /** After a clean: counting starts again. */
  resetCounts(): void {
    this.dirtyCount = 0;
    this.faultCount = 0;
  }

  /**
   * Tracks `nr` pages from `first` for a display, or looks at what was written since the last look where it does so
   * already. A range that is new counts as written as a whole. 0 pages end the tracking.
   */
  trackVram(first: bigint, nr: number): VramScan {
    const old = this.vram;
    const isSame = old !== undefined && old.first === first && old.nr === nr;
    if (!isSame) this.vram = nr === 0 ? undefined : { first, nr };
    else this.source?.flush();
    return new VramScan(this.p2m, isSame ? undefined : old, first, nr, isSame, this.vram, () => this.vram);
  }
}

/** One look at a display's memory, in bounded steps. */
export class VramScan {
  /** A bit a page, set where it was written; the bits above the last page of a new range are set, too. */
  readonly bitmap: Uint8Array;
  private next = 0;
  private isReleased: boolean;

  constructor(
    private readonly p2m: P2m,
    private readonly old: VramRange | undefined,
    private readonly first: bigint,
    private readonly nr: number,
    private readonly isLook: boolean,
    private readonly mine: VramRange | undefined,
    private readonly current: () => VramRange | undefined,
  ) {
    this.bitmap = new Uint8Array(Math.ceil(nr / 8));
    if (!isLook) this.bitmap.fill(0xff);
    this.isReleased = old === undefined;
  }

  /** @returns false when preempted: call again */
  step(preemption: Preemption): boolean {
    if (this.current() !== this.mine) {
      // Another call has changed the range between two steps: whatever is left counts as written.
      this.bitmap.fill(0xff, this.isLook ? this.next >>> 3 : 0);
      return true;
    }
    if (!this.isReleased) {
      const { first, nr } = this.old as VramRange;
      if (!this.walk(first, nr, preemption, (gfn) => this.p2m.changeType(gfn, 'ram_logdirty', 'ram_rw'))) return false;
      this.isReleased = true;
      this.next = 0;
    }
    return this.walk(this.first, this.nr, preemption, (gfn, i) => {
      if (this.p2m.changeType(gfn, 'ram_rw', 'ram_logdirty') && this.isLook) this.bitmap[i >>> 3]! |= 1 << (i & 7);
    });
  }

  private walk(first: bigint, nr: number, preemption: Preemption, visit: (gfn: number, i: number) => void): boolean {
    if (first >= BigInt(P2M_GFN_LIMIT)) return true; // no memory up there
    const base = Number(first);
    while (this.next < nr) {
      visit(base + this.next, this.next);
      this.next++;
      if (this.next % STEP === 0 && this.next < nr && preemption.due()) return false;
    }
    return true;
  }
}
