/**
 * The page of synchronous I/O requests: one slot a vCPU, shared with Xen. Xen fills a slot and sets READY, the device
 * model answers and sets RESP; each side moves the state forward only:
 *
 *      NONE ──Xen──▶ READY ──us──▶ INPROCESS ──us──▶ IORESP_READY ──Xen──▶ NONE
 *
 * The page's contents are not trusted: the state byte is moved by compare-and-swap, every other field is read once into
 * a private copy, and a slot whose state was changed underneath us is left alone.
 *
 * @spec xen:hvm/ioreq.h struct ioreq
 */
import { ioreq, STATE_IOREQ_INPROCESS, STATE_IOREQ_READY, STATE_IORESP_READY } from '../abi/xen/ioreq.js';

/** Bytes of a slot. */
export const IOREQ_SIZE = ioreq.size;

const WORD_ADDR = ioreq.fields.addr.offset / 4;
const WORD_DATA = ioreq.fields.data.offset / 4;
const WORD_COUNT = ioreq.fields.count.offset / 4;
const WORD_SIZE = ioreq.fields.size.offset / 4;
const WORD_VP_EPORT = ioreq.fields.vp_eport.offset / 4;
const BYTE_STATE = ioreq.fields.flags.offset;
const BYTE_TYPE = ioreq.fields.type.offset;

const STATE_MASK = 0x0f;
const FLAG_DATA_IS_PTR = 0x10;
const FLAG_READ = 0x20;
const FLAG_DF = 0x40;

/** A private copy of a request as Xen wrote it; nothing in it has been checked. 64-bit fields come as two halves. */
export interface RawIoreq {
  readonly type: number;
  readonly isRead: boolean;
  /** The data field is the guest-physical address of the data. */
  readonly dataIsPtr: boolean;
  /** Repetitions go downwards in memory. */
  readonly df: boolean;
  readonly addrLo: number;
  readonly addrHi: number;
  readonly dataLo: number;
  readonly dataHi: number;
  readonly count: number;
  readonly size: number;
}

export class IoreqPage {
  private readonly bytes: Uint8Array;
  private readonly words: Uint32Array;

  /** @param memory whole pages holding the slots of vCPUs 0 to nrVcpus-1 */
  constructor(
    memory: Uint8Array,
    readonly nrVcpus: number,
  ) {
    if (memory.length < nrVcpus * IOREQ_SIZE) throw new RangeError('fewer ioreq slots than vCPUs');
    this.bytes = memory;
    this.words = new Uint32Array(memory.buffer, memory.byteOffset, (nrVcpus * IOREQ_SIZE) >>> 2);
  }

  /** The event channel port that Xen offers for this vCPU's requests; 0 before the server was enabled. */
  eventPort(vcpu: number): number {
    return Atomics.load(this.words, (vcpu * IOREQ_SIZE) / 4 + WORD_VP_EPORT);
  }

  /** Takes a READY request into process; undefined where there is none. */
  take(vcpu: number): RawIoreq | undefined {
    const at = vcpu * IOREQ_SIZE;
    const flags = Atomics.load(this.bytes, at + BYTE_STATE);
    if ((flags & STATE_MASK) !== STATE_IOREQ_READY) return undefined;
    const taken = (flags & ~STATE_MASK) | STATE_IOREQ_INPROCESS;
    if (Atomics.compareExchange(this.bytes, at + BYTE_STATE, flags, taken) !== flags) return undefined;
    const word = at / 4;
    const words = this.words;
    return {
      type: this.bytes[at + BYTE_TYPE] as number,
      isRead: (flags & FLAG_READ) !== 0,
      dataIsPtr: (flags & FLAG_DATA_IS_PTR) !== 0,
      df: (flags & FLAG_DF) !== 0,
      addrLo: words[word + WORD_ADDR] as number,
      addrHi: words[word + WORD_ADDR + 1] as number,
      dataLo: words[word + WORD_DATA] as number,
      dataHi: words[word + WORD_DATA + 1] as number,
      count: words[word + WORD_COUNT] as number,
      size: words[word + WORD_SIZE] as number,
    };
  }

  /**
   * Writes the answer and hands the slot back.
   * @returns false where the slot is no longer in process: nobody waits for this answer, and the state stays as it is
   */
  complete(vcpu: number, dataLo: number, dataHi: number): boolean {
    const at = vcpu * IOREQ_SIZE;
    const flags = Atomics.load(this.bytes, at + BYTE_STATE);
    if ((flags & STATE_MASK) !== STATE_IOREQ_INPROCESS) return false;
    this.words[at / 4 + WORD_DATA] = dataLo;
    this.words[at / 4 + WORD_DATA + 1] = dataHi;
    const done = (flags & ~STATE_MASK) | STATE_IORESP_READY;
    return Atomics.compareExchange(this.bytes, at + BYTE_STATE, flags, done) === flags;
  }
}
