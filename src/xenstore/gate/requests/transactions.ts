/**
 * TRANSACTION_START, TRANSACTION_END, and transactions that upstream has forgotten.
 *
 * When the upstream connection is lost, its transactions are gone with all that was changed in them. libxenstore's clients
 * take EAGAIN at the end, and only there, as "begin again"; so a lost transaction goes on to its end: what is read is
 * answered from the store as it is then, what is changed is acknowledged and forgotten, and its commit fails with EAGAIN.
 * A commit that was under way is answered the same: whether it happened, only reading can tell, and beginning again reads.
 */
import { XS_MKDIR, XS_RM, XS_SET_PERMS, XS_TRANSACTION_END, XS_WRITE } from '../../../abi/xen/xs-wire.js';
import type { Continuation, Exchange, GateTransaction } from '../exchange.js';
import { transactionId } from '../guarded-change.js';
import type { GateSession } from '../session.js';

const COMMIT = 0x54; // T

const START: Continuation = {
  replied(session, exchange, reply) {
    session.starting--;
    const upstreamId = transactionId(reply);
    if (reply.error !== null || upstreamId === null) {
      session.gate.transactions--;
      return session.answerError(exchange, reply.error ?? 'EIO');
    }
    const transaction: GateTransaction = {
      id: session.newTransactionId(),
      upstreamId,
      lost: false,
      removed: new Map(),
    };
    session.transactions.set(transaction.id, transaction);
    session.answerText(exchange, String(transaction.id));
  },
};

const END: Continuation = {
  replied(session, exchange, reply) {
    const { error } = reply;
    if (error !== null) return session.answerError(exchange, error);
    const { removed } = exchange.transaction as GateTransaction;
    if (exchange.payload[0] === COMMIT) session.gate.nodes.free(removed.values());
    session.answerText(exchange, 'OK');
  },
};

/** TRANSACTION_START |. */
export function startTransaction(session: GateSession, exchange: Exchange): void {
  if (exchange.transaction !== null) return session.malformed(exchange, 'EBUSY', 'it is in a transaction already');
  const { gate } = session;
  const limit = gate.policy.limits.transactions;
  if (limit !== 0 && gate.transactions >= limit) {
    return session.deny(exchange, 'transactions', 'ENOSPC', undefined, `${limit} transactions are open`);
  }
  gate.transactions++;
  session.starting++;
  exchange.appendByte(0);
  session.grant(exchange);
  session.forward(exchange, START);
}

/** TRANSACTION_END T|F|. */
export function endTransaction(session: GateSession, exchange: Exchange): void {
  const { bytes, start, end } = session;
  const verdict = end === start + 2 && bytes[start + 1] === 0 ? String.fromCharCode(bytes[start] as number) : '';
  if (verdict !== 'T' && verdict !== 'F') return session.malformed(exchange, 'EINVAL', 'it is neither T nor F');
  const { transaction } = exchange;
  if (transaction === null) return session.malformed(exchange, 'ENOENT', 'it is in no transaction');
  session.transactions.delete(transaction.id);
  session.gate.transactions--;
  exchange.appendText(verdict);
  session.grant(exchange);
  session.forward(exchange, END);
}

/** Answers a request of a lost transaction, unless it only reads. @returns whether it did */
export function lostInTransaction(session: GateSession, exchange: Exchange): boolean {
  if (exchange.transaction === null) return false;
  exchange.sentTransaction = 0;
  switch (exchange.type) {
    case XS_TRANSACTION_END:
      if (exchange.payload[0] === COMMIT) session.answerError(exchange, 'EAGAIN');
      else session.answerText(exchange, 'OK');
      return true;
    case XS_WRITE:
    case XS_MKDIR:
    case XS_RM:
    case XS_SET_PERMS:
      session.answerText(exchange, 'OK');
      return true;
    default:
      return false;
  }
}
