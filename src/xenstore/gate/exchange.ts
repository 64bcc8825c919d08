/**
 * One request on its way: what the client asked, what has been sent upstream for it, and what happens with the reply.
 *
 *     client ──request──▶ (decided) ──sent──▶ in flight ──reply──▶ continuation ──▶ answered ──in order──▶ client
 *                             └──refused──────────────────────────────────────────────▲
 *
 * Exchanges are used again and again, so that a request allocates nothing once a connection is warm.
 */
import { XS_ERROR, XSD_ERRORS, type XsErrorName } from '../../abi/xen/xs-wire.js';
import { copyBytes, latin1, latin1Bytes } from '../arena.js';
import type { Claim, Removal } from './node-account.js';
import type { GateSession } from './session.js';

/** A client's transaction. */
export interface GateTransaction {
  /** What the client knows it by. */
  readonly id: number;
  readonly upstreamId: number;
  /** Upstream has forgotten it: it can only fail to commit. */
  lost: boolean;
  /** Counted nodes that are gone if it commits, by path. */
  readonly removed: Map<string, Removal>;
}

/** A message from upstream, as long as it is looked at. */
export class Reply {
  type = 0;
  bytes: Uint8Array = new Uint8Array(0);
  start = 0;
  end = 0;

  /** One that the gate makes itself. */
  static of(type: number, error: XsErrorName | null): Reply {
    const reply = new Reply();
    reply.type = error === null ? type : XS_ERROR;
    reply.bytes = latin1Bytes(`${error ?? 'OK'}\0`);
    reply.end = reply.bytes.length;
    return reply;
  }

  /** Null where it is no error. A name that clients don't know is EIO. */
  get error(): XsErrorName | null {
    if (this.type !== XS_ERROR) return null;
    const name = this.text;
    return XSD_ERRORS.find((known) => known === name) ?? 'EIO';
  }

  /** The payload without the nul that ends it. */
  get text(): string {
    const last = this.end > this.start && this.bytes[this.end - 1] === 0 ? this.end - 1 : this.end;
    return latin1(this.bytes, this.start, last);
  }
}

/** What happens with the reply to the request that an exchange sent last. */
export interface Continuation {
  replied(session: GateSession, exchange: Exchange, reply: Reply): void;
  /** The upstream connection was lost. Without it, the same request is sent again on the next one. */
  lost?(session: GateSession, exchange: Exchange): void;
}

const INITIAL_BYTES = 256;
/** A buffer that has grown beyond this is not kept for the next request. */
const KEEP_BYTES = 1024;

export class Exchange {
  /** The client's header. */
  type = 0;
  requestId = 0;
  transactionId = 0;
  transaction: GateTransaction | null = null;
  /** Whether the client waits for an answer; else the gate asks for itself. */
  owed = false;
  /** An answer that has to wait for those before it. */
  answerType = -1;
  answer: Uint8Array | null = null;
  /** What goes upstream: always put together here, never the client's own bytes as they came. */
  payload = new Uint8Array(INITIAL_BYTES);
  length = 0;
  /** Nodes counted for it, until it is answered. */
  claim: Claim | null = null;
  /** Length of the path that the payload begins with. */
  pathLength = 0;
  /** Of the request that is in flight. */
  sentId = 0;
  sentType = 0;
  sentTransaction = 0;
  sentBytes: Uint8Array = this.payload;
  sentLength = 0;
  next!: Continuation;
  /** What the continuation keeps. */
  state: unknown = null;

  /** Ready for another request. */
  reset(): void {
    if (this.payload.length > KEEP_BYTES) this.payload = new Uint8Array(INITIAL_BYTES);
    this.length = 0;
    this.pathLength = 0;
    this.transaction = null;
    this.claim = null;
    this.owed = false;
    this.answerType = -1;
    this.answer = null;
    this.sentBytes = this.payload;
    this.state = null;
  }

  append(bytes: Uint8Array, start: number, length: number): void {
    this.#reserve(length);
    copyBytes(this.payload, this.length, bytes, start, length);
    this.length += length;
  }

  appendByte(byte: number): void {
    this.#reserve(1);
    this.payload[this.length++] = byte;
  }

  /** A text and the nul that ends it. */
  appendText(text: string): void {
    this.#reserve(text.length + 1);
    for (let i = 0; i < text.length; i++) this.payload[this.length++] = text.charCodeAt(i);
    this.payload[this.length++] = 0;
  }

  #reserve(more: number): void {
    if (this.length + more <= this.payload.length) return;
    const grown = new Uint8Array(Math.max(2 * this.payload.length, this.length + more));
    grown.set(this.payload.subarray(0, this.length));
    this.payload = grown;
  }
}
