/**
 * The request being served: its bytes, what its sender may do, and how it is answered. One object serves all requests, one
 * after the other, so that a request costs no allocation of its own.
 *
 * An operation returns null after it has replied, or the name of the error to reply with. Nothing is thrown for what a
 * client does; a thrown error is our bug.
 */
import { XENSTORE_PAYLOAD_MAX, type XsErrorName } from '../abi/xen/xs-wire.js';
import { copyBytes, latin1, latin1Bytes } from './arena.js';
import type { Connection } from './connection.js';
import type { Entry } from './node.js';
import { Path } from './path.js';
import type { XenstoreServer } from './server.js';
import { EXISTENCE, nearestAbove, type View } from './view.js';

/** Null: the operation has replied. */
export type Outcome = XsErrorName | null;

const OK = latin1Bytes('OK\0');
/** Replies up to this size are never refused for want of memory: they carry the errors. */
const SMALL_REPLY = 256;

export class Request {
  readonly server: XenstoreServer;
  readonly path: Path;
  connection!: Connection;
  view!: View;
  type = 0;
  requestId = 0;
  transactionId = 0;
  /** The payload. */
  bytes: Uint8Array = new Uint8Array(0);
  start = 0;
  end = 0;
  /** Why the last `locate` found nothing. */
  error: XsErrorName = 'EINVAL';

  constructor(server: XenstoreServer, hashSeed: number) {
    this.server = server;
    this.path = new Path(hashSeed);
  }

  // ---- reading the payload

  /** Where the string that begins at `from` ends (its nul); -1 without one. */
  stringEnd(from: number): number {
    const bytes = this.bytes;
    for (let i = from; i < this.end; i++) if (bytes[i] === 0) return i;
    return -1;
  }

  /** The payload as exactly one string: where its nul is, or -1. */
  oneString(): number {
    const nul = this.stringEnd(this.start);
    return nul === this.end - 1 ? nul : -1;
  }

  /** Offsets of the first `max` strings, and one past the nul of the last. Bytes behind the last nul are ignored. */
  strings(max: number): number[] {
    const offsets = [this.start];
    for (let at = this.start; offsets.length <= max; ) {
      const nul = this.stringEnd(at);
      if (nul < 0) break;
      at = nul + 1;
      offsets.push(at);
    }
    return offsets;
  }

  /** Number of strings in the payload. */
  countStrings(): number {
    let count = 0;
    for (let i = this.start; i < this.end; i++) if (this.bytes[i] === 0) count++;
    return count;
  }

  text(from: number, until: number): string {
    return latin1(this.bytes, from, until);
  }

  /** All strings of the payload, for the rare operations that take several. */
  texts(max: number): string[] {
    const offsets = this.strings(max);
    return offsets.slice(1).map((next, i) => this.text(offsets[i] as number, next - 1));
  }

  /** Takes `bytes[from, until)` as the request's path. */
  parsePath(from: number, until: number): boolean {
    const { connection } = this;
    return this.path.parse(this.bytes, from, until, connection.home, this.server.quotas.pathMax(connection.domain));
  }

  // ---- finding the node

  /** As `locate`, for operations whose payload is one path. */
  locateOnly(rights: number, depends: number): Entry | null {
    const nul = this.end - 1;
    // A nul before the last is no byte of a path: `locate` refuses it.
    if (nul >= this.start && this.bytes[nul] === 0) return this.locate(this.start, nul, rights, depends);
    this.error = 'EINVAL';
    return null;
  }

  /**
   * The entry at a path, for a sender with these rights on it. Otherwise null, with the reason in `error`: ENOENT only for
   * who has one of the rights on what is above, so that an error tells nothing about what the sender may not see.
   */
  locate(from: number, until: number, rights: number, depends: number): Entry | null {
    if (!this.parsePath(from, until)) {
      this.error = 'EINVAL';
      return null;
    }
    const { path, view, connection } = this;
    const entry = view.find(path.hash, path.bytes, path.start, path.length, depends);
    if (view.failed !== null) {
      this.error = view.failed;
      return null;
    }
    if (entry !== null) {
      if ((entry.perms.rightsOf(connection) & rights) === rights) return entry;
      this.error = 'EACCES';
      return null;
    }
    this.error = 'ENOENT';
    if (!connection.privileged) {
      const above = nearestAbove(view, path, EXISTENCE);
      if (above === null) this.error = view.failed ?? 'EIO';
      else if ((above.perms.rightsOf(connection) & rights) === 0) this.error = 'EACCES';
    }
    return null;
  }

  /** For a path that isn't there: null where what is directly above it is, else the error. */
  checkParent(): XsErrorName | null {
    const { path, view } = this;
    const above = nearestAbove(view, path, EXISTENCE);
    if (above === null) return view.failed;
    const parentLength = path.depth < 2 ? 1 : (path.prefixLength[path.depth - 2] as number);
    return above.pathLength === parentLength ? null : 'ENOENT';
  }

  // ---- replying

  ok(): null {
    return this.reply(OK);
  }

  reply(payload: Uint8Array): null {
    const at = this.beginReply(payload.length);
    if (at >= 0) copyBytes(this.connection.out.buffer, at, payload, 0, payload.length);
    return this.endReply(at, payload.length);
  }

  /** A number in decimal, with its nul. */
  replyNumber(value: number): null {
    let length = 2;
    for (let rest = value; rest >= 10; rest = Math.floor(rest / 10)) length++;
    const at = this.beginReply(length);
    if (at < 0) return null;
    const { buffer } = this.connection.out;
    buffer[at + length - 1] = 0;
    for (let i = at + length - 2, rest = value; i >= at; i--, rest = Math.floor(rest / 10))
      buffer[i] = 0x30 + (rest % 10);
    return this.endReply(at, length);
  }

  replyText(text: string): null {
    return this.reply(latin1Bytes(text));
  }

  /** A reply whose payload the caller writes to `connection.out.buffer`; -1 where an error went out instead. */
  beginReply(length: number): number {
    const { connection } = this;
    if (length > XENSTORE_PAYLOAD_MAX) {
      connection.sendError(this, 'E2BIG');
      return -1;
    }
    if (length > SMALL_REPLY && !connection.privileged && !this.server.quotas.mayGrow(connection.domain, length)) {
      this.server.quotas.deny(connection.domain, 'memory', 'ENOMEM', `a reply of ${length} bytes`);
      connection.sendError(this, 'ENOMEM');
      return -1;
    }
    return connection.out.begin(this.type, this.requestId, this.transactionId, length);
  }

  endReply(at: number, length: number): null {
    if (at >= 0) this.connection.replied(length);
    return null;
  }
}

/** A decimal number as C's `atoi` reads it: leading blanks, a sign, digits, then anything; 0 without digits; 32 bits. */
export function atoi(text: string): number {
  const match = /^[ \t\n\v\f\r]*([+-]?\d+)/.exec(text);
  if (match === null) return 0;
  const value = Number(match[1]);
  return Math.max(-0x80000000, Math.min(0x7fffffff, value));
}

/** A number as C's `strtol` with base 0 reads it, if it takes the whole text; else null. */
export function strtolAll(text: string): number | null {
  const match = /^[ \t\n\v\f\r]*([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9]\d*)$/.exec(text);
  if (match === null) return null;
  const digits = match[2] as string;
  const octal = digits.length > 1 && digits[0] === '0' && !/^0[xX]/.test(digits);
  const magnitude = octal ? Number.parseInt(digits, 8) : Number(digits);
  return match[1] === '-' ? -magnitude : magnitude;
}
