/**
 * The machine's memory: frames come in extents, each a piece of memory that can be shared with other processes as a
 * whole. The host backs an extent with a sealed memory file, a test with an ArrayBuffer. An extent belongs to one
 * owner (a domain, an ioreq server) for its whole life, so handing it to a process that may map one of its frames
 * gives away nothing of anybody else's.
 */
import { PAGE_SHIFT, PAGE_SIZE } from '../abi/ids.js';
import type { Extent } from '../boundary/extent.js';

export type { Extent };

/** Where extents come from. May throw when the machine is out of memory. */
export interface ExtentSource {
  allocate(nrFrames: number): Extent;
}

/** mfns are handed out in slots of this many frames, so that finding a frame's extent is one array access. */
const SLOT_SHIFT = 12;

/** A frame's place: which extent, and which frame of it. */
export interface FramePlace {
  readonly extent: Extent;
  readonly frame: number;
}

export class MachineMemory {
  private readonly slots: (Extent | undefined)[] = [undefined]; // slot 0 stays empty: mfn 0 is never valid
  private readonly firstSlot = new Map<Extent, number>();
  private readonly freeSlots = new Map<number, number[]>();

  constructor(private readonly source: ExtentSource) {}

  /** @returns the extent and the mfn of its first frame; its other frames follow it. */
  allocate(nrFrames: number): { extent: Extent; baseMfn: number } {
    const extent = this.source.allocate(nrFrames);
    const nrSlots = Math.ceil(nrFrames / (1 << SLOT_SHIFT));
    const slot = this.freeSlots.get(nrSlots)?.pop() ?? this.slots.length;
    for (let i = 0; i < nrSlots; i++) this.slots[slot + i] = extent;
    this.firstSlot.set(extent, slot);
    return { extent, baseMfn: slot << SLOT_SHIFT };
  }

  release(extent: Extent): void {
    const slot = this.firstSlot.get(extent);
    if (slot === undefined) throw new Error('extent released twice');
    const nrSlots = Math.ceil(extent.nrFrames / (1 << SLOT_SHIFT));
    for (let i = 0; i < nrSlots; i++) this.slots[slot + i] = undefined;
    this.firstSlot.delete(extent);
    const free = this.freeSlots.get(nrSlots);
    if (free) free.push(slot);
    else this.freeSlots.set(nrSlots, [slot]);
    extent.release();
  }

  /** Where a frame lies; an mfn that is not allocated is a bug of ours. */
  place(mfn: number): FramePlace {
    const slot = mfn >>> SLOT_SHIFT;
    const extent = this.slots[slot];
    if (!extent) throw new Error(`mfn ${mfn} is not allocated`);
    return { extent, frame: mfn - ((this.firstSlot.get(extent) as number) << SLOT_SHIFT) };
  }

  /** The 4096 bytes of a frame, as the host sees them. Other processes may write them at any time. */
  frame(mfn: number): Uint8Array {
    const { extent, frame } = this.place(mfn);
    return extent.bytes.subarray(frame << PAGE_SHIFT, (frame << PAGE_SHIFT) + PAGE_SIZE);
  }

  /** Number of live extents, for leak checks. */
  get nrExtents(): number {
    return this.firstSlot.size;
  }
}
