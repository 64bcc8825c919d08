/**
 * One elementary access of the guest, as a device model's handler sees it, and the expansion of Xen's requests into
 * them: a repeated or pointer-carrying request (REP INS, REP MOVS to a device, …) becomes a series of plain accesses
 * whose data the SDK fetches from and stores to guest memory.
 *
 * The raw request is hostile until `checkRequest` has looked at it.
 *
 * @spec xen:hvm/ioreq.h
 */
import {
  IOREQ_TYPE_COPY,
  IOREQ_TYPE_INVALIDATE,
  IOREQ_TYPE_PCI_CONFIG,
  IOREQ_TYPE_PIO,
  IOREQ_TYPE_TIMEOFFSET,
} from '../abi/xen/ioreq.js';
import type { RawIoreq } from './ioreq-page.js';

/** An access's width in bytes. Port and PCI accesses are never 8. */
export type AccessSize = 1 | 2 | 4 | 8;

/** `port`: x86 port I/O; `memory`: MMIO; `pci`: PCI configuration space. */
export type RequestKind = 'port' | 'memory' | 'pci';

/** Repetitions that are honoured in one request; Xen itself stays within a page. */
const MAX_REPETITIONS = 65536;

const ALL_ONES = 0xffff_ffff;

/** Gets the answer of an access as two halves, within the access's size; called exactly once. */
export type Completion = (request: IoRequest, lo: number, hi: number) => void;

/** The low half's bits that an access of a size has; the high half counts for 8 bytes only. */
function lowMask(size: AccessSize): number {
  return size === 1 ? 0xff : size === 2 ? 0xffff : ALL_ONES;
}

/**
 * An access that the guest is waiting for (or a buffered write, which nobody waits for). Data is kept in halves: one
 * such object is made for every access, and most never need a bigint.
 */
export class IoRequest {
  private responded = false;

  constructor(
    readonly kind: RequestKind,
    readonly isWrite: boolean,
    /** Port number, guest-physical address, or register number in PCI configuration space. */
    readonly address: number,
    readonly size: AccessSize,
    /** The function's SBDF (see `pciSbdf`) where `kind` is `pci`, else 0. */
    readonly sbdf: number,
    /** The vCPU that waits; -1 for a buffered write. */
    readonly vcpu: number,
    private readonly dataLo: number,
    private readonly dataHi: number,
    private readonly completion: Completion,
  ) {}

  /** What the guest writes, within `size`; 0 for a read. */
  get value(): bigint {
    if (this.size < 8 || !this.isWrite) return BigInt(this.value32);
    return join(this.dataLo, this.dataHi);
  }

  /** The low 32 bits of `value`, unsigned. */
  get value32(): number {
    return this.isWrite ? (this.dataLo & lowMask(this.size)) >>> 0 : 0;
  }

  get isBuffered(): boolean {
    return this.vcpu < 0;
  }

  get isAnswered(): boolean {
    return this.responded;
  }

  /**
   * Ends the access and lets the vCPU go on. A read gets `value` cut to its size; reads of nothing are all ones by
   * convention, which is what a missing value gives. Answering a second time does nothing.
   */
  respond(value?: bigint | number): void {
    if (this.responded) return;
    this.responded = true;
    let lo = ALL_ONES;
    let hi = ALL_ONES;
    if (typeof value === 'number') {
      const whole = Math.trunc(value);
      lo = whole >>> 0;
      hi = Math.floor(whole / 0x1_0000_0000) >>> 0;
    } else if (value !== undefined) {
      lo = Number(value & 0xffff_ffffn);
      hi = Number((value >> 32n) & 0xffff_ffffn);
    }
    this.completion(this, (lo & lowMask(this.size)) >>> 0, this.size === 8 ? hi : 0);
  }
}

/** A request that passed the checks. Data is in halves, as in the slot. */
export interface CheckedRequest {
  readonly kind: RequestKind;
  readonly isRead: boolean;
  readonly address: number;
  readonly sbdf: number;
  readonly size: AccessSize;
  readonly count: number;
  /** Bytes from one repetition's data to the next; negative when the direction flag is set. */
  readonly step: number;
  readonly dataIsPtr: boolean;
  readonly dataLo: number;
  readonly dataHi: number;
}

/** Requests that are for the SDK rather than for a device. */
export type Notice = { readonly notice: 'timeoffset'; readonly seconds: bigint } | { readonly notice: 'invalidate' };

function isAccessSize(size: number): size is AccessSize {
  return size === 1 || size === 2 || size === 4 || size === 8;
}

function join(lo: number, hi: number): bigint {
  return (BigInt(hi) << 32n) | BigInt(lo);
}

/** @returns undefined for a request that makes no sense: the caller answers it with all ones and counts it */
export function checkRequest(raw: RawIoreq): CheckedRequest | Notice | undefined {
  const { size, count } = raw;
  switch (raw.type) {
    case IOREQ_TYPE_INVALIDATE:
      return { notice: 'invalidate' };
    case IOREQ_TYPE_TIMEOFFSET:
      return { notice: 'timeoffset', seconds: BigInt.asIntN(64, join(raw.dataLo, raw.dataHi)) };
    case IOREQ_TYPE_PIO:
      if (raw.addrHi !== 0 || raw.addrLo + size > 0x10000) return undefined;
      return checkData(raw, 'port', size, raw.addrLo, 0);
    case IOREQ_TYPE_PCI_CONFIG:
      if (raw.addrLo + size > 4096) return undefined;
      return checkData(raw, 'pci', size, raw.addrLo, raw.addrHi);
    case IOREQ_TYPE_COPY: {
      const address = raw.addrHi * 0x1_0000_0000 + raw.addrLo;
      const last = address + (raw.df ? -size : size) * (count - 1);
      if (raw.addrHi >= 1 << 20 || last < 0 || last + size > 2 ** 52) return undefined;
      return checkData(raw, 'memory', size, address, 0);
    }
    default:
      return undefined;
  }
}

function checkData(
  raw: RawIoreq,
  kind: RequestKind,
  size: number,
  address: number,
  sbdf: number,
): CheckedRequest | undefined {
  const { count, isRead, dataIsPtr, dataLo, dataHi } = raw;
  if (!isAccessSize(size) || (size === 8 && kind !== 'memory') || count < 1 || count > MAX_REPETITIONS)
    return undefined;
  return { kind, isRead, address, sbdf, size, count, step: raw.df ? -size : size, dataIsPtr, dataLo, dataHi };
}

/** Guest memory by address, for pointer-carrying requests. @returns false where it is not there */
export interface DataMemory {
  read(address: bigint, into: Uint8Array): boolean;
  write(address: bigint, from: Uint8Array): boolean;
}

/** Bytes fetched for repetitions may not leave the guest-physical address space. */
const ADDRESS_LIMIT = 1n << 52n;

/** Data on its way between guest memory and a device; never used across two calls. */
const item = new DataView(new ArrayBuffer(8));

/**
 * The accesses of one request, handed out one after the other: `next` gives the next one only after the one before it
 * was answered.
 */
export class AccessSeries {
  private index = 0;
  /** What goes back into the request's data field: the last item read, or the field as it was. */
  resultLo: number;
  resultHi: number;
  /** Items whose data lay outside guest memory: reads from it gave all ones, writes to it were dropped. */
  nrUnmapped = 0;

  constructor(
    private readonly request: CheckedRequest,
    private readonly vcpu: number,
    private readonly memory: DataMemory,
    private readonly onAnswer: (series: AccessSeries, vcpu: number) => void,
  ) {
    this.resultLo = request.dataLo;
    this.resultHi = request.dataHi;
  }

  get isDone(): boolean {
    return this.index >= this.request.count;
  }

  next(): IoRequest {
    const { request } = this;
    const { kind, isRead, size, sbdf, dataIsPtr } = request;
    const address = kind === 'memory' ? request.address + this.index * request.step : request.address;
    let lo = request.dataLo;
    let hi = request.dataHi;
    if (dataIsPtr && !isRead) {
      this.fetch(size);
      lo = item.getUint32(0, true);
      hi = item.getUint32(4, true);
    }
    return new IoRequest(kind, !isRead, address, size, sbdf, this.vcpu, lo, hi, this.completion);
  }

  private readonly completion: Completion = (_request, lo, hi) => {
    const { isRead, dataIsPtr, size } = this.request;
    if (isRead && dataIsPtr) {
      this.store(size, lo, hi);
    } else if (isRead) {
      this.resultLo = lo;
      this.resultHi = hi;
    }
    this.index++;
    this.onAnswer(this, this.vcpu);
  };

  private fetch(size: AccessSize): void {
    const at = this.pointer();
    if (at !== undefined && this.memory.read(at, new Uint8Array(item.buffer, 0, size))) return;
    this.nrUnmapped++;
    item.setBigUint64(0, 0xffff_ffff_ffff_ffffn);
  }

  private store(size: AccessSize, lo: number, hi: number): void {
    item.setUint32(0, lo, true);
    item.setUint32(4, hi, true);
    const at = this.pointer();
    if (at === undefined || !this.memory.write(at, new Uint8Array(item.buffer, 0, size))) this.nrUnmapped++;
  }

  private pointer(): bigint | undefined {
    const { dataLo, dataHi, step } = this.request;
    const at = join(dataLo, dataHi) + BigInt(this.index * step);
    return at >= 0n && at < ADDRESS_LIMIT ? at : undefined;
  }
}
