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
export const MAX_REPETITIONS = 65536;

const ALL_ONES = 0xffff_ffff_ffff_ffffn;
const MASK: Record<AccessSize, bigint> = { 1: 0xffn, 2: 0xffffn, 4: 0xffff_ffffn, 8: ALL_ONES };

/** Gets the answer of an access; called exactly once. */
export type Completion = (request: IoRequest, value: bigint) => void;

/** An access that the guest is waiting for (or a buffered write, which nobody waits for). */
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
    private readonly data: bigint,
    private readonly completion: Completion,
  ) {}

  /** What the guest writes, within `size`; 0 for a read. */
  get value(): bigint {
    return this.isWrite ? this.data & MASK[this.size] : 0n;
  }

  /** The low 32 bits of `value`, unsigned. */
  get value32(): number {
    return Number(this.value & 0xffff_ffffn);
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
    const answer = value === undefined ? ALL_ONES : typeof value === 'number' ? BigInt(Math.trunc(value)) : value;
    this.completion(this, answer & MASK[this.size]);
  }
}

/** A request that passed the checks. */
export interface CheckedRequest {
  readonly kind: RequestKind;
  readonly isRead: boolean;
  readonly address: number;
  readonly sbdf: number;
  readonly size: AccessSize;
  readonly count: number;
  /** Bytes from one repetition's data to the next; negative when the direction flag is set. */
  readonly dataStride: bigint;
  /** Bytes from one repetition's device address to the next; 0 for ports. */
  readonly addressStride: number;
  readonly dataIsPtr: boolean;
  readonly data: bigint;
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
  if (raw.type === IOREQ_TYPE_INVALIDATE) return { notice: 'invalidate' };
  if (raw.type === IOREQ_TYPE_TIMEOFFSET) {
    return { notice: 'timeoffset', seconds: BigInt.asIntN(64, join(raw.dataLo, raw.dataHi)) };
  }
  const { size, count } = raw;
  if (!isAccessSize(size) || count < 1 || count > MAX_REPETITIONS) return undefined;
  const step = raw.df ? -size : size;
  const common = {
    isRead: raw.isRead,
    size,
    count,
    dataStride: BigInt(step),
    dataIsPtr: raw.dataIsPtr,
    data: join(raw.dataLo, raw.dataHi),
  };
  switch (raw.type) {
    case IOREQ_TYPE_PIO:
      if (size === 8 || raw.addrHi !== 0 || raw.addrLo + size > 0x10000) return undefined;
      return { ...common, kind: 'port', address: raw.addrLo, sbdf: 0, addressStride: 0 };
    case IOREQ_TYPE_PCI_CONFIG:
      if (size === 8 || raw.addrLo + size > 4096) return undefined;
      return { ...common, kind: 'pci', address: raw.addrLo, sbdf: raw.addrHi, addressStride: 0 };
    case IOREQ_TYPE_COPY: {
      const address = raw.addrHi * 0x1_0000_0000 + raw.addrLo;
      const last = address + step * (count - 1);
      if (raw.addrHi >= 1 << 20 || last < 0 || last + size > 2 ** 52) return undefined;
      return { ...common, kind: 'memory', address, sbdf: 0, addressStride: step };
    }
    default:
      return undefined;
  }
}

/** Guest memory by address, for pointer-carrying requests. @returns false where it is not there */
export interface DataMemory {
  read(address: bigint, into: Uint8Array): boolean;
  write(address: bigint, from: Uint8Array): boolean;
}

/** Bytes fetched for repetitions may not leave the guest-physical address space. */
const ADDRESS_LIMIT = 1n << 52n;

/**
 * The accesses of one request, handed out one after the other: `next` gives the next one only after the one before it
 * was answered.
 */
export class AccessSeries {
  private index = 0;
  private last = 0n;
  private readonly word = new Uint8Array(8);
  /** Items whose data lay outside guest memory: reads from it gave all ones, writes to it were dropped. */
  nrUnmapped = 0;

  constructor(
    private readonly request: CheckedRequest,
    private readonly vcpu: number,
    private readonly memory: DataMemory,
    private readonly onAnswer: (series: AccessSeries) => void,
  ) {}

  get isDone(): boolean {
    return this.index >= this.request.count;
  }

  /** What goes back into the request's data field: the last item read, or the field as it was. */
  get result(): bigint {
    return this.request.isRead && !this.request.dataIsPtr ? this.last : this.request.data;
  }

  next(): IoRequest {
    const { request } = this;
    const address = request.address + this.index * request.addressStride;
    const data = request.isRead ? 0n : this.fetch();
    return new IoRequest(
      request.kind,
      !request.isRead,
      address,
      request.size,
      request.sbdf,
      this.vcpu,
      data,
      this.completion,
    );
  }

  private readonly completion: Completion = (_request, value) => {
    if (this.request.isRead) {
      this.last = value;
      if (this.request.dataIsPtr) this.store(value);
    }
    this.index++;
    this.onAnswer(this);
  };

  private fetch(): bigint {
    if (!this.request.dataIsPtr) return this.request.data;
    const { size } = this.request;
    this.word.fill(0);
    const at = this.pointer();
    if (at === undefined || !this.memory.read(at, this.word.subarray(0, size))) {
      this.nrUnmapped++;
      return ALL_ONES;
    }
    return new DataView(this.word.buffer).getBigUint64(0, true);
  }

  private store(value: bigint): void {
    new DataView(this.word.buffer).setBigUint64(0, value, true);
    const at = this.pointer();
    if (at === undefined || !this.memory.write(at, this.word.subarray(0, this.request.size))) this.nrUnmapped++;
  }

  private pointer(): bigint | undefined {
    const at = this.request.data + BigInt(this.index) * this.request.dataStride;
    return at >= 0n && at < ADDRESS_LIMIT ? at : undefined;
  }
}
