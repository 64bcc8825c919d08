/**
 * The ring of buffered writes: Xen appends, the device model consumes; nobody waits for an answer. Slots are 8 bytes, an
 * 8-byte write takes two.
 *
 * The pointers are not trusted: a distance of more slots than the ring has is a broken ring, which is emptied and
 * counted, never followed. In atomic mode Xen moves both pointers down together by compare-and-swap, so the read pointer
 * is only ever added to, never stored.
 *
 * @spec xen:hvm/ioreq.h struct buffered_iopage
 */

import { IOREQ_BUFFER_SLOT_NUM } from '../abi/xen/ioreq.js';

const WORD_READ = 0;
const WORD_WRITE = 1;
const WORD_SLOTS = 2;

/** A private copy of a buffered write. */
export interface BufferedWrite {
  readonly type: number;
  /** 20 bits. */
  readonly address: number;
  readonly size: 1 | 2 | 4 | 8;
  readonly dataLo: number;
  readonly dataHi: number;
  /** Slots it took: what `advance` is to be given. */
  readonly nrSlots: 1 | 2;
  /** Reads cannot be buffered: a set read flag is malformed. */
  readonly isRead: boolean;
}

const SIZES = [1, 2, 4, 8] as const;

export class BufferedRing {
  private readonly words: Uint32Array;
  /** Times that the ring was found broken and emptied. */
  nrResets = 0;

  /** @param memory the ring's page */
  constructor(memory: Uint8Array) {
    this.words = new Uint32Array(memory.buffer, memory.byteOffset, WORD_SLOTS + 2 * IOREQ_BUFFER_SLOT_NUM);
  }

  /** The oldest write, left in the ring until `advance`. */
  peek(): BufferedWrite | undefined {
    const { words } = this;
    // Both pointers may move down between the two loads: only a pair around an unchanged read pointer counts.
    for (let attempt = 0; attempt < 8; attempt++) {
      const read = Atomics.load(words, WORD_READ);
      const write = Atomics.load(words, WORD_WRITE);
      if (Atomics.load(words, WORD_READ) !== read) continue;
      const distance = (write - read) >>> 0;
      if (distance === 0) return undefined;
      if (distance > IOREQ_BUFFER_SLOT_NUM) return this.reset(distance);
      return this.copySlot(read, distance);
    }
    return undefined;
  }

  /** Frees the slots of a write that `peek` returned. */
  advance(nrSlots: number): void {
    Atomics.add(this.words, WORD_READ, nrSlots);
  }

  private copySlot(read: number, distance: number): BufferedWrite | undefined {
    const slot = WORD_SLOTS + 2 * (read % IOREQ_BUFFER_SLOT_NUM);
    const head = this.words[slot] as number;
    const dataLo = this.words[slot + 1] as number;
    const size = SIZES[(head >>> 10) & 3] as 1 | 2 | 4 | 8;
    if (size === 8 && distance < 2) return this.reset(distance);
    const second = WORD_SLOTS + 2 * (((read + 1) >>> 0) % IOREQ_BUFFER_SLOT_NUM);
    return {
      type: head & 0xff,
      isRead: ((head >>> 9) & 1) === 1,
      size,
      address: head >>> 12,
      dataLo,
      dataHi: size === 8 ? (this.words[second + 1] as number) : 0,
      nrSlots: size === 8 ? 2 : 1,
    };
  }

  private reset(distance: number): undefined {
    this.nrResets++;
    Atomics.add(this.words, WORD_READ, distance);
    return undefined;
  }
}
