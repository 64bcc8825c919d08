/**
 * A XenStore ring page: two queues of bytes, one each way, in memory that somebody else writes to at any time. Both ends
 * use it, the daemon and the driver.
 *
 * Nothing in the page is trusted. Both indexes of a queue are read once for each step, checked, and the step works with
 * what was read; an end writes only its own. What the other end does to them meanwhile can garble its own bytes, no more.
 *
 *     producer: reads cons, prod ─▶ copies bytes in ─▶ stores prod ─▶ notifies
 *     consumer: reads cons, prod ─▶ copies bytes out ─▶ stores cons ─▶ notifies
 *
 * @spec xen:docs/misc/xenstore-ring.txt xen:io/xs_wire.h struct xenstore_domain_interface
 */
import { PAGE_SIZE } from '../abi/ids.js';
import { XENSTORE_RING, XENSTORE_RING_SIZE } from '../abi/xs-wire.js';

const MASK = XENSTORE_RING_SIZE - 1;

/** Returned where the indexes are further apart than the ring is long. */
export const BROKEN = -1;

/** One direction. */
export class ByteRing {
  /** The consumer's index as it was read last. */
  private peeked = 0;

  /** @param cons and @param prod are places among the words */
  constructor(
    private readonly data: Uint8Array,
    private readonly words: Int32Array,
    private readonly cons: number,
    private readonly prod: number,
  ) {}

  /** Bytes that wait to be read, or BROKEN. */
  get waiting(): number {
    const cons = Atomics.load(this.words, this.cons);
    const there = (Atomics.load(this.words, this.prod) - cons) >>> 0;
    return there <= XENSTORE_RING_SIZE ? there : BROKEN;
  }

  /** How far each end has come. They count on from 2^32 at 0. */
  get consumed(): number {
    return Atomics.load(this.words, this.cons) >>> 0;
  }

  get produced(): number {
    return Atomics.load(this.words, this.prod) >>> 0;
  }

  /** As the consumer: takes as many bytes as are there and fit. @returns how many, or BROKEN */
  read(into: Uint8Array): number {
    const count = this.peek(into);
    if (count > 0) this.consume(count);
    return count;
  }

  /** Copies bytes without taking them. @returns how many, or BROKEN */
  peek(into: Uint8Array): number {
    const cons = Atomics.load(this.words, this.cons);
    const there = (Atomics.load(this.words, this.prod) - cons) >>> 0;
    if (there > XENSTORE_RING_SIZE) return BROKEN;
    const count = Math.min(there, into.length);
    const at = cons & MASK;
    const first = Math.min(count, XENSTORE_RING_SIZE - at);
    into.set(this.data.subarray(at, at + first));
    if (count > first) into.set(this.data.subarray(0, count - first), first);
    this.peeked = cons;
    return count;
  }

  /** Takes the first bytes of what was copied last. */
  consume(count: number): void {
    Atomics.store(this.words, this.cons, (this.peeked + count) | 0);
  }

  /** As the producer: puts in as many bytes as there is room for. @returns how many, or BROKEN */
  write(from: Uint8Array): number {
    const cons = Atomics.load(this.words, this.cons);
    const prod = Atomics.load(this.words, this.prod);
    const there = (prod - cons) >>> 0;
    if (there > XENSTORE_RING_SIZE) return BROKEN;
    const count = Math.min(XENSTORE_RING_SIZE - there, from.length);
    if (count === 0) return 0;
    const at = prod & MASK;
    const first = Math.min(count, XENSTORE_RING_SIZE - at);
    this.data.set(from.subarray(0, first), at);
    if (count > first) this.data.set(from.subarray(first, count));
    Atomics.store(this.words, this.prod, (prod + count) | 0);
    return count;
  }

  /** Empties the queue; both ends must know. */
  reset(): void {
    Atomics.store(this.words, this.cons, 0);
    Atomics.store(this.words, this.prod, 0);
  }
}

export class RingPage {
  /** To the daemon. */
  readonly requests: ByteRing;
  /** From the daemon: replies and events. */
  readonly replies: ByteRing;
  private readonly words: Int32Array;

  /** @param page one whole page */
  constructor(page: Uint8Array) {
    if (page.length !== PAGE_SIZE) throw new Error(`a ring page of ${page.length} bytes`);
    const words = new Int32Array(page.buffer, page.byteOffset, PAGE_SIZE / 4);
    const { req, rsp, req_cons, req_prod, rsp_cons, rsp_prod } = XENSTORE_RING;
    const data = (at: number) => page.subarray(at, at + XENSTORE_RING_SIZE);
    this.words = words;
    this.requests = new ByteRing(data(req), words, req_cons / 4, req_prod / 4);
    this.replies = new ByteRing(data(rsp), words, rsp_cons / 4, rsp_prod / 4);
  }

  get features(): number {
    return Atomics.load(this.words, XENSTORE_RING.server_features / 4) >>> 0;
  }

  set features(value: number) {
    Atomics.store(this.words, XENSTORE_RING.server_features / 4, value | 0);
  }

  get connection(): number {
    return Atomics.load(this.words, XENSTORE_RING.connection / 4) >>> 0;
  }

  set connection(value: number) {
    Atomics.store(this.words, XENSTORE_RING.connection / 4, value | 0);
  }

  get error(): number {
    return Atomics.load(this.words, XENSTORE_RING.error / 4) >>> 0;
  }

  set error(value: number) {
    Atomics.store(this.words, XENSTORE_RING.error / 4, value | 0);
  }
}
