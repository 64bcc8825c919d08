/**
 * One client: its byte stream cut into requests, its transactions and watches, and what waits to be sent to it.
 *
 * Trusts nobody. A message is looked at once it is complete; the length is checked as soon as the header is. A client that
 * breaks the framing is given up, as nothing after it can be understood.
 *
 *     open ──(close, or the transport's end)──▶ closed
 *       └───(oversized message, output limit)──▶ closed, the sink is told why
 *
 * While a client owes too much (outstanding requests, memory) or others go first (`parked`), its requests wait unread in
 * `#inbox` and `wantsInput` is false.
 */
import {
  XENSTORE_PAYLOAD_MAX,
  XS_ERROR,
  XS_HEADER_SIZE,
  XS_WATCH_EVENT,
  XSD_ERRORS,
  type XsErrorName,
} from '../abi/xen/xs-wire.js';
import { copyBytes, latin1Bytes } from './arena.js';
import type { Domain } from './domains.js';
import { Inbox } from './inbox.js';
import { OPERATIONS } from './operations/index.js';
import { getU32, OutputQueue } from './output-queue.js';
import type { Path } from './path.js';
import type { Request } from './request.js';
import type { XenstoreServer } from './server.js';
import type { Transaction } from './transaction.js';
import type { Contention } from './turns.js';
import type { Actor, Cause } from './view.js';
import type { Watch } from './watches.js';

/** With more than this waiting to be sent, a client's requests wait too. */
const OUTPUT_PAUSE_BYTES = 256 * 1024;
/** With more than this, a client of unlimited memory has stopped reading for good. */
const OUTPUT_MAX_BYTES = 8 * 1024 * 1024;

export type ConnectionKind = 'socket' | 'ring';

/** Why the server gave a connection up. */
export type CloseReason = 'protocol' | 'output-limit' | 'released' | 'replaced';

/** What a transport does for its connection. */
export interface ConnectionSink {
  /**
   * There is output to send (once, until all of it has been sent), or input is wanted again. May come in the middle of
   * another connection's request: note it, act after the present call has returned.
   */
  ready(): void;
  /** The connection is over from this side. Not called for `close()`. */
  closed(reason: CloseReason): void;
}

/** How far the two queues of a ring have come, in bytes, modulo 2^32. */
export interface RingPosition {
  readonly consumed: number;
  readonly produced: number;
}

/** What a ring's transport can say and do where a restarted daemon is to go on exactly where the former one stood. */
export interface RingTransport {
  readonly position: RingPosition;
  resume(position: RingPosition): number;
}

const ERROR_PAYLOAD = new Map<XsErrorName, Uint8Array>(XSD_ERRORS.map((name) => [name, latin1Bytes(`${name}\0`)]));

export class Connection implements Actor {
  readonly server: XenstoreServer;
  readonly kind: ConnectionKind;
  /** Tells connections apart in traces. */
  readonly id: number;
  /** Whose rights and account this is. RESTRICT changes it. */
  domain: Domain;
  /** Whose it was at first. */
  readonly origin: Domain;
  privileged: boolean;
  /** What relative paths are relative to. */
  readonly home: Uint8Array;
  readonly out: OutputQueue;
  readonly watches = new Map<string, Watch>();
  readonly transactions = new Map<number, Transaction>();
  /** Set by a ring's transport. */
  ring: RingTransport | null = null;
  contention: Contention | null = null;
  parked = false;
  hasWaited = false;
  readonly #sink: ConnectionSink;
  #open = true;
  #notified = false;
  #nextTransaction = 1;
  #cause: Cause | null = null;
  readonly #inbox = new Inbox();

  constructor(
    server: XenstoreServer,
    id: number,
    kind: ConnectionKind,
    domain: Domain,
    privileged: boolean,
    sink: ConnectionSink,
  ) {
    this.server = server;
    this.id = id;
    this.kind = kind;
    this.domain = this.origin = domain;
    this.privileged = privileged;
    this.home = latin1Bytes(`/local/domain/${domain.domid}`);
    this.#sink = sink;
    this.out = new OutputQueue((cause) => settle(cause));
  }

  get open(): boolean {
    return this.#open;
  }

  /** Whether the transport should read on. */
  get wantsInput(): boolean {
    return this.#open && this.#mayProcess();
  }

  /** Bytes from the client: the first `length` of a chunk, which is the caller's again when this returns. */
  receive(chunk: Uint8Array, length = chunk.length): void {
    if (!this.#open) return;
    this.moved();
    this.server.enter();
    if (this.#inbox.size === 0) {
      const used = this.#process(chunk, length);
      if (this.#open && used < length) this.#inbox.add(chunk, used, length);
    } else {
      this.#inbox.add(chunk, 0, length);
      this.#processInbox();
    }
    this.server.leave();
  }

  /** What to send. Valid until the next call. */
  output(): Uint8Array {
    return this.out.bytes();
  }

  /** Likewise, copied to where a transport sends from, as much as there is room. @returns how many bytes */
  copyOutput(to: Uint8Array): number {
    return this.out.copyTo(to);
  }

  /** The client has taken the first `count` bytes of the output. */
  sent(count: number): void {
    if (count === 0 || !this.#open) return;
    this.server.enter();
    this.out.consume(count);
    if (!this.privileged) this.domain.memory -= count;
    if (this.out.size === 0) {
      this.#notified = false;
      if (!this.privileged) this.server.expiring.delete(this);
    }
    if (this.#inbox.size >= XS_HEADER_SIZE) this.server.schedule(this);
    this.server.leave();
  }

  /** The client has gone. Everything it had goes with it. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.server.enter();
    this.server.disconnected(this);
    this.reset();
    if (this.kind === 'ring' && this.origin.alive) this.server.store.observer?.domainChanged(this.origin);
    this.#inbox.clear();
    this.server.leave();
  }

  /** Ends the connection from this side. */
  giveUp(reason: CloseReason): void {
    if (!this.#open) return;
    this.#sink.closed(reason);
    this.close();
  }

  /** Drops watches, transactions and what waits to be sent. */
  reset(): void {
    this.removeAllWatches();
    this.endAllTransactions();
    if (!this.privileged) this.domain.memory -= this.out.size;
    this.out.clear();
    this.#notified = false;
    this.#cause = null;
    this.moved();
  }

  /** What has been received and what waits to be sent is another: rings outlive the daemon. */
  moved(): void {
    if (this.kind === 'ring') this.server.store.observer?.ringMoved(this);
  }

  removeAllWatches(): void {
    for (const watch of this.watches.values()) this.dropWatch(watch);
  }

  /** @param skip bytes of the path that the client doesn't see, having given a relative one */
  addWatch(path: Path, token: Uint8Array, key: string, skip: number, depth: number): void {
    const { watches, store } = this.server;
    const watch = watches.add(this, path, token, key, skip, depth, store.table);
    this.watches.set(key, watch);
    this.domain.watches++;
    this.domain.memory += watch.memory;
    store.observer?.watchAdded(watch);
  }

  dropWatch(watch: Watch): void {
    this.watches.delete(watch.key);
    this.domain.watches--;
    this.domain.memory -= watch.memory;
    this.server.store.observer?.watchRemoved(watch);
    this.server.watches.remove(watch);
  }

  endAllTransactions(): void {
    for (const transaction of this.transactions.values()) transaction.discard();
    this.domain.transactions -= this.transactions.size;
    this.transactions.clear();
    this.server.turns.ended(this);
  }

  /** A number that no transaction of this connection has. */
  newTransactionId(): number {
    for (;;) {
      const id = this.#nextTransaction;
      this.#nextTransaction = id === 0xffffffff ? 1 : id + 1;
      if (!this.transactions.has(id)) return id;
    }
  }

  /** RESTRICT has made it another domain's. */
  get restricted(): boolean {
    return this.domain !== this.origin;
  }

  /** Bytes received and not yet served. Not to be kept. */
  get pendingInput(): Uint8Array {
    return this.#inbox.buffer.subarray(0, this.#inbox.size);
  }

  /**
   * Live update: what a predecessor had read and not yet served, and not yet sent. Requests are served once the server
   * settles. What an unprivileged client has not taken counts as one outstanding request a reply.
   * @param partial bytes of `output` that end a message sent in part
   */
  takeOver(input: Uint8Array, partial: number, output: Uint8Array): void {
    if (input.length > 0) this.#inbox.add(input, 0, input.length);
    for (let at = 0; at < output.length; ) {
      const length = at < partial ? partial : XS_HEADER_SIZE + getU32(output, at + 12);
      const isEvent = at >= partial && getU32(output, at) === XS_WATCH_EVENT;
      this.out.append(output.subarray(at, at + length), at < partial);
      if (!this.privileged) {
        this.domain.memory += length;
        if (!isEvent) this.domain.outstanding++;
        const cause = isEvent ? null : { pending: 1, connection: this };
        this.out.mark(length - XS_HEADER_SIZE, cause, isEvent ? this.server.eventExpiry() : 0);
        if (isEvent) this.server.expiring.add(this);
      }
      at += length;
    }
    if (output.length > 0) this.#notify();
    if (input.length > 0) this.server.schedule(this);
  }

  /** RESTRICT: from now on this connection is that domain's, for rights and for accounting. */
  become(domain: Domain): void {
    for (const account of [this.domain, domain]) {
      const sign = account === domain ? 1 : -1;
      account.watches += sign * this.watches.size;
      for (const watch of this.watches.values()) account.memory += sign * watch.memory;
    }
    this.domain = domain;
    if (this.privileged) domain.memory += this.out.size;
    this.privileged = false;
  }

  // ---- sending

  cause(): Cause | null {
    if (this.privileged) return null;
    this.#cause ??= { pending: 1, connection: this };
    return this.#cause;
  }

  /** A reply of `length` bytes of payload has been put into `out`. */
  replied(length: number): void {
    this.server.traceOut(this, length);
    if (!this.privileged) {
      this.domain.memory += XS_HEADER_SIZE + length;
      this.domain.outstanding++;
      this.out.mark(length, this.cause(), 0);
    }
    this.#notify();
  }

  /** Answers a privileged client's request that was left unanswered. @returns bytes that `withdraw` could take back */
  lateReply(type: number, requestId: number, text: string): number {
    const payload = latin1Bytes(`${text}\0`);
    const at = this.out.begin(type, requestId, 0, payload.length);
    copyBytes(this.out.buffer, at, payload, 0, payload.length);
    this.replied(payload.length);
    return XS_HEADER_SIZE + payload.length;
  }

  sendError(request: Request, name: XsErrorName): void {
    const payload = ERROR_PAYLOAD.get(name) as Uint8Array;
    const at = this.out.begin(XS_ERROR, request.requestId, request.transactionId, payload.length);
    copyBytes(this.out.buffer, at, payload, 0, payload.length);
    this.server.countError(request.type, name);
    this.replied(payload.length);
  }

  /** @param mergeable dropped where an identical event waits already */
  sendEvent(
    path: Uint8Array,
    start: number,
    length: number,
    token: Uint8Array,
    cause: Cause | null,
    mergeable: boolean,
  ): void {
    if (!this.#open) return;
    const total = length + token.length + 2;
    const { quotas } = this.server;
    if (total > XENSTORE_PAYLOAD_MAX) {
      quotas.deny(this.domain, 'event-size', null, `an event of ${total} bytes`);
      return;
    }
    if (this.privileged ? this.out.size > OUTPUT_MAX_BYTES : !quotas.mayGrow(this.domain, XS_HEADER_SIZE + total)) {
      quotas.deny(this.domain, 'output', null, `an event to a client with ${this.out.size} bytes unread`);
      if (this.privileged) this.giveUp('output-limit');
      return;
    }
    const at = this.out.begin(XS_WATCH_EVENT, 0, 0, total);
    const b = this.out.buffer;
    copyBytes(b, at, path, start, length);
    b[at + length] = 0;
    copyBytes(b, at + length + 1, token, 0, token.length);
    b[at + total - 1] = 0;
    if (mergeable && this.out.merge(hashOf(b, at, total), total)) return;
    this.server.traceOut(this, total);
    if (cause !== null) cause.pending++;
    if (!this.privileged) {
      this.domain.memory += XS_HEADER_SIZE + total;
      this.out.mark(total, cause, this.server.eventExpiry());
      this.server.expiring.add(this);
    } else if (cause !== null) {
      this.out.mark(total, cause, 0);
    }
    this.#notify();
  }

  /** Drops events that have waited too long for an unprivileged client. */
  dropExpired(now: number): void {
    const dropped = this.out.dropExpired(now);
    if (dropped === 0) return;
    this.moved();
    this.domain.memory -= dropped;
    this.server.quotas.deny(this.domain, 'event-timeout', null, `${dropped} bytes of events not taken in time`);
    if (this.out.size === 0) this.#notified = false;
  }

  /** Goes on with requests that had to wait. */
  resume(): void {
    if (!this.#open || !this.#mayProcess()) return;
    this.#processInbox();
    if (this.wantsInput) this.#sink.ready();
  }

  // ---- receiving

  #mayProcess(): boolean {
    if (this.parked || this.out.size > OUTPUT_PAUSE_BYTES) return false;
    if (this.privileged) return true;
    const { domain, server } = this;
    const { outstanding, memory } = server.quotas.of(domain);
    return (outstanding === 0 || domain.outstanding < outstanding) && (memory === 0 || domain.memory < memory);
  }

  #processInbox(): void {
    const used = this.#process(this.#inbox.buffer, this.#inbox.size);
    if (this.#open && used > 0) this.#inbox.drop(used);
  }

  /** Serves the complete requests in `data`; returns how many bytes they took. */
  #process(data: Uint8Array, end: number): number {
    let at = 0;
    while (end - at >= XS_HEADER_SIZE) {
      const length = getU32(data, at + 12);
      if (length > XENSTORE_PAYLOAD_MAX) {
        this.server.quotas.deny(this.domain, 'protocol', null, `a message of ${length} bytes`);
        this.giveUp('protocol');
        return end;
      }
      if (end - at < XS_HEADER_SIZE + length) break;
      if (!this.#mayProcess()) {
        this.server.blocked(this);
        break;
      }
      this.#serve(data, at, length);
      if (!this.#open) return end;
      if (this.parked) break;
      at += XS_HEADER_SIZE + length;
    }
    return at;
  }

  #serve(data: Uint8Array, at: number, length: number): void {
    const { server } = this;
    const { request } = server;
    request.connection = this;
    request.type = getU32(data, at);
    request.requestId = getU32(data, at + 4);
    request.transactionId = getU32(data, at + 8);
    request.bytes = data;
    request.start = at + XS_HEADER_SIZE;
    request.end = request.start + length;
    const error = this.#dispatch(request);
    if (this.parked) return;
    this.hasWaited = false;
    if (error !== null && this.#open) this.sendError(request, error);
    this.#cause = null;
  }

  #dispatch(request: Request): XsErrorName | null {
    const { server } = this;
    const operation = OPERATIONS[request.type];
    if (operation === undefined) {
      server.traceIn(request);
      return 'ENOSYS';
    }
    if (operation.privileged && !this.privileged) {
      server.traceIn(request);
      return server.quotas.deny(this.domain, 'privilege', 'EACCES', `${operation.name} by an unprivileged client`);
    }
    request.view = server.store;
    if (request.transactionId !== 0 && !operation.ignoresTransaction) {
      const transaction = this.transactions.get(request.transactionId);
      if (transaction === undefined) {
        server.traceIn(request);
        return 'ENOENT';
      }
      request.view = transaction;
    }
    if (operation.mustWait?.(request)) return null;
    server.traceIn(request);
    server.requests[request.type]!++;
    return operation.run(request);
  }

  #notify(): void {
    this.moved();
    if (this.#notified) return;
    this.#notified = true;
    this.#sink.ready();
  }
}

/** A marked message has been taken or dropped: with the last one of a request, that is no longer outstanding. */
function settle(cause: Cause): void {
  if (--cause.pending > 0) return;
  const { connection } = cause;
  connection.domain.outstanding--;
  connection.server.schedule(connection);
}

function hashOf(bytes: Uint8Array, start: number, length: number): number {
  let hash = length;
  for (let i = start; i < start + length; i++) hash = Math.imul(hash ^ (bytes[i] as number), 0x01000193);
  return hash;
}
