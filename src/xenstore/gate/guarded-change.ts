/**
 * A change that must not make what the policy doesn't let the client make: WRITE and MKDIR make missing parents, and WRITE
 * a missing node. Looking first and changing then would leave a moment in between, so both are one transaction:
 *
 *     start ──▶ look and change, together ──there────▶ commit ──▶ done
 *       ▲                                  └─missing──▶ give up ─▶ refused
 *       └────────────── conflict (a few times) ◀──────────┘
 *
 * In a transaction of the client's it is look, then change: what was changed there could not be given up alone, and its
 * snapshot holds still. Requests after it wait.
 */
import { XS_GET_PERMS, XS_TRANSACTION_END, XS_TRANSACTION_START, type XsErrorName } from '../../abi/xen/xs-wire.js';
import { latin1, latin1Bytes } from '../arena.js';
import { type Continuation, Exchange, Reply } from './exchange.js';
import type { GateSession } from './session.js';

/** Times that a conflict with others is tried again. */
const TRIES = 64;
const START = latin1Bytes('\0');
const COMMIT = latin1Bytes('T\0');
const GIVE_UP = latin1Bytes('F\0');

interface Change {
  readonly type: number;
  /** What must be there: its path and a nul. */
  readonly guard: Uint8Array;
  /** Told of the change's outcome. */
  readonly next: Continuation;
  /** `both`: look and change are on their way together. */
  step: 'start' | 'both' | 'look' | 'change' | 'end';
  /** Of the two that are on their way together, the error of the one that has come. */
  looked: XsErrorName | null | undefined;
  changed: XsErrorName | null | undefined;
  /** The gate's own; the client's, where it has one. */
  transaction: number;
  /** Kept while the transaction ends. */
  outcome: XsErrorName | 'missing' | null;
  tries: number;
}

/** @param guardLength of the exchange's path: the prefix that must be there */
export function changeBelow(
  session: GateSession,
  exchange: Exchange,
  type: number,
  guardLength: number,
  next: Continuation,
): void {
  const guard = new Uint8Array(guardLength + 1);
  guard.set(exchange.payload.subarray(0, guardLength));
  const change: Change = {
    type,
    guard,
    next,
    step: 'start',
    looked: undefined,
    changed: undefined,
    transaction: 0,
    outcome: null,
    tries: 0,
  };
  exchange.state = change;
  exchange.next = STEPS;
  session.busy = true;
  begin(session, exchange, change);
}

const STEPS: Continuation = {
  replied(session, exchange, reply) {
    const change = exchange.state as Change;
    if (change.step === 'start') started(session, exchange, change, reply);
    else if (change.step === 'both') {
      change.changed = reply.error;
      decide(session, exchange, change);
    } else if (change.step === 'look') looked(session, exchange, change, reply);
    else if (change.step === 'change') changed(session, exchange, change, reply);
    else ended(session, exchange, change, reply);
  },
  lost(session, exchange) {
    const change = exchange.state as Change;
    change.outcome = null;
    begin(session, exchange, change);
  },
};

/** The look that is on its way beside a change. */
interface Look {
  readonly exchange: Exchange;
  readonly change: Change;
}

const LOOK: Continuation = {
  replied(session, look, reply) {
    const { exchange, change } = look.state as Look;
    change.looked = reply.error;
    decide(session, exchange, change);
  },
  lost(session, look) {
    const { exchange, change } = look.state as Look;
    if (change.changed !== undefined) begin(session, exchange, change); // else the change is lost too, and begins anew
  },
};

function begin(session: GateSession, exchange: Exchange, change: Change): void {
  const { transaction } = exchange;
  if (transaction?.lost) return done(session, exchange, change, null); // it will not commit
  if (transaction !== null) {
    change.transaction = transaction.upstreamId;
    return look(session, exchange, change);
  }
  change.step = 'start';
  session.link.send(exchange, XS_TRANSACTION_START, 0, START, START.length);
}

function started(session: GateSession, exchange: Exchange, change: Change, reply: Reply): void {
  if (reply.error !== null) return done(session, exchange, change, reply.error);
  const id = transactionId(reply);
  if (id === null) return done(session, exchange, change, 'EIO');
  change.transaction = id;
  change.step = 'both';
  change.looked = undefined;
  change.changed = undefined;
  const look = new Exchange();
  look.state = { exchange, change } satisfies Look;
  look.next = LOOK;
  session.link.send(look, XS_GET_PERMS, id, change.guard, change.guard.length);
  session.link.send(exchange, change.type, id, exchange.payload, exchange.length);
}

/** Goes on once look and change have both been answered. */
function decide(session: GateSession, exchange: Exchange, change: Change): void {
  const { looked, changed } = change;
  if (looked === undefined || changed === undefined) return;
  if (looked === 'ENOENT') return end(session, exchange, change, 'missing');
  end(session, exchange, change, looked ?? changed);
}

function look(session: GateSession, exchange: Exchange, change: Change): void {
  change.step = 'look';
  session.link.send(exchange, XS_GET_PERMS, change.transaction, change.guard, change.guard.length);
}

function looked(session: GateSession, exchange: Exchange, change: Change, reply: Reply): void {
  const { error } = reply;
  if (error !== null) return end(session, exchange, change, error === 'ENOENT' ? 'missing' : error);
  change.step = 'change';
  session.link.send(exchange, change.type, change.transaction, exchange.payload, exchange.length);
}

function changed(session: GateSession, exchange: Exchange, change: Change, reply: Reply): void {
  end(session, exchange, change, reply.error);
}

function end(session: GateSession, exchange: Exchange, change: Change, outcome: Change['outcome']): void {
  if (exchange.transaction !== null) return done(session, exchange, change, outcome);
  change.outcome = outcome;
  change.step = 'end';
  const verdict = outcome === null ? COMMIT : GIVE_UP;
  session.link.send(exchange, XS_TRANSACTION_END, change.transaction, verdict, verdict.length);
}

function ended(session: GateSession, exchange: Exchange, change: Change, reply: Reply): void {
  if (change.outcome === null && reply.error === 'EAGAIN' && change.tries++ < TRIES) {
    return begin(session, exchange, change);
  }
  done(session, exchange, change, change.outcome ?? reply.error);
}

function done(session: GateSession, exchange: Exchange, change: Change, outcome: Change['outcome']): void {
  session.busy = false;
  if (outcome !== 'missing') {
    session.grant(exchange);
    return change.next.replied(session, exchange, Reply.of(change.type, outcome));
  }
  const guard = latin1(change.guard, 0, change.guard.length - 1);
  const path = latin1(exchange.payload, 0, exchange.pathLength);
  session.deny(exchange, 'parent', 'EACCES', path, `it would make ${guard}, which no rule grants`);
}

/** The number in a reply to TRANSACTION_START; null where it is none that could be. */
export function transactionId(reply: Reply): number | null {
  const { text } = reply;
  const id = /^\d{1,10}$/.test(text) ? Number(text) : 0;
  return id > 0 && id <= 0xffffffff ? id : null;
}
