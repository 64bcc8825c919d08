/**
 * A session's watches, and what becomes of an event from upstream.
 *
 * Upstream knows a watch by a token of the gate's, which no other watch of the connection ever has: a client's token
 * doesn't go upstream, and an event finds exactly one watch. An event goes to the client
 *
 *     with its path              where the policy lets the client know of that path (read, list or watch)
 *     as one of the watched path where it doesn't, but lets it know of something below: that may have gone with it
 *     not at all                 otherwise: neither names nor that anything has happened
 */
import { XENSTORE_REL_PATH_MAX, XS_WATCH_EVENT } from '../../abi/xen/xs-wire.js';
import { copyBytes, latin1 } from '../arena.js';
import type { Exchange, Reply } from './exchange.js';
import { RIGHTS_TO_KNOW } from './rights.js';
import type { GateSession } from './session.js';

const SLASH = 0x2f;
const TOKEN_LETTER = 0x77; // w
export const NO_DEPTH_LIMIT = -1;

export class GateWatch {
  /** Upstream has said yes. */
  isSet = false;
  /** In the token upstream. */
  number = 0;

  constructor(
    readonly key: string,
    /** Absolute. */
    readonly path: Uint8Array,
    readonly special: boolean,
    /** Bytes of the path that a client who watched a relative path doesn't see. */
    readonly skip: number,
    /** The client's. */
    readonly token: Uint8Array,
    readonly depth: number,
  ) {}

  /** Puts what upstream is to watch into an exchange. Depths of paths are the gate's own affair: daemons differ. */
  fill(exchange: Exchange, withDepth = true): void {
    exchange.append(this.path, 0, this.path.length);
    exchange.pathLength = this.path.length;
    exchange.appendByte(0);
    exchange.appendText(`w${this.number}`);
    if (withDepth && this.special && this.depth !== NO_DEPTH_LIMIT) exchange.appendText(String(this.depth));
  }
}

export class WatchTable {
  readonly #byNumber = new Map<number, GateWatch>();
  readonly #byKey = new Map<string, GateWatch>();
  #next = 1;

  /** Those that upstream may still have. */
  get size(): number {
    return this.#byNumber.size;
  }

  all(): GateWatch[] {
    return [...this.#byNumber.values()];
  }

  /** The client's watch of that path and token. */
  find(key: string): GateWatch | undefined {
    return this.#byKey.get(key);
  }

  byNumber(number: number): GateWatch | undefined {
    return this.#byNumber.get(number);
  }

  add(watch: GateWatch): void {
    this.#byKey.set(watch.key, watch);
    this.#number(watch);
  }

  /** Another connection upstream: what an old one may still say is not meant for the new one. */
  renumber(watch: GateWatch): void {
    this.#byNumber.delete(watch.number);
    this.#number(watch);
  }

  /** The client has given it up; its events still come until upstream has. */
  retire(watch: GateWatch): void {
    if (this.#byKey.get(watch.key) === watch) this.#byKey.delete(watch.key);
  }

  isRetired(watch: GateWatch): boolean {
    return this.#byKey.get(watch.key) !== watch;
  }

  /** @returns false where it was gone already */
  forget(watch: GateWatch): boolean {
    this.retire(watch);
    return this.#byNumber.delete(watch.number);
  }

  clear(): void {
    this.#byNumber.clear();
    this.#byKey.clear();
  }

  #number(watch: GateWatch): void {
    watch.number = this.#next++;
    this.#byNumber.set(watch.number, watch);
  }
}

export function watchKey(path: string, token: string): string {
  return `${path}\0${token}`;
}

export function deliverEvent(session: GateSession, event: Reply): void {
  const { bytes, start } = event;
  const nul = bytes.indexOf(0, start);
  const end = nul < 0 || nul >= event.end ? -1 : bytes.indexOf(0, nul + 1);
  if (end < 0 || end >= event.end) return hide(session, event, 'it is no path and token');
  const watch = session.watches.byNumber(numberOf(bytes, nul + 1, end));
  if (watch === undefined) return hide(session, event, 'no watch has its token'); // given up meanwhile
  const length = nul - start;
  if (!isBelow(watch, bytes, start, length)) return hide(session, event, 'it is not about what is watched');
  if (watch.special || length === watch.path.length) return send(session, watch, bytes, start, length);
  const { path, policy } = session.gate;
  if (!path.parse(bytes, start, nul, policy.home, XENSTORE_REL_PATH_MAX)) return hide(session, event, 'it is no path');
  if (watch.depth >= 0 && levelsBelow(watch, bytes, start, length) > watch.depth) return;
  const { rights, leadsOn } = policy.decide(path);
  if ((rights & RIGHTS_TO_KNOW) !== 0) send(session, watch, bytes, start, length);
  else if (leadsOn) send(session, watch, watch.path, 0, watch.path.length);
  else hide(session, event, 'no rule lets the client know of the path');
}

function numberOf(bytes: Uint8Array, start: number, end: number): number {
  if (bytes[start] !== TOKEN_LETTER || end - start < 2 || end - start > 16) return -1;
  let number = 0;
  for (let i = start + 1; i < end; i++) {
    const digit = (bytes[i] as number) - 0x30;
    if (digit < 0 || digit > 9) return -1;
    number = number * 10 + digit;
  }
  return number;
}

function isBelow(watch: GateWatch, bytes: Uint8Array, start: number, length: number): boolean {
  const { path } = watch;
  if (length < path.length) return false;
  for (let i = 0; i < path.length; i++) if (path[i] !== bytes[start + i]) return false;
  if (length === path.length) return true;
  if (watch.special) return watch.depth === 1 && isDomid(bytes, start + path.length, start + length);
  return path.length === 1 || bytes[start + path.length] === SLASH;
}

/** `/7`, behind the name of a special watch that asked for it. */
function isDomid(bytes: Uint8Array, start: number, end: number): boolean {
  return /^\/\d{1,5}$/.test(latin1(bytes, start, Math.min(end, start + 7)));
}

function levelsBelow(watch: GateWatch, bytes: Uint8Array, start: number, length: number): number {
  let levels = 0;
  const isRoot = watch.path.length === 1;
  for (let i = start + (isRoot ? 0 : watch.path.length); i < start + length; i++) if (bytes[i] === SLASH) levels++;
  return levels;
}

function send(session: GateSession, watch: GateWatch, bytes: Uint8Array, start: number, length: number): void {
  const { out, gate } = session;
  const { token, skip } = watch;
  const total = length - skip + token.length + 2;
  const at = out.begin(XS_WATCH_EVENT, 0, 0, total);
  const to = out.buffer;
  copyBytes(to, at, bytes, start + skip, length - skip);
  to[at + length - skip] = 0;
  copyBytes(to, at + length - skip + 1, token, 0, token.length);
  to[at + total - 1] = 0;
  gate.events++;
  if (!watch.special && out.merge(hashOf(to, at, total), total)) return;
  const limit = gate.policy.limits['unread-bytes'];
  if (limit !== 0 && out.size > limit) session.finish(`the client has left ${out.size} bytes unread`);
}

function hide(session: GateSession, event: Reply, reason: string): void {
  const { gate } = session;
  gate.hidden++;
  if (!gate.tracing) return;
  const path = latin1(event.bytes, event.start, event.end).split('\0', 1)[0] as string;
  gate.trace(session, { operation: 'WATCH_EVENT', verdict: 'hidden', path, reason });
}

function hashOf(bytes: Uint8Array, start: number, length: number): number {
  let hash = length;
  for (let i = start; i < start + length; i++) hash = Math.imul(hash ^ (bytes[i] as number), 0x01000193);
  return hash;
}
