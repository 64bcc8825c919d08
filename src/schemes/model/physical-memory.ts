/**
 * Frames of the modelled machine: who owns each, and its bytes. Freed frames are handed out again, last freed first, as
 * a busy machine would sooner or later.
 */
import { PAGE_SIZE } from '../../abi/ids.js';
import type { Random } from './random.js';

/** Who a frame belongs to. `attacker` and `other` are processes of dom0, `victim` is another domain. */
export type Owner = 'kernel' | 'attacker' | 'other' | 'victim' | 'free';

export interface Frame {
  readonly pfn: number;
  owner: Owner;
  /** What it holds, for the report. */
  label: string;
  readonly bytes: Uint8Array;
  /** What the bytes were when it was handed out: a frame of anybody but the attacker has to stay that way. */
  original: Uint8Array | undefined;
  /** Calls in progress that have it pinned. It is not handed out again before they end. */
  pins: number;
}

export class PhysicalMemory {
  readonly frames = new Map<number, Frame>();
  private readonly freed: number[] = [];
  private readonly waiting = new Set<Frame>();
  private nextPfn: number;

  constructor(
    private readonly random: Random,
    private readonly isFragmented: boolean,
  ) {
    this.nextPfn = 0x100 + random.below(0x1000);
  }

  /** A frame filled with its owner's random bytes; an attacker's is zeroed. */
  allocate(owner: Owner, label: string): Frame {
    const reused = this.freed.pop();
    const pfn = reused ?? this.nextPfn;
    if (reused === undefined) this.nextPfn += this.isFragmented ? 1 + this.random.below(5) : 1;
    return this.place(pfn, owner, label);
  }

  /** The frame right behind another, where it is free. */
  allocateBehind(frame: Frame, owner: Owner, label: string): Frame {
    if (this.frames.has(frame.pfn + 1)) throw new Error(`frame ${frame.pfn + 1} is taken`);
    this.nextPfn = Math.max(this.nextPfn, frame.pfn + 2);
    return this.place(frame.pfn + 1, owner, label);
  }

  /** A pinned frame stays its owner's until it is unpinned. */
  free(frame: Frame): void {
    if (frame.pins > 0) {
      this.waiting.add(frame);
      return;
    }
    frame.owner = 'free';
    frame.label = `free, was ${frame.label}`;
    this.freed.push(frame.pfn);
  }

  unpin(frame: Frame): void {
    frame.pins--;
    if (frame.pins === 0 && this.waiting.delete(frame)) this.free(frame);
  }

  private place(pfn: number, owner: Owner, label: string): Frame {
    const bytes = this.frames.get(pfn)?.bytes ?? new Uint8Array(PAGE_SIZE);
    if (owner === 'attacker') bytes.fill(0);
    else fillWithMark(bytes, this.random);
    const original = owner === 'attacker' ? undefined : bytes.slice();
    const frame: Frame = { pfn, owner, label, bytes, original, pins: 0 };
    this.frames.set(pfn, frame);
    return frame;
  }
}

/** One random 8-byte word over and over: wherever it turns up, it came from there. */
function fillWithMark(bytes: Uint8Array, random: Random): void {
  const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
  const low = random.u32() | 1;
  const high = random.u32() | 1;
  for (let i = 0; i < words.length; i += 2) {
    words[i] = low;
    words[i + 1] = high;
  }
}
