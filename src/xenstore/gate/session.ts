/**
 * One connection of a gate's client: its byte stream cut into requests, which are decided upon one after the other, and
 * the answers, which leave in the order of the requests.
 *
 *     up ◀──upstreamBack──▶ down      in both states requests are taken, as far as the limits go
 *      └──close, garbage from the client, too much unread──▶ ended
 *
 * Trusts nobody: the client is a device model that may have been taken over by its guest, and what comes from upstream is
 * checked by link.ts. A client's message is looked at once it is complete; the length as soon as the header is.
 */
import {
  XENSTORE_PAYLOAD_MAX,
  XS_ERROR,
  XS_HEADER_SIZE,
  XS_TYPE_COUNT,
  XS_WATCH,
  type XsErrorName,
} from '../../abi/xen/xs-wire.js';
import { copyBytes, latin1, latin1Bytes } from '../arena.js';
import { Inbox } from '../inbox.js';
import { typeName } from '../operations/index.js';
import { getU32, OutputQueue } from '../output-queue.js';
import type { DenialCode } from './denials.js';
import { type Continuation, Exchange, type GateTransaction, Reply } from './exchange.js';
import type { Gate } from './gate.js';
import { UpstreamLink } from './link.js';
import { decideRequest } from './requests/index.js';
import { lostInTransaction } from './requests/transactions.js';
import { deliverEvent, type GateWatch, WatchTable } from './watch-table.js';

/** With more than this waiting to be read by the client, its requests wait too. */
const UNREAD_PAUSE_BYTES = 64 * 1024;
const POOL_MAX = 64;

/** A client that believes in a watch which isn't set would wait for ever: rather it sees its connection end. */
const SET_AGAIN: Continuation = {
  replied(session, _, reply) {
    if (reply.error !== null) session.finish(`a watch could not be set again: ${reply.error}`);
  },
  lost: () => {},
};

export class GateSession {
  readonly link = new UpstreamLink(this);
  readonly out = new OutputQueue(() => {});
  readonly watches = new WatchTable();
  readonly transactions = new Map<number, GateTransaction>();
  /** Why the session is over; null while it isn't. */
  ended: string | null = null;
  /** Transactions that have been asked for upstream. */
  starting = 0;
  /** A request is being carried out in several steps: those after it wait. */
  busy = false;
  /** The payload of the request being decided. */
  bytes: Uint8Array = new Uint8Array(0);
  start = 0;
  end = 0;
  /** Exchanges that the client is owed an answer for, in order. */
  readonly #owed: Exchange[] = [];
  readonly #pool: Exchange[] = [];
  #nextTransaction = 1;
  #waitsForRate = false;
  readonly #inbox = new Inbox();

  constructor(
    readonly gate: Gate,
    /** Tells the gate's connections apart in traces. */
    readonly id: number,
    readonly pid?: number,
  ) {}

  // ---- for the transport: the client's side

  /** Whether the transport should read from the client. */
  get wantsClient(): boolean {
    return this.ended === null && !this.#waitsForRate && this.#mayDecide();
  }

  fromClient(chunk: Uint8Array): void {
    if (this.ended !== null) return;
    if (this.#inbox.size === 0) {
      const used = this.#decideAll(chunk, chunk.length);
      if (this.ended === null && used < chunk.length) this.#inbox.add(chunk, used);
    } else {
      this.#inbox.add(chunk, 0);
      this.#goOn();
    }
  }

  /** What to send to the client. Valid until the next call. */
  toClient(): Uint8Array {
    return this.out.bytes();
  }

  /** Likewise, copied to where a transport sends from, as much as there is room. @returns how many bytes */
  copyToClient(to: Uint8Array): number {
    return this.out.copyTo(to);
  }

  clientTook(count: number): void {
    this.out.consume(count);
    this.#goOn();
  }

  /** When `tick` has something to do, on the gate's clock; null for "not before something else happens". */
  nextDeadlineMs(): number | null {
    return this.#waitsForRate ? this.gate.rate.nextMs() : null;
  }

  tick(): void {
    this.#waitsForRate = false;
    this.#goOn();
  }

  /** The client has gone. Upstream, its connection's end is the end of all it had. */
  close(): void {
    this.finish('the client has gone');
  }

  // ---- for the transport: upstream

  /** Why the connection upstream is to be given up; null while it isn't. */
  get upstreamBroken(): string | null {
    return this.link.broken;
  }

  fromUpstream(chunk: Uint8Array): void {
    if (this.ended !== null) return;
    this.link.receive(chunk);
    this.#goOn();
  }

  toUpstream(): Uint8Array {
    return this.link.out.bytes();
  }

  copyToUpstream(to: Uint8Array): number {
    return this.link.out.copyTo(to);
  }

  /** Length of the first message that waits to be sent upstream, for a device that takes one at a time. */
  nextUpstreamLength(): number {
    const bytes = this.link.out.bytes();
    return bytes.length === 0 ? 0 : XS_HEADER_SIZE + getU32(bytes, 12);
  }

  upstreamTook(count: number): void {
    this.link.out.consume(count);
  }

  /** The device didn't take the first message that waits to be sent, whole as it was offered. */
  upstreamRefused(name: XsErrorName): void {
    const exchange = this.link.refused();
    this.link.out.consume(this.nextUpstreamLength());
    if (exchange === undefined) return;
    exchange.next.replied(this, exchange, Reply.of(exchange.sentType, name));
    this.#goOn();
  }

  upstreamLost(): void {
    if (!this.link.isUp || this.ended !== null) return;
    const why = this.link.broken ?? 'it has ended';
    const inFlight = this.link.lost();
    this.gate.lost++;
    this.gate.trace(this, { operation: 'upstream', verdict: 'upstream', reason: `lost: ${why}` });
    for (const transaction of this.transactions.values()) transaction.lost = true;
    for (const exchange of inFlight) {
      if (exchange.transaction !== null) exchange.transaction.lost = true;
      if (exchange.next.lost !== undefined) exchange.next.lost(this, exchange);
      else if (!lostInTransaction(this, exchange)) this.link.inFlight.push(exchange);
    }
    this.#goOn();
  }

  /**
   * A connection upstream is made. Watches are set again, then what was in flight is sent again.
   * @param payloadMax of what it takes: less than the protocol's where it is a device
   */
  upstreamBack(payloadMax = XENSTORE_PAYLOAD_MAX): void {
    if (this.link.isUp || this.ended !== null) return;
    this.link.payloadMax = payloadMax;
    const waiting = this.link.back();
    for (const watch of this.watches.all()) if (watch.isSet) this.#setAgain(watch);
    for (const exchange of waiting) this.link.resend(exchange);
    this.#goOn();
  }

  // ---- for the requests

  finish(reason: string): void {
    if (this.ended !== null) return;
    this.ended = reason;
    this.gate.trace(this, { operation: 'connection', verdict: 'closed', reason });
    this.gate.sessions.delete(this);
    this.gate.watches -= this.watches.size;
    this.gate.transactions -= this.transactions.size + this.starting;
    this.watches.clear();
    this.transactions.clear();
    this.link.lost();
    this.out.clear();
    for (const exchange of this.#owed) this.#settle(exchange, true); // upstream may have done it
    this.#owed.length = 0;
    this.#inbox.clear();
    this.busy = false;
  }

  newTransactionId(): number {
    for (;;) {
      const id = this.#nextTransaction;
      this.#nextTransaction = id === 0xffffffff ? 1 : id + 1;
      if (!this.transactions.has(id)) return id;
    }
  }

  /** Sends the exchange's payload, in its transaction, and goes on with `next`. */
  forward(exchange: Exchange, next: Continuation): void {
    exchange.next = next;
    const { transaction } = exchange;
    if (transaction?.lost && lostInTransaction(this, exchange)) return;
    const id = transaction === null || transaction.lost ? 0 : transaction.upstreamId;
    this.link.send(exchange, exchange.type, id, exchange.payload, exchange.length);
  }

  /** Asks something of the gate's own. */
  ask(type: number, fill: (exchange: Exchange) => void, next: Continuation, transaction = 0): void {
    const exchange = new Exchange();
    fill(exchange);
    exchange.next = next;
    this.link.send(exchange, type, transaction, exchange.payload, exchange.length);
  }

  /** The exchange has its answer. It may be used for another request once it has left. */
  answer(exchange: Exchange, type: number, bytes: Uint8Array, start: number, length: number): void {
    if (this.ended !== null) return;
    this.#settle(exchange, type !== XS_ERROR);
    if (this.#owed[0] === exchange) {
      this.#owed.shift();
      this.#send(exchange, type, bytes, start, length);
      while (this.#owed.length > 0 && (this.#owed[0] as Exchange).answerType >= 0) {
        const next = this.#owed.shift() as Exchange;
        const answer = next.answer as Uint8Array;
        this.#send(next, next.answerType, answer, 0, answer.length);
      }
    } else {
      exchange.answerType = type;
      exchange.answer = bytes.slice(start, start + length);
    }
  }

  answerText(exchange: Exchange, text: string): void {
    const bytes = latin1Bytes(`${text}\0`);
    this.answer(exchange, exchange.type, bytes, 0, bytes.length);
  }

  answerError(exchange: Exchange, name: XsErrorName): void {
    const bytes = latin1Bytes(`${name}\0`);
    this.answer(exchange, XS_ERROR, bytes, 0, bytes.length);
  }

  /** Passes a reply on. An error is put together anew. */
  passOn(exchange: Exchange, reply: Reply): void {
    const { error } = reply;
    if (error !== null) this.answerError(exchange, error);
    else this.answer(exchange, exchange.type, reply.bytes, reply.start, reply.end - reply.start);
  }

  /** Not what the protocol says: nothing the policy has a say in. */
  malformed(exchange: Exchange, name: XsErrorName, reason: string): void {
    this.gate.malformed++;
    const operation = typeName(exchange.type);
    if (this.gate.tracing) {
      this.gate.trace(this, { operation, verdict: 'malformed', errno: name, reason });
    }
    this.answerError(exchange, name);
  }

  deny(exchange: Exchange, code: DenialCode, name: XsErrorName, path: string | undefined, reason: string): void {
    this.gate.deny(this, typeName(exchange.type), code, name, path, reason);
    this.answerError(exchange, name);
  }

  /** Notes that a request goes on. */
  grant(exchange: Exchange): void {
    this.gate.granted++;
    if (!this.gate.tracing) return;
    const path = exchange.pathLength === 0 ? undefined : latin1(exchange.payload, 0, exchange.pathLength);
    const operation = typeName(exchange.type);
    this.gate.trace(this, { operation, verdict: 'granted', ...(path !== undefined && { path }) });
  }

  /** For the link: a watch event. */
  event(reply: Reply): void {
    deliverEvent(this, reply);
  }

  // ---- private

  #settle(exchange: Exchange, isMade: boolean): void {
    if (exchange.claim !== null) this.gate.nodes.settle(exchange.claim, isMade);
    exchange.claim = null;
  }

  #mayDecide(): boolean {
    const { outstanding } = this.gate.policy.limits;
    if (this.busy || this.out.size > UNREAD_PAUSE_BYTES) return false;
    return outstanding === 0 || this.#owed.length < outstanding;
  }

  /** Looks at requests that had to wait. */
  #goOn(): void {
    if (this.#inbox.size < XS_HEADER_SIZE || this.ended !== null) return;
    const used = this.#decideAll(this.#inbox.buffer, this.#inbox.size);
    if (this.ended === null && used > 0) this.#inbox.drop(used);
  }

  /** Decides upon the complete requests in `data`. @returns how many bytes they took */
  #decideAll(data: Uint8Array, end: number): number {
    let at = 0;
    while (end - at >= XS_HEADER_SIZE) {
      const length = getU32(data, at + 12);
      if (length > XENSTORE_PAYLOAD_MAX) {
        this.gate.malformed++;
        this.finish(`a message of ${length} bytes`);
        return end;
      }
      if (end - at < XS_HEADER_SIZE + length || this.#waitsForRate || !this.#mayDecide()) break;
      if (!this.gate.rate.take()) {
        this.#waitsForRate = true;
        this.gate.throttled++;
        break;
      }
      this.#decide(data, at, length);
      if (this.ended !== null) return end;
      at += XS_HEADER_SIZE + length;
    }
    return at;
  }

  #decide(data: Uint8Array, at: number, length: number): void {
    const exchange = this.#take();
    exchange.owed = true;
    exchange.type = getU32(data, at);
    exchange.requestId = getU32(data, at + 4);
    exchange.transactionId = getU32(data, at + 8);
    this.#owed.push(exchange);
    this.bytes = data;
    this.start = at + XS_HEADER_SIZE;
    this.end = this.start + length;
    if (exchange.type >= XS_TYPE_COUNT) this.malformed(exchange, 'ENOSYS', 'there is no such operation');
    else decideRequest(this, exchange);
  }

  #setAgain(watch: GateWatch): void {
    this.watches.renumber(watch);
    this.ask(XS_WATCH, (exchange) => watch.fill(exchange), SET_AGAIN);
  }

  #take(): Exchange {
    const exchange = this.#pool.pop() ?? new Exchange();
    exchange.reset();
    return exchange;
  }

  #send(exchange: Exchange, type: number, bytes: Uint8Array, start: number, length: number): void {
    const at = this.out.begin(type, exchange.requestId, exchange.transactionId, length);
    copyBytes(this.out.buffer, at, bytes, start, length);
    if (this.#pool.length < POOL_MAX) this.#pool.push(exchange);
  }
}
