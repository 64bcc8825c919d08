/**
 * WRITE, MKDIR, RM, SET_PERMS.
 *
 * Upstream, a privileged client's WRITE and MKDIR make all that is missing above the node. What the policy doesn't let
 * the client make must be there already: where it may not be, the change is carried out in a transaction of the gate's
 * own that looks first (guarded-change.ts).
 */
import { XS_MKDIR, XS_WRITE } from '../../../abi/xen/xs-wire.js';
import type { Continuation, Exchange, GateTransaction } from '../exchange.js';
import { changeBelow } from '../guarded-change.js';
import type { Removal } from '../node-account.js';
import { RIGHT_CREATE, RIGHT_PERMS, RIGHT_REMOVE, RIGHT_WRITE } from '../rights.js';
import type { GateSession } from '../session.js';
import { allStrings, locate, oneString, pathOf, stringEnd } from './argument.js';

const ACKNOWLEDGE: Continuation = {
  replied(session, exchange, reply) {
    const { error } = reply;
    if (error === null) return session.answerText(exchange, 'OK');
    session.answerError(exchange, error);
  },
};

const REMOVED: Continuation = {
  replied(session, exchange, reply) {
    const { error } = reply;
    if (error !== null) return session.answerError(exchange, error);
    const removals = exchange.state as Removal[];
    const { transaction } = exchange;
    if (transaction === null) session.gate.nodes.free(removals);
    else note(session, transaction, removals);
    session.answerText(exchange, 'OK');
  },
};

/** What a transaction removes is gone once it is committed. What it notes is bounded: the rest stays counted. */
function note(session: GateSession, { removed }: GateTransaction, removals: readonly Removal[]): void {
  for (const removal of removals) {
    if (removed.has(removal.path) || removed.size < session.gate.nodes.limit) removed.set(removal.path, removal);
  }
}

/** WRITE path|value. */
export function writeNode(session: GateSession, exchange: Exchange): void {
  const nul = stringEnd(session, session.start);
  const decision = locate(session, exchange, nul, RIGHT_WRITE);
  if (decision === null) return;
  const length = session.end - nul - 1;
  const limit = session.gate.policy.limits['value-bytes'];
  if (limit !== 0 && length > limit) {
    return session.deny(exchange, 'value', 'ENOSPC', pathOf(exchange), `a value of ${length} bytes; ${limit} may be`);
  }
  const guard = (decision.rights & RIGHT_CREATE) !== 0 ? decision.guard : exchange.pathLength;
  if (!countNodes(session, exchange, guard)) return;
  exchange.append(session.bytes, nul + 1, length);
  change(session, exchange, XS_WRITE, guard);
}

/** MKDIR path|. */
export function makeNode(session: GateSession, exchange: Exchange): void {
  const decision = locate(session, exchange, oneString(session), RIGHT_CREATE);
  if (decision === null || !countNodes(session, exchange, decision.guard)) return;
  change(session, exchange, XS_MKDIR, decision.guard);
}

function change(session: GateSession, exchange: Exchange, type: number, guard: number): void {
  if (guard > 1) return changeBelow(session, exchange, type, guard, ACKNOWLEDGE);
  session.grant(exchange);
  session.forward(exchange, ACKNOWLEDGE);
}

/** RM path|: what is below goes with it, whoever made it; that is what the right says. */
export function removeNode(session: GateSession, exchange: Exchange): void {
  if (locate(session, exchange, oneString(session), RIGHT_REMOVE) === null) return;
  exchange.state = session.gate.nodes.below(pathOf(exchange));
  session.grant(exchange);
  session.forward(exchange, REMOVED);
}

/** SET_PERMS path|perm|+: exactly one of the lists that the policy names. */
export function setPermissions(session: GateSession, exchange: Exchange): void {
  const strings = allStrings(session);
  if (strings !== null && (strings[0] as string).startsWith('@')) {
    return session.deny(
      exchange,
      'special',
      'EACCES',
      strings[0],
      'permissions of special watches are not for clients',
    );
  }
  if (strings === null || strings.length < 2 || !strings.slice(1).every((entry) => /^[nrwb]\d{1,5}$/.test(entry))) {
    return session.malformed(exchange, 'EINVAL', 'it is no path with permissions');
  }
  if (locate(session, exchange, stringEnd(session, session.start), RIGHT_PERMS) === null) return;
  const entries = strings.slice(1).map((entry) => `${entry[0]}${Number(entry.slice(1))}`);
  const list = entries.join(' ');
  const path = pathOf(exchange);
  if (!session.gate.policy.maySetPerms(path, list)) {
    return session.deny(exchange, 'permissions', 'EACCES', path, `no rule grants setting the permissions ${list}`);
  }
  for (const entry of entries) exchange.appendText(entry);
  session.grant(exchange);
  session.forward(exchange, ACKNOWLEDGE);
}

/** @returns false after having refused more nodes than the client may have made */
function countNodes(session: GateSession, exchange: Exchange, guard: number): boolean {
  const { nodes } = session.gate;
  if (nodes.limit === 0) return true;
  const path = pathOf(exchange);
  exchange.claim = nodes.claim(path, guard);
  if (exchange.claim !== null) return true;
  session.deny(exchange, 'nodes', 'ENOSPC', path, `the client has made ${nodes.size} nodes`);
  return false;
}
