/**
 * One connection's life: requests go out with numbers, replies are matched to them, events go to whom they concern.
 * Requests made in one turn of the event loop leave in one piece.
 *
 *     open ──(close | the transport's end | the server breaks the protocol)──▶ over: whatever waited is told why
 *
 * The server is not trusted: framing, reply numbers and reply types are checked, and what it may leave here is bounded by
 * what was asked.
 * @spec xen:docs/misc/xenstore.txt
 */
import {
  XENSTORE_PAYLOAD_MAX,
  XS_ERROR,
  XS_HEADER_SIZE,
  XS_UNWATCH,
  XS_WATCH,
  XS_WATCH_EVENT,
} from '../../abi/xs-wire.js';
import { onAbort } from './abort.js';
import { errorFromWire, XenStoreError, type XenStoreErrorCode } from './error.js';
import type { Transport } from './transport.js';
import { type Message, MessageReader, oneString, putMessage, strings } from './wire.js';

/** With more than this waiting for replies, requests are refused: the server has stopped answering. */
const MAX_PENDING = 1 << 17;
const MAX_REQUEST_ID = 0xffffffff;
const OUTPUT_BYTES = 1 << 15;

export interface Call<T> {
  readonly type: number;
  readonly payload: Uint8Array;
  /** 0 outside of transactions. */
  readonly transactionId?: number;
  /** For errors. */
  readonly operation: string;
  readonly path?: string;
  readonly signal?: AbortSignal | undefined;
  /** Makes the result of a reply, whose bytes may not be kept. @throws XenStoreError EPROTO */
  decode(reply: Buffer): T;
  /** The caller stopped waiting, and then the server did it. */
  undo?(reply: Buffer): void;
}

interface Pending {
  readonly call: Call<unknown>;
  resolve(value: unknown): void;
  reject(error: unknown): void;
  stopListening: (() => void) | undefined;
  isSent: boolean;
  abandoned: boolean;
}

export interface ConnectionHooks {
  event(path: string, token: string): void;
  /** Not called after `close`. */
  lost(error: XenStoreError): void;
}

export class Connection {
  readonly #transport: Transport;
  readonly #hooks: ConnectionHooks;
  readonly #reader = new MessageReader();
  readonly #pending = new Map<number, Pending>();
  readonly #take = (message: Message): boolean => this.#received(message);
  /** Numbers of those that have yet to be sent, in order. */
  #unsent: number[] = [];
  #outstanding = 0;
  #nextId = 1;
  #output = Buffer.allocUnsafeSlow(OUTPUT_BYTES);
  #outputFrom = 0;
  #outputTo = 0;
  #flushing = false;
  /** Why it is over. */
  #end: { code: XenStoreErrorCode; detail: string } | undefined;

  constructor(transport: Transport, hooks: ConnectionHooks) {
    this.#transport = transport;
    this.#hooks = hooks;
    transport.start({
      data: (chunk) => this.#data(chunk),
      refused: (requestId, code) => this.#refused(requestId, code),
      ended: (reason) => this.#lose('ECONNRESET', `the connection to ${transport.path} was lost: ${reason}`),
    });
  }

  get path(): string {
    return this.#transport.path;
  }

  /** @throws XenStoreError, or the signal's reason. The request may have been done in spite of an abort. */
  request<T>(call: Call<T>): Promise<T> {
    const { payload, operation, path, signal } = call;
    if (this.#end !== undefined) return Promise.reject(this.#failure(call));
    if (signal?.aborted) return Promise.reject(signal.reason);
    const { maxPayload } = this.#transport;
    if (payload.length > maxPayload) {
      const detail = `${payload.length} bytes, of which a message holds ${maxPayload}`;
      return Promise.reject(new XenStoreError('E2BIG', operation, path, detail));
    }
    if (this.#pending.size >= MAX_PENDING) {
      const detail = `${MAX_PENDING} requests wait for the server's replies`;
      return Promise.reject(new XenStoreError('EBUSY', operation, path, detail));
    }
    return new Promise<T>((resolve, reject) => {
      const id = this.#newId();
      const pending: Pending = {
        call: call as Call<unknown>,
        resolve: resolve as (value: unknown) => void,
        reject,
        stopListening: undefined,
        isSent: false,
        abandoned: false,
      };
      if (signal !== undefined) pending.stopListening = onAbort(signal, () => this.#abandon(id, pending));
      this.#pending.set(id, pending);
      if (this.#outstanding < this.#transport.maxOutstanding) this.#put(pending, id);
      else this.#unsent.push(id);
    });
  }

  /** Ends it. Whatever waits is rejected with ECANCELED. */
  close(): void {
    this.#finish('ECANCELED', 'the client was closed');
  }

  #newId(): number {
    do {
      this.#nextId = this.#nextId === MAX_REQUEST_ID ? 1 : this.#nextId + 1;
    } while (this.#pending.has(this.#nextId));
    return this.#nextId;
  }

  #put(pending: Pending, id: number): void {
    const { call } = pending;
    pending.isSent = true;
    this.#outstanding++;
    const length = XS_HEADER_SIZE + call.payload.length;
    if (this.#outputTo + length > this.#output.length) {
      this.#send();
      this.#output = Buffer.allocUnsafeSlow(OUTPUT_BYTES);
      this.#outputFrom = 0;
      this.#outputTo = 0;
    }
    this.#outputTo = putMessage(this.#output, this.#outputTo, call.type, id, call.transactionId ?? 0, call.payload);
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => {
      this.#flushing = false;
      this.#send();
    });
  }

  #send(): void {
    if (this.#outputFrom === this.#outputTo || this.#end !== undefined) return;
    const messages = this.#output.subarray(this.#outputFrom, this.#outputTo);
    this.#outputFrom = this.#outputTo;
    this.#transport.send(messages);
  }

  #data(chunk: Buffer): void {
    if (this.#end !== undefined) return;
    if (!this.#reader.push(chunk, this.#take)) this.#broken(`a message of more than ${XENSTORE_PAYLOAD_MAX} bytes`);
  }

  /** @returns whether to go on */
  #received(message: Message): boolean {
    const { type, requestId, payload } = message;
    if (type === XS_WATCH_EVENT) {
      const [path, token] = strings(payload);
      if (path === undefined || token === undefined) return this.#broken('an event without path and token');
      this.#hooks.event(path, token);
      return this.#end === undefined;
    }
    const id = this.#requestOf(type, requestId);
    const pending = this.#pending.get(id);
    if (pending === undefined) return this.#broken(`a reply to request ${requestId}, which nobody waits for`);
    const { call } = pending;
    if (type !== call.type && type !== XS_ERROR) return this.#broken(`a reply of type ${type} to ${call.operation}`);
    this.#forget(id, pending);
    if (type === XS_ERROR) pending.reject(errorFromWire(oneString(payload), call.operation, call.path));
    else if (pending.abandoned) undo(call, payload);
    else settle(pending, payload);
    return this.#end === undefined;
  }

  /** A request is over: it is forgotten, and the next may go. */
  #forget(id: number, pending: Pending): void {
    this.#pending.delete(id);
    pending.stopListening?.();
    if (!pending.isSent) return;
    this.#outstanding--;
    while (this.#unsent.length > 0 && this.#outstanding < this.#transport.maxOutstanding) {
      const next = this.#unsent.shift() as number;
      const waiting = this.#pending.get(next);
      if (waiting !== undefined) this.#put(waiting, next);
    }
  }

  /** Nobody waits for it any more. Once it is sent it stays known, as its reply will come. */
  #abandon(id: number, pending: Pending): void {
    pending.abandoned = true;
    if (!pending.isSent) this.#forget(id, pending);
    pending.reject(pending.call.signal?.reason);
  }

  #requestOf(type: number, requestId: number): number {
    const isUnnumbered = requestId === 0 && (type === XS_WATCH || type === XS_UNWATCH);
    if (!isUnnumbered || !this.#transport.answersWatchesItself) return requestId;
    for (const [id, { call, isSent }] of this.#pending) if (isSent && call.type === type) return id;
    return requestId;
  }

  #refused(requestId: number, code: string): void {
    const pending = this.#pending.get(requestId);
    if (pending === undefined) return;
    this.#forget(requestId, pending);
    pending.reject(errorFromWire(code, pending.call.operation, pending.call.path));
  }

  #broken(what: string): false {
    this.#lose('EPROTO', `the server at ${this.path} broke the protocol: ${what}`);
    return false;
  }

  #lose(code: XenStoreErrorCode, detail: string): void {
    if (this.#finish(code, detail)) this.#hooks.lost(new XenStoreError(code, 'connection', undefined, detail));
  }

  #finish(code: XenStoreErrorCode, detail: string): boolean {
    if (this.#end !== undefined) return false;
    this.#end = { code, detail };
    this.#transport.close();
    const all = [...this.#pending.values()];
    this.#pending.clear();
    this.#unsent = [];
    for (const pending of all) {
      pending.stopListening?.();
      pending.reject(this.#failure(pending.call));
    }
    return true;
  }

  #failure(call: Call<unknown>): XenStoreError {
    const { code, detail } = this.#end as { code: XenStoreErrorCode; detail: string };
    return new XenStoreError(code, call.operation, call.path, detail);
  }
}

function undo(call: Call<unknown>, payload: Buffer): void {
  try {
    call.undo?.(payload);
  } catch (error) {
    if (!(error instanceof XenStoreError)) throw error; // nobody waits for a malformed reply
  }
}

function settle(pending: Pending, payload: Buffer): void {
  try {
    pending.resolve(pending.call.decode(payload));
  } catch (error) {
    pending.reject(error);
  }
}
