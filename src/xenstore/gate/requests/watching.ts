/** WATCH, UNWATCH, RESET_WATCHES. */
import {
  XENSTORE_PAYLOAD_MAX,
  XENSTORE_REL_PATH_MAX,
  XS_TRANSACTION_END,
  XS_UNWATCH,
  type XsErrorName,
} from '../../../abi/xen/xs-wire.js';
import { latin1Bytes } from '../../arena.js';
import type { Continuation, Exchange } from '../exchange.js';
import { RIGHT_WATCH, rightName } from '../rights.js';
import type { GateSession } from '../session.js';
import { GateWatch, NO_DEPTH_LIMIT, watchKey } from '../watch-table.js';
import { allStrings } from './argument.js';

const SLASH = 0x2f;
/** Takes a reply that nobody waits for. */
const IGNORE: Continuation = { replied: () => {}, lost: () => {} };

const SET: Continuation = {
  replied(session, exchange, reply) {
    const watch = exchange.state as GateWatch;
    const { error } = reply;
    if (error !== null) {
      forget(session, watch);
      return session.answerError(exchange, error);
    }
    watch.isSet = true;
    session.answerText(exchange, 'OK');
  },
  /** Sent again, unless it has been given up meanwhile: that is not sent again either. */
  lost(session, exchange) {
    if (session.watches.isRetired(exchange.state as GateWatch)) session.answerText(exchange, 'OK');
    else session.link.inFlight.push(exchange);
  },
};

const GIVEN_UP: Continuation = {
  replied(session, exchange, reply) {
    forget(session, exchange.state as GateWatch);
    const { error } = reply;
    if (error !== null) session.answerError(exchange, error);
    else session.answerText(exchange, 'OK');
  },
  lost(session, exchange) {
    forget(session, exchange.state as GateWatch);
    session.answerText(exchange, 'OK');
  },
};

/** WATCH path|token|[depth|]. */
export function setWatch(session: GateSession, exchange: Exchange): void {
  const strings = allStrings(session);
  if (strings === null || strings.length < 2 || strings.length > 3) {
    return session.malformed(exchange, 'EINVAL', 'it is no path and token');
  }
  const watch = watchOf(session, strings);
  if (typeof watch === 'string') return session.malformed(exchange, watch, 'it is no path, or no depth');
  const { gate, watches } = session;
  const path = gate.path.toString();
  if (!mayWatch(session, watch)) {
    const right = rightName(RIGHT_WATCH);
    return session.deny(exchange, right, 'EACCES', path, `no rule grants ${right}`);
  }
  if (watches.find(watch.key) !== undefined) return session.answerError(exchange, 'EEXIST');
  const limit = gate.policy.limits.watches;
  if (limit !== 0 && gate.watches >= limit) {
    return session.deny(exchange, 'watches', 'E2BIG', path, `${limit} watches are set`);
  }
  watches.add(watch);
  gate.watches++;
  watch.fill(exchange);
  exchange.state = watch;
  session.grant(exchange);
  session.forward(exchange, SET);
}

/** UNWATCH path|token|. Events on their way still arrive. */
export function giveUpWatch(session: GateSession, exchange: Exchange): void {
  const strings = allStrings(session);
  if (strings === null || strings.length !== 2) {
    return session.malformed(exchange, 'EINVAL', 'it is no path and token');
  }
  const { path, policy } = session.gate;
  const nul = session.bytes.indexOf(0, session.start);
  const isPath = path.parseWatched(session.bytes, session.start, nul, policy.home, XENSTORE_REL_PATH_MAX);
  const watch = isPath ? session.watches.find(watchKey(path.toString(), strings[1] as string)) : undefined;
  if (watch === undefined) return session.answerError(exchange, 'ENOENT');
  session.watches.retire(watch);
  watch.fill(exchange, false);
  exchange.state = watch;
  session.grant(exchange);
  if (!session.link.isUp && watch.isSet) return GIVEN_UP.lost?.(session, exchange);
  session.forward(exchange, GIVEN_UP);
}

/**
 * RESET_WATCHES: drops the session's watches and transactions, one by one. Never sent on: behind dom0's kernel it would
 * drop the kernel's own.
 */
export function resetWatches(session: GateSession, exchange: Exchange): void {
  session.grant(exchange);
  for (const watch of session.watches.all()) {
    if (session.watches.isRetired(watch)) continue;
    session.watches.retire(watch);
    if (session.link.isUp || !watch.isSet) {
      session.ask(XS_UNWATCH, (own) => watch.fill(own, false), forgetting(watch));
    } else {
      forget(session, watch);
    }
  }
  for (const transaction of session.transactions.values()) {
    session.gate.transactions--;
    if (transaction.lost) continue;
    session.ask(XS_TRANSACTION_END, (own) => own.appendText('F'), IGNORE, transaction.upstreamId);
  }
  session.transactions.clear();
  session.answerText(exchange, 'OK');
}

function forgetting(watch: GateWatch): Continuation {
  return {
    replied: (session) => forget(session, watch),
    lost: (session) => forget(session, watch),
  };
}

function forget(session: GateSession, watch: GateWatch): void {
  if (session.watches.forget(watch)) session.gate.watches--;
}

/** What a WATCH asks for; the gate's path is the watched one. */
function watchOf(session: GateSession, strings: readonly string[]): GateWatch | XsErrorName {
  const { bytes, start, gate } = session;
  const { path, policy } = gate;
  if (!path.parseWatched(bytes, start, bytes.indexOf(0, start), policy.home, XENSTORE_REL_PATH_MAX)) return 'EINVAL';
  const depth = depthOf(strings[2], path.special);
  if (depth === null) return 'EINVAL';
  const token = strings[1] as string;
  const isRelative = !path.special && bytes[start] !== SLASH;
  const skip = isRelative ? policy.home.length + 1 : 0;
  const own = path.bytes.slice(path.start, path.start + path.length);
  if (own.length - skip + token.length + 2 > XENSTORE_PAYLOAD_MAX) return 'EINVAL';
  return new GateWatch(watchKey(path.toString(), token), own, path.special, skip, latin1Bytes(token), depth);
}

/** Null for what isn't a depth. */
function depthOf(text: string | undefined, special: boolean): number | null {
  if (text === undefined) return NO_DEPTH_LIMIT;
  if (!/^\d{1,9}$/.test(text)) return null;
  return special && Number(text) !== 1 ? null : Number(text);
}

/** A special watch with the domains' numbers in its events tells of all domains: the same right, as the names come in time. */
function mayWatch(session: GateSession, watch: GateWatch): boolean {
  const { path, policy } = session.gate;
  if (watch.special) return policy.mayWatchSpecial(path.toString());
  return (policy.decide(path).rights & RIGHT_WATCH) !== 0;
}
