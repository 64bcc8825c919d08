/** Reading a request's payload. The bytes are a client's; nothing here trusts them. */
import { XENSTORE_REL_PATH_MAX } from '../../../abi/xen/xs-wire.js';
import { latin1 } from '../../arena.js';
import type { Decision } from '../bound-policy.js';
import type { Exchange } from '../exchange.js';
import { rightName } from '../rights.js';
import type { GateSession } from '../session.js';

/** Where the string that begins at `from` ends (its nul); -1 without one. */
export function stringEnd(session: GateSession, from: number): number {
  const { bytes, end } = session;
  for (let i = from; i < end; i++) if (bytes[i] === 0) return i;
  return -1;
}

/** The payload as exactly one string: where its nul is, or -1. */
export function oneString(session: GateSession): number {
  const nul = stringEnd(session, session.start);
  return nul === session.end - 1 ? nul : -1;
}

/** The payload as strings, each ended by a nul; null where it is not. */
export function allStrings(session: GateSession): string[] | null {
  const { bytes, start, end } = session;
  if (end === start || bytes[end - 1] !== 0) return null;
  return latin1(bytes, start, end - 1).split('\0');
}

/**
 * Takes the string that begins the payload and ends at `nul` as a path, made absolute; puts it and its nul into the
 * exchange. @returns false after having answered that it is none
 */
export function takePath(session: GateSession, exchange: Exchange, nul: number): boolean {
  const { path, policy } = session.gate;
  if (nul < 0 || !path.parse(session.bytes, session.start, nul, policy.home, XENSTORE_REL_PATH_MAX)) {
    session.malformed(exchange, 'EINVAL', nul < 0 ? 'the payload is not what the operation takes' : 'it is no path');
    return false;
  }
  exchange.append(path.bytes, path.start, path.length);
  exchange.pathLength = path.length;
  exchange.appendByte(0);
  return true;
}

/** As `takePath`, for who has a right on the path. @returns null after having answered */
export function locate(session: GateSession, exchange: Exchange, nul: number, right: number): Decision | null {
  if (!takePath(session, exchange, nul)) return null;
  const decision = session.gate.policy.decide(session.gate.path);
  if ((decision.rights & right) !== 0) return decision;
  denyRight(session, exchange, right);
  return null;
}

export function denyRight(session: GateSession, exchange: Exchange, right: number): void {
  const name = rightName(right);
  session.deny(exchange, name, 'EACCES', pathOf(exchange), `no rule grants ${name}`);
}

export function pathOf(exchange: Exchange): string {
  return latin1(exchange.payload, 0, exchange.pathLength);
}

/** The path in the exchange, parsed again: for continuations. */
export function parsePathOf(session: GateSession, exchange: Exchange): void {
  const { path, policy } = session.gate;
  const length = exchange.pathLength;
  if (!path.parse(exchange.payload, 0, length, policy.home, XENSTORE_REL_PATH_MAX)) throw new Error('no path any more');
}
