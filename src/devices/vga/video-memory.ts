/**
 * Video memory and who changed it. The guest writes the framebuffer directly, so only Xen knows those pages; what goes
 * through the legacy window or the emulated aperture is noted here.
 *
 * The guest decides where the framebuffer lies in its address space (the BAR) and may choose nonsense: a move that Xen
 * refuses is counted, and the memory stays where it was.
 */
import { PAGE_SHIFT } from '../../abi/ids.js';
import {
  type DeviceModel,
  type DirtyRun,
  GUEST_PAGE_SIZE,
  type GuestMapping,
  XenDeviceError,
} from '../../sdk/device-model.js';

export interface VideoMemory {
  /** All of it, live. */
  readonly bytes: Uint8Array;
  /** The framebuffer's guest-physical address changed; undefined where it has none. */
  place(address: number | undefined): void;
  /** Notes a write by the device itself. */
  markDirty(offset: number, length: number): void;
  /** Pages changed since the last call, ascending and disjoint. */
  collectDirty(): DirtyRun[];
  close(): void;
}

/** Pages that the device itself wrote. */
class PageSet {
  private readonly pages: Uint8Array;

  constructor(nrPages: number) {
    this.pages = new Uint8Array(nrPages);
  }

  add(offset: number, length: number): void {
    if (length <= 0) return;
    this.pages.fill(1, offset >>> PAGE_SHIFT, ((offset + length - 1) >>> PAGE_SHIFT) + 1);
  }

  addRuns(runs: Iterable<DirtyRun>): void {
    for (const run of runs) this.pages.fill(1, run.first, run.first + run.count);
  }

  take(): DirtyRun[] {
    const runs: DirtyRun[] = [];
    for (let first = this.pages.indexOf(1); first >= 0; ) {
      const end = this.pages.indexOf(0, first);
      const past = end < 0 ? this.pages.length : end;
      runs.push({ first, count: past - first });
      first = this.pages.indexOf(1, past);
    }
    this.pages.fill(0);
    return runs;
  }
}

/** Video memory of the device's own, for guests that cannot be given any: every access goes through the device. */
export class PrivateVideoMemory implements VideoMemory {
  readonly bytes: Uint8Array;
  private readonly written: PageSet;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.written = new PageSet(size >>> PAGE_SHIFT);
  }

  place(): void {}

  markDirty(offset: number, length: number): void {
    this.written.add(offset, length);
  }

  collectDirty(): DirtyRun[] {
    return this.written.take();
  }

  close(): void {}
}

/** XEN_DMOP_MEM_CACHEATTR_WB, and the value that removes a pin. */
const CACHE_WRITE_BACK = 6;
const CACHE_UNPIN = 0xffffffff;

/** Video memory in guest frames: populated at a place of its own, moved to where the guest puts the BAR. */
export class GuestVideoMemory implements VideoMemory {
  readonly bytes: Uint8Array;
  /** Moves that Xen refused. */
  nrFailedMoves = 0;
  private readonly mapping: GuestMapping;
  private readonly nrFrames: number;
  private readonly written: PageSet;
  private gfn: bigint;
  private pinned = false;

  /**
   * @param homeGfn where the frames are populated, and where they lie while the BAR has no address
   * @throws XenDeviceError ENOMEM when the domain may not have that much memory
   */
  constructor(
    private readonly model: DeviceModel,
    private readonly homeGfn: bigint,
    size: number,
  ) {
    this.nrFrames = size / GUEST_PAGE_SIZE;
    model.populateMemory(homeGfn, this.nrFrames);
    this.mapping = model.mapGuestMemory(homeGfn, this.nrFrames);
    if (!this.mapping.allMapped) {
      this.mapping.unmap();
      throw new Error('video memory was populated but cannot be mapped');
    }
    this.bytes = this.mapping.bytes;
    this.written = new PageSet(this.nrFrames);
    this.gfn = homeGfn;
  }

  /** Where the frames are now. */
  get currentGfn(): bigint {
    return this.gfn;
  }

  place(address: number | undefined): void {
    const target = address === undefined ? this.homeGfn : BigInt(address) >> BigInt(PAGE_SHIFT);
    if (target === this.gfn) return;
    try {
      this.pin(CACHE_UNPIN);
      this.model.relocateMemory({ firstGfn: this.gfn, nrFrames: this.nrFrames }, target);
      this.gfn = target;
      if (address !== undefined) this.pin(CACHE_WRITE_BACK);
    } catch (error) {
      if (!(error instanceof XenDeviceError)) throw error;
      this.nrFailedMoves++;
    }
  }

  markDirty(offset: number, length: number): void {
    this.written.add(offset, length);
  }

  collectDirty(): DirtyRun[] {
    this.written.addRuns(this.model.trackDirtyVram(this.gfn, this.nrFrames));
    return this.written.take();
  }

  close(): void {
    this.mapping.unmap();
  }

  private pin(type: number): void {
    const isUnpin = type === CACHE_UNPIN;
    if (isUnpin && !this.pinned) return;
    this.model.pinMemoryCacheattr(this.gfn, this.gfn + BigInt(this.nrFrames - 1), type);
    this.pinned = !isUnpin;
  }
}
