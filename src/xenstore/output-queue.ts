/**
 * What waits to be taken by one client: replies and events as one run of bytes, in order.
 *
 * Bytes are written once, straight into the buffer that the transport sends from. Beside them runs a list of marks, for
 * those messages only whose being taken matters: requests of unprivileged domains, which stay outstanding until then, and
 * events that go stale.
 *
 *     buffer   ....[head ── taken next ─────────────── tail)....
 *     position      taken                    (counts all bytes ever taken)
 */
import { XS_HEADER_SIZE } from '../abi/xen/xs-wire.js';
import { copyBytes } from './arena.js';
import type { Cause } from './view.js';

const INITIAL_BYTES = 1024;
/** A buffer that has grown beyond this is given back when it is empty. */
const KEEP_BYTES = 65536;

interface Mark {
  /** Positions of the message's first byte and of the byte after it. */
  start: number;
  end: number;
  readonly cause: Cause | null;
  /** When an event that hasn't begun to be taken is dropped; 0 for never. */
  readonly expires: number;
}

export class OutputQueue {
  #buffer = new Uint8Array(INITIAL_BYTES);
  #head = 0;
  #tail = 0;
  #taken = 0;
  /** Bytes left of a message that was taken in part. */
  #partial = 0;
  #marks: Mark[] = [];
  /** Events waiting, by hash: where each begins. For merging identical ones. */
  readonly #events = new Map<number, number>();
  readonly #settle: (cause: Cause) => void;

  /** @param settle called when a marked message has been taken or dropped */
  constructor(settle: (cause: Cause) => void) {
    this.#settle = settle;
  }

  get size(): number {
    return this.#tail - this.#head;
  }

  get partial(): number {
    return this.#partial;
  }

  /** The bytes to send. Valid until the next call of anything here. */
  bytes(): Uint8Array {
    return this.#buffer.subarray(this.#head, this.#tail);
  }

  /** Copies the bytes to send, as many as there is room for. @returns how many */
  copyTo(to: Uint8Array): number {
    const length = Math.min(this.size, to.length);
    copyBytes(to, 0, this.#buffer, this.#head, length);
    return length;
  }

  /** For writing a payload at the offset that `begin` returned. */
  get buffer(): Uint8Array {
    return this.#buffer;
  }

  /** Appends a header and room for `length` bytes; the caller fills them, all of them. */
  begin(type: number, requestId: number, transactionId: number, length: number): number {
    this.#reserve(XS_HEADER_SIZE + length);
    const b = this.#buffer;
    const at = this.#tail;
    putU32(b, at, type);
    putU32(b, at + 4, requestId);
    putU32(b, at + 8, transactionId);
    putU32(b, at + 12, length);
    this.#tail = at + XS_HEADER_SIZE + length;
    return at + XS_HEADER_SIZE;
  }

  /** Appends a message as it is, or the rest of one that was taken in part. */
  append(bytes: Uint8Array, isPartial: boolean): void {
    this.#reserve(bytes.length);
    this.#buffer.set(bytes, this.#tail);
    this.#tail += bytes.length;
    if (isPartial) this.#partial = bytes.length;
  }

  /** Takes back the last message, of this many bytes, of which nothing has been sent. */
  withdraw(bytes: number): void {
    this.#tail -= bytes;
  }

  /** Marks the message of `length` bytes of payload that was put last. */
  mark(length: number, cause: Cause | null, expires: number): void {
    const end = this.#taken + this.size;
    this.#marks.push({ start: end - length - XS_HEADER_SIZE, end, cause, expires });
  }

  /**
   * Merges the event that was put last with an identical one still waiting.
   * @returns true where there was one: the last is gone again
   */
  merge(hash: number, length: number): boolean {
    const total = XS_HEADER_SIZE + length;
    const start = this.#taken + this.size - total;
    const known = this.#events.get(hash);
    if (known !== undefined && known >= this.#taken && this.#sameBytes(known, start, total)) {
      this.#tail -= total;
      return true;
    }
    this.#events.set(hash, start);
    return false;
  }

  /** The client has taken the first `count` bytes. */
  consume(count: number): void {
    if (count > this.size) throw new Error('more bytes taken than there were');
    if (count < this.size) this.#partial = this.#leftAfter(count);
    this.#head += count;
    this.#taken += count;
    if (this.#marks.length > 0) this.#settleTaken();
    if (this.#head === this.#tail) this.#reset();
  }

  /** Drops events that nobody has begun to take by now. Returns the number of bytes dropped. */
  dropExpired(now: number): number {
    let dropped = 0;
    const kept: Mark[] = [];
    for (const mark of this.#marks) {
      mark.start -= dropped;
      mark.end -= dropped;
      if (mark.expires === 0 || mark.expires > now || mark.start < this.#taken) {
        kept.push(mark);
        continue;
      }
      const length = mark.end - mark.start;
      const from = this.#head + (mark.end - this.#taken);
      this.#buffer.copyWithin(from - length, from, this.#tail);
      this.#tail -= length;
      dropped += length;
      if (mark.cause !== null) this.#settle(mark.cause);
    }
    this.#marks = kept;
    if (dropped > 0) this.#events.clear();
    if (this.#head === this.#tail) this.#reset();
    return dropped;
  }

  /** When the next event goes stale, or null. All wait equally long, so that is the first. */
  nextExpiry(): number | null {
    return this.#marks.find((mark) => mark.expires !== 0 && mark.start >= this.#taken)?.expires ?? null;
  }

  /** Drops everything. */
  clear(): void {
    const marks = this.#marks;
    this.#marks = [];
    this.#taken += this.size;
    this.#head = this.#tail = 0;
    this.#reset();
    for (const { cause } of marks) if (cause !== null) this.#settle(cause);
  }

  #settleTaken(): void {
    let n = 0;
    for (; n < this.#marks.length; n++) {
      const mark = this.#marks[n] as Mark;
      if (mark.end > this.#taken) break;
      if (mark.cause !== null) this.#settle(mark.cause);
    }
    if (n > 0) this.#marks.splice(0, n);
  }

  /** What is left of the message in which `count` bytes from here end. */
  #leftAfter(count: number): number {
    let end = this.#partial;
    while (end < count) end += XS_HEADER_SIZE + getU32(this.#buffer, this.#head + end + 12);
    return end - count;
  }

  #reset(): void {
    this.#partial = 0;
    this.#head = 0;
    this.#tail = 0;
    if (this.#events.size > 0) this.#events.clear();
    if (this.#buffer.length > KEEP_BYTES) this.#buffer = new Uint8Array(INITIAL_BYTES);
  }

  #reserve(bytes: number): void {
    if (this.#tail + bytes <= this.#buffer.length) return;
    const size = this.size;
    let capacity = this.#buffer.length;
    while (capacity < size + bytes) capacity *= 2;
    if (capacity === this.#buffer.length && this.#head >= this.#buffer.length / 2) {
      this.#buffer.copyWithin(0, this.#head, this.#tail);
    } else {
      const grown = new Uint8Array(capacity === this.#buffer.length ? capacity * 2 : capacity);
      grown.set(this.bytes());
      this.#buffer = grown;
    }
    this.#head = 0;
    this.#tail = size;
  }

  #sameBytes(a: number, b: number, length: number): boolean {
    const x = this.#head + (a - this.#taken);
    const y = this.#head + (b - this.#taken);
    if (x + length > y) return false;
    for (let i = 0; i < length; i++) if (this.#buffer[x + i] !== this.#buffer[y + i]) return false;
    return true;
  }
}

function putU32(b: Uint8Array, at: number, value: number): void {
  b[at] = value;
  b[at + 1] = value >>> 8;
  b[at + 2] = value >>> 16;
  b[at + 3] = value >>> 24;
}

export function getU32(b: Uint8Array, at: number): number {
  return (
    ((b[at] as number) |
      ((b[at + 1] as number) << 8) |
      ((b[at + 2] as number) << 16) |
      ((b[at + 3] as number) << 24)) >>>
    0
  );
}
