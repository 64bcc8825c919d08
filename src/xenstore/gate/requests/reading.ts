/** READ, GET_PERMS, DIRECTORY, DIRECTORY_PART, GET_DOMAIN_PATH, IS_DOMAIN_INTRODUCED. */
import { XENSTORE_PAYLOAD_MAX, XS_DIRECTORY_PART } from '../../../abi/xen/xs-wire.js';
import { latin1, latin1Bytes } from '../../arena.js';
import type { Continuation, Exchange, Reply } from '../exchange.js';
import { RIGHT_LIST, RIGHT_READ } from '../rights.js';
import type { GateSession } from '../session.js';
import { allStrings, locate, oneString, parsePathOf, stringEnd } from './argument.js';

const PASS_ON: Continuation = { replied: (session, exchange, reply) => session.passOn(exchange, reply) };

/** Bytes of names that one listing may gather. */
const LISTING_MAX = 1 << 20;
/** Times that a listing begins again because children came or went meanwhile. */
const LISTING_TRIES = 64;

/** READ path|, GET_PERMS path|. */
export function readNode(session: GateSession, exchange: Exchange): void {
  if (locate(session, exchange, oneString(session), RIGHT_READ) === null) return;
  session.grant(exchange);
  session.forward(exchange, PASS_ON);
}

/** DIRECTORY path|: children that the policy doesn't name are left out. */
export function listNode(session: GateSession, exchange: Exchange): void {
  const decision = locate(session, exchange, oneString(session), RIGHT_LIST);
  if (decision === null) return;
  session.grant(exchange);
  session.forward(exchange, decision.showsAll ? PASS_ON : FILTER);
}

const FILTER: Continuation = {
  replied(session, exchange, reply) {
    if (reply.error !== null) return session.passOn(exchange, reply);
    const names = shownNames(session, exchange, reply.bytes, reply.start, reply.end);
    session.answer(exchange, exchange.type, names, 0, names.length);
  },
};

/** The names, each with its nul, that the client may be told of. */
function shownNames(
  session: GateSession,
  exchange: Exchange,
  bytes: Uint8Array,
  start: number,
  end: number,
): Uint8Array {
  parsePathOf(session, exchange);
  const tree = session.gate.policy.childrenOf(session.gate.path);
  const shown = new Uint8Array(end - start);
  let length = 0;
  for (let at = start; at < end; ) {
    const nul = bytes.indexOf(0, at);
    if (nul < 0 || nul >= end) break;
    if (tree.shows(bytes, at, nul)) {
      shown.set(bytes.subarray(at, nul + 1), length);
      length += nul + 1 - at;
    }
    at = nul + 1;
  }
  return shown.subarray(0, length);
}

/** DIRECTORY_PART path|offset|. */
export function listPart(session: GateSession, exchange: Exchange): void {
  const nul = stringEnd(session, session.start);
  const decision = locate(session, exchange, nul, RIGHT_LIST);
  if (decision === null) return;
  const offset = latin1(session.bytes, nul + 1, session.end);
  if (!/^\d{1,9}\0$/.test(offset)) return session.malformed(exchange, 'EINVAL', 'the offset is no number');
  exchange.appendText(String(Number.parseInt(offset, 10)));
  session.grant(exchange);
  if (decision.showsAll) return session.forward(exchange, PASS_ON);
  exchange.state = { offset: Number.parseInt(offset, 10), generation: '', names: new Uint8Array(0), tries: 0 };
  session.busy = true;
  exchange.next = GATHER;
  askPart(session, exchange);
}

/** A listing that is filtered is fetched whole: the client's offsets count what it is shown. */
interface Listing {
  readonly offset: number;
  generation: string;
  names: Uint8Array;
  tries: number;
}

const GATHER: Continuation = {
  replied(session, exchange, reply) {
    const listing = exchange.state as Listing;
    if (reply.error !== null) return finishListing(session, () => session.passOn(exchange, reply));
    const nul = reply.bytes.indexOf(0, reply.start);
    if (nul < 0 || nul >= reply.end) return finishListing(session, () => session.answerError(exchange, 'EIO'));
    const generation = latin1(reply.bytes, reply.start, nul);
    if (listing.names.length > 0 && generation !== listing.generation) {
      if (++listing.tries > LISTING_TRIES) return finishListing(session, () => session.answerError(exchange, 'EAGAIN'));
      listing.names = new Uint8Array(0);
      return askPart(session, exchange);
    }
    listing.generation = generation;
    if (takePart(listing, reply, nul + 1)) return answerListing(session, exchange, listing);
    if (listing.names.length > LISTING_MAX) return finishListing(session, () => session.answerError(exchange, 'E2BIG'));
    askPart(session, exchange);
  },
  lost(session, exchange) {
    if (exchange.transaction !== null) exchange.transaction.lost = true;
    (exchange.state as Listing).names = new Uint8Array(0);
    askPart(session, exchange);
  },
};

/** @returns whether it was the last part: it ends with an empty name */
function takePart(listing: Listing, reply: Reply, start: number): boolean {
  const { bytes, end } = reply;
  const isLast = end <= start || (bytes[end - 1] === 0 && (end - 1 === start || bytes[end - 2] === 0));
  const until = isLast ? Math.max(start, end - 1) : end;
  const names = new Uint8Array(listing.names.length + until - start);
  names.set(listing.names);
  names.set(bytes.subarray(start, until), listing.names.length);
  listing.names = names;
  return isLast;
}

function askPart(session: GateSession, exchange: Exchange): void {
  const { names } = exchange.state as Listing;
  const { transaction, payload, pathLength } = exchange;
  const offset = latin1Bytes(`${names.length}\0`);
  const request = new Uint8Array(pathLength + 1 + offset.length);
  request.set(payload.subarray(0, pathLength + 1));
  request.set(offset, pathLength + 1);
  const id = transaction === null || transaction.lost ? 0 : transaction.upstreamId;
  session.link.send(exchange, XS_DIRECTORY_PART, id, request, request.length);
}

function answerListing(session: GateSession, exchange: Exchange, { names, generation, offset }: Listing): void {
  const shown = shownNames(session, exchange, names, 0, names.length);
  const room = XENSTORE_PAYLOAD_MAX - generation.length - 2;
  const start = Math.min(offset, shown.length);
  let end = start;
  while (end < shown.length) {
    const next = shown.indexOf(0, end) + 1;
    if (next - start > room) break;
    end = next;
  }
  const part = `${generation}\0${latin1(shown, start, end)}${end === shown.length ? '\0' : ''}`;
  const bytes = latin1Bytes(part);
  finishListing(session, () => session.answer(exchange, exchange.type, bytes, 0, bytes.length));
}

function finishListing(session: GateSession, answer: () => void): void {
  session.busy = false;
  answer();
}

/** GET_DOMAIN_PATH domid|: a matter of spelling, which needs nobody's answer. */
export function domainPath(session: GateSession, exchange: Exchange): void {
  const domid = domidArgument(session);
  if (domid === null) return session.malformed(exchange, 'EINVAL', 'it is no domain');
  session.grant(exchange);
  session.answerText(exchange, `/local/domain/${domid}`);
}

/** IS_DOMAIN_INTRODUCED domid|. */
export function isIntroduced(session: GateSession, exchange: Exchange): void {
  const domid = domidArgument(session);
  if (domid === null) return session.malformed(exchange, 'EINVAL', 'it is no domain');
  if (!session.gate.policy.mayAskIntroduced(domid)) {
    return session.deny(exchange, 'domain', 'EACCES', undefined, `no rule lets it ask about domain ${domid}`);
  }
  exchange.appendText(String(domid));
  session.grant(exchange);
  session.forward(exchange, PASS_ON);
}

function domidArgument(session: GateSession): number | null {
  const [text, ...others] = allStrings(session) ?? [];
  return text !== undefined && others.length === 0 && /^\d{1,5}$/.test(text) ? Number(text) : null;
}
