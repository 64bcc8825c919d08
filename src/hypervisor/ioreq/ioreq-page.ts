/**
 * One page that Xen shares with a device model: the slots of the synchronous page, or the buffered ring. Either side can
 * write all of it at any time, so every word that something is decided on is read exactly once, atomically.
 *
 * @spec xen:public/hvm/ioreq.h, xen:common/ioreq.c wait_for_io, ioreq_send
 */
import { PAGE_SIZE } from '../../abi/ids.js';
import { IOREQ_STATE_MASK, IOREQ_STATE_SHIFT, IOREQ_STATE_WORD, ioreq } from '../../abi/xen/ioreq.js';

/** Slots of a synchronous page: vCPU ids below this have one. */
export const NR_IOREQ_SLOTS = PAGE_SIZE / ioreq.size;

const { addr, data, count, size, vp_eport } = ioreq.fields;

/** What goes into a slot; `flags` are packed bitfields, the state among them. */
export interface SlotContent {
  readonly addr: bigint;
  readonly data: bigint;
  readonly count: number;
  readonly size: number;
  readonly port: number;
  readonly flags: number;
  readonly type: number;
}

export class IoreqPage {
  readonly view: DataView;
  readonly words: Int32Array;
  /** Whether the gfn has been taken out of the p2m, to be put back. */
  isHidden = false;

  /** @param gfn where the page comes from the guest's own memory, else undefined */
  constructor(
    readonly bytes: Uint8Array,
    readonly mfn: number,
    readonly gfn: bigint | undefined,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, PAGE_SIZE);
    this.words = new Int32Array(bytes.buffer, bytes.byteOffset, PAGE_SIZE / 4);
  }

  clear(): void {
    this.bytes.fill(0);
  }

  /** A slot's state, read once. */
  state(slot: number): number {
    return (Atomics.load(this.words, stateWord(slot)) >>> IOREQ_STATE_SHIFT) & IOREQ_STATE_MASK;
  }

  /** Gives a slot back: STATE_IOREQ_NONE, the rest as it is. */
  clearState(slot: number): void {
    Atomics.and(this.words, stateWord(slot), ~(IOREQ_STATE_MASK << IOREQ_STATE_SHIFT));
  }

  /** The answer, once the state said that there is one. */
  data(slot: number): bigint {
    return data.get(this.view, slot * ioreq.size);
  }

  port(slot: number): number {
    return vp_eport.get(this.view, slot * ioreq.size);
  }

  setPort(slot: number, port: number): void {
    vp_eport.set(this.view, slot * ioreq.size, port);
  }

  /** Fills a slot; the word with the state becomes visible last, so whoever sees the state sees the rest. */
  post(slot: number, content: SlotContent): void {
    const base = slot * ioreq.size;
    addr.set(this.view, base, content.addr);
    data.set(this.view, base, content.data);
    count.set(this.view, base, content.count);
    size.set(this.view, base, content.size);
    vp_eport.set(this.view, base, content.port);
    Atomics.store(this.words, stateWord(slot), (content.flags << IOREQ_STATE_SHIFT) | (content.type << 24));
  }
}

function stateWord(slot: number): number {
  return (slot * ioreq.size + IOREQ_STATE_WORD) / 4;
}
