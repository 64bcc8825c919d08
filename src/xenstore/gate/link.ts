/**
 * The upstream side of a session: requests in flight, and the byte stream that comes back.
 *
 * Upstream is a XenStore daemon or dom0's kernel. It is trusted with what it says of the store, not with the gate: what it
 * sends is bounded and checked like anything else, and one that breaks the protocol is dropped and connected to again.
 *
 *     up ──lost()──▶ down ──back()──▶ up           in flight stays in flight, in order; sent again by back()
 *      └──garbage──▶ broken (the transport calls lost())
 */
import {
  XENSTORE_PAYLOAD_MAX,
  XS_ERROR,
  XS_HEADER_SIZE,
  XS_UNWATCH,
  XS_WATCH,
  XS_WATCH_EVENT,
} from '../../abi/xen/xs-wire.js';
import { copyBytes } from '../arena.js';
import { Inbox } from '../inbox.js';
import { getU32, OutputQueue } from '../output-queue.js';
import { type Exchange, Reply } from './exchange.js';
import type { GateSession } from './session.js';

export class UpstreamLink {
  /** What waits to be sent. */
  readonly out = new OutputQueue(() => {});
  /** In the order in which they were sent. */
  inFlight: Exchange[] = [];
  isUp = false;
  /** Longer requests are answered with E2BIG. */
  payloadMax = XENSTORE_PAYLOAD_MAX;
  /** Why nothing more from this upstream connection is believed. */
  broken: string | null = null;
  /** Whether this upstream connection has made sense so far: it has replied to something. */
  hasReplied = false;
  readonly #session: GateSession;
  readonly #reply = new Reply();
  #nextId = 1;
  readonly #inbox = new Inbox();

  constructor(session: GateSession) {
    this.#session = session;
  }

  /** Whether a request that has been sent waits for its reply. */
  get awaitsReply(): boolean {
    const [first] = this.inFlight;
    return first !== undefined && (this.out.size === 0 || first.sentId !== getU32(this.out.bytes(), 4));
  }

  /** Sends a request, or keeps it until upstream is back. */
  send(exchange: Exchange, type: number, transaction: number, bytes: Uint8Array, length: number): void {
    exchange.sentType = type;
    if (length > this.payloadMax) {
      exchange.next.replied(this.#session, exchange, Reply.of(type, 'E2BIG'));
      return;
    }
    exchange.sentTransaction = transaction;
    exchange.sentBytes = bytes;
    exchange.sentLength = length;
    this.inFlight.push(exchange);
    if (this.isUp) this.#write(exchange);
  }

  /** Bytes from upstream. They are the caller's again when this returns. */
  receive(chunk: Uint8Array): void {
    if (!this.isUp || this.broken !== null) return;
    if (this.#inbox.size === 0) {
      const used = this.#process(chunk, chunk.length);
      if (used < chunk.length && this.isUp && this.broken === null) this.#inbox.add(chunk, used);
      return;
    }
    this.#inbox.add(chunk, 0);
    const used = this.#process(this.#inbox.buffer, this.#inbox.size);
    if (this.isUp) this.#inbox.drop(used); // else it was cleared with the session
  }

  /** The connection has gone: what was in flight is the session's to deal with. */
  lost(): Exchange[] {
    this.isUp = false;
    this.broken = null;
    this.hasReplied = false;
    this.out.clear();
    this.#inbox.clear();
    const { inFlight } = this;
    this.inFlight = [];
    return inFlight;
  }

  /** There is a connection again. Requests that waited are sent by `resend`, after what the session sends first. */
  back(): Exchange[] {
    const { inFlight } = this;
    this.inFlight = [];
    this.isUp = true;
    return inFlight;
  }

  resend(exchange: Exchange): void {
    const { sentType, sentTransaction, sentBytes, sentLength } = exchange;
    this.send(exchange, sentType, sentTransaction, sentBytes, sentLength);
  }

  /** The transport could not hand over the message that is first in `out`. @returns the request it was */
  refused(): Exchange | undefined {
    const id = getU32(this.out.bytes(), 4);
    return this.#take(id, -1);
  }

  #write(exchange: Exchange): void {
    const id = this.#nextId;
    this.#nextId = id === 0xffffffff ? 1 : id + 1;
    exchange.sentId = id;
    const { sentType, sentTransaction, sentBytes, sentLength } = exchange;
    const at = this.out.begin(sentType, id, sentTransaction, sentLength);
    copyBytes(this.out.buffer, at, sentBytes, 0, sentLength);
  }

  #process(data: Uint8Array, end: number): number {
    let at = 0;
    while (end - at >= XS_HEADER_SIZE) {
      const length = getU32(data, at + 12);
      if (length > XENSTORE_PAYLOAD_MAX) return this.#garbage(`a message of ${length} bytes`, end);
      if (end - at < XS_HEADER_SIZE + length) break;
      const reply = this.#reply;
      reply.type = getU32(data, at);
      reply.bytes = data;
      reply.start = at + XS_HEADER_SIZE;
      reply.end = reply.start + length;
      at = reply.end;
      if (reply.type === XS_WATCH_EVENT) this.#session.event(reply);
      else if (!this.#replied(getU32(data, reply.start - 12), reply)) return end;
      if (!this.isUp || this.broken !== null) return end;
    }
    return at;
  }

  #replied(id: number, reply: Reply): boolean {
    const exchange = this.#take(id, reply.type);
    if (exchange === undefined) {
      this.#garbage(`a reply to no request (${id})`, 0);
      return false;
    }
    if (reply.type !== XS_ERROR && reply.type !== exchange.sentType) {
      this.inFlight.unshift(exchange); // it is still unanswered
      this.#garbage(`a reply of type ${reply.type} to a request of type ${exchange.sentType}`, 0);
      return false;
    }
    this.hasReplied = true;
    exchange.next.replied(this.#session, exchange, reply);
    return true;
  }

  /**
   * The request that a reply belongs to, no longer in flight: nearly always the first. Kernels before Linux 4.10 answer
   * WATCH and UNWATCH themselves, with request id 0.
   */
  #take(id: number, type: number): Exchange | undefined {
    const { inFlight } = this;
    if (inFlight[0]?.sentId === id) return inFlight.shift();
    const isAnonymous = id === 0 && (type === XS_WATCH || type === XS_UNWATCH);
    const i = inFlight.findIndex((x) => (isAnonymous ? x.sentType === type : x.sentId === id));
    return i < 0 ? undefined : inFlight.splice(i, 1)[0];
  }

  #garbage(what: string, used: number): number {
    this.broken = what;
    return used;
  }
}
