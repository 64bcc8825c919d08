/**
 * The frames a domain owns, and how many it may own. Frames come from extents that belong to this domain alone for their
 * whole life: a frame never changes owner, so a process that keeps one mapped sees nothing of anybody else's, ever.
 * A frame that was in use before is zeroed when it is handed out again, not when it is freed: until then whoever has it
 * mapped could still write to it.
 *
 * Counts come from toolstacks and guests; the limits here bound them.
 *
 * @spec xen:common/page_alloc.c assign_pages (tot_pages, max_pages)
 */

import type { Preemption } from '../boundary/operation.js';
import { XenError } from '../boundary/xen-error.js';
import { IndexSet } from './index-set.js';
import type { Extent, MachineMemory } from './machine-memory.js';

/** Extents come in multiples of this: tables of frames are as coarse, and untouched memory costs nothing. */
const EXTENT_GRANULE = 4096;
/** The largest extent: 256 MiB. */
const EXTENT_MAX = 65536;

/** max_pages before DOMCTL max_mem, and its largest value. @spec xen:common/domctl.c XEN_DOMCTL_max_mem */
const MAX_PAGES_LIMIT = 0xffffffff;

interface OwnedExtent {
  readonly extent: Extent;
  readonly baseMfn: number;
  readonly free: IndexSet;
  /** One bit a frame: it has been in use, so it needs zeroing before the next use. */
  readonly used: Uint32Array;
}

export class DomainMemory {
  private readonly extents: OwnedExtent[] = [];
  private readonly byExtent = new Map<Extent, OwnedExtent>();
  /** Extents that have a free frame; the last is used first. */
  private readonly withSpace: OwnedExtent[] = [];
  private nrFreeFrames = 0;
  private nrReserved = 0;
  private limit = 0;
  private owned = 0;

  constructor(private readonly machine: MachineMemory) {}

  /** Frames that the domain owns, mapped in its p2m or not (Xen's tot_pages). */
  get totPages(): number {
    return this.owned;
  }

  get maxPages(): number {
    return this.limit;
  }

  /** DOMCTL max_mem. A limit below what is owned only stops further growth. */
  set maxPages(pages: number) {
    this.limit = Math.min(pages, MAX_PAGES_LIMIT);
  }

  /** Extents held, for leak checks. */
  get nrExtents(): number {
    return this.extents.length;
  }

  /**
   * Sets `count` frames aside, to be taken one by one with `take`: they count as owned from here on.
   * @throws XenError ENOMEM above max_pages, or where the machine has no more; nothing is reserved then
   */
  reserve(count: number): void {
    if (this.owned + count > this.limit) throw new XenError('ENOMEM', `over-allocation: ${this.limit} pages allowed`);
    while (this.nrFreeFrames - this.nrReserved < count) this.addExtent(count - this.nrFreeFrames + this.nrReserved);
    this.nrReserved += count;
    this.owned += count;
  }

  /** Gives back reserved frames that won't be taken. */
  unreserve(count: number): void {
    if (count > this.nrReserved) throw new Error('unreserving what is not reserved');
    this.nrReserved -= count;
    this.owned -= count;
  }

  /** Takes one reserved frame: zeroed, the lowest of its extent, so that runs stay together. @returns its mfn */
  take(): number {
    if (this.nrReserved === 0) throw new Error('taking a frame that is not reserved');
    const owner = this.withSpace[this.withSpace.length - 1]!;
    const frame = owner.free.takeLowest();
    if (owner.free.count === 0) this.withSpace.pop();
    this.nrFreeFrames--;
    this.nrReserved--;
    const word = frame >>> 5;
    const bit = 1 << (frame & 31);
    const mfn = owner.baseMfn + frame;
    if (owner.used[word]! & bit) this.machine.frame(mfn).fill(0);
    else owner.used[word]! |= bit;
    return mfn;
  }

  /** One zeroed frame. @throws XenError ENOMEM */
  allocate(): number {
    this.reserve(1);
    return this.take();
  }

  /** Takes a frame back; it stays in the domain's own extent until the domain asks for one again. */
  free(mfn: number): void {
    const { extent, frame } = this.machine.place(mfn);
    const owner = this.byExtent.get(extent);
    if (!owner) throw new Error(`mfn ${mfn} belongs to somebody else`);
    owner.free.add(frame);
    if (owner.free.count === 1) this.withSpace.push(owner);
    this.nrFreeFrames++;
    this.owned--;
  }

  /** Lets go of everything, for a dying domain. @returns false when preempted: call again */
  relinquish(preemption: Preemption): boolean {
    this.withSpace.length = 0;
    this.byExtent.clear();
    for (;;) {
      const owner = this.extents.pop();
      if (!owner) break;
      this.machine.release(owner.extent);
      if (this.extents.length > 0 && preemption.due()) return false;
    }
    this.nrFreeFrames = 0;
    this.nrReserved = 0;
    this.owned = 0;
    return true;
  }

  /** An extent for at least some of `wanted` more frames: as large as the rest of what the domain may own. */
  private addExtent(wanted: number): void {
    const nrFramesHeld = this.owned - this.nrReserved + this.nrFreeFrames;
    const rest = Math.max(this.limit - nrFramesHeld, wanted);
    const nrFrames = Math.min(Math.ceil(rest / EXTENT_GRANULE) * EXTENT_GRANULE, EXTENT_MAX);
    const { extent, baseMfn } = this.machine.allocate(nrFrames);
    const owner: OwnedExtent = {
      extent,
      baseMfn,
      free: new IndexSet(nrFrames, 'full'),
      used: new Uint32Array(Math.ceil(nrFrames / 32)),
    };
    this.extents.push(owner);
    this.byExtent.set(extent, owner);
    this.withSpace.push(owner);
    this.nrFreeFrames += nrFrames;
  }
}
