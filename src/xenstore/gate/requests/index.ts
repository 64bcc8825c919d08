/**
 * What the gate does with each type of request. What is not in the table is refused and never goes on: INTRODUCE, RELEASE,
 * RESUME, SET_TARGET, RESTRICT, CONTROL, GET_FEATURE, SET_FEATURE, GET_QUOTA, SET_QUOTA, and types that are no requests.
 */
import {
  XS_DIRECTORY,
  XS_DIRECTORY_PART,
  XS_ERROR,
  XS_GET_DOMAIN_PATH,
  XS_GET_PERMS,
  XS_IS_DOMAIN_INTRODUCED,
  XS_MKDIR,
  XS_READ,
  XS_RESET_WATCHES,
  XS_RM,
  XS_SET_PERMS,
  XS_TRANSACTION_END,
  XS_TRANSACTION_START,
  XS_TYPE_COUNT,
  XS_UNWATCH,
  XS_WATCH,
  XS_WATCH_EVENT,
  XS_WRITE,
} from '../../../abi/xen/xs-wire.js';
import { typeName } from '../../operations/index.js';
import type { Exchange } from '../exchange.js';
import type { GateSession } from '../session.js';
import { makeNode, removeNode, setPermissions, writeNode } from './changing.js';
import { domainPath, isIntroduced, listNode, listPart, readNode } from './reading.js';
import { endTransaction, startTransaction } from './transactions.js';
import { giveUpWatch, resetWatches, setWatch } from './watching.js';

/** Answers the exchange, at once or by what it sends upstream. */
type Decide = (session: GateSession, exchange: Exchange) => void;

interface Handler {
  readonly decide: Decide;
  /** What the policy must grant on the path, as far as it is about one. */
  readonly needs: string;
  /** The request's transaction has no meaning. */
  readonly ignoresTransaction?: true;
}

const HANDLERS = new Array<Handler | undefined>(XS_TYPE_COUNT).fill(undefined);

function handle(type: number, needs: string, decide: Decide, ignoresTransaction?: true): void {
  HANDLERS[type] = { needs, decide, ...(ignoresTransaction && { ignoresTransaction }) };
}

handle(XS_READ, 'read', readNode);
handle(XS_GET_PERMS, 'read', readNode);
handle(XS_DIRECTORY, 'list', listNode);
handle(XS_DIRECTORY_PART, 'list', listPart);
handle(XS_WRITE, 'write, and create where the node is not there', writeNode);
handle(XS_MKDIR, 'create', makeNode);
handle(XS_RM, 'remove', removeNode);
handle(XS_SET_PERMS, 'perms, with that list', setPermissions);
handle(XS_WATCH, 'watch', setWatch, true);
handle(XS_UNWATCH, 'a watch of its own', giveUpWatch, true);
handle(XS_RESET_WATCHES, 'nothing; for its own connection only', resetWatches, true);
handle(XS_TRANSACTION_START, 'nothing, within the limits', startTransaction);
handle(XS_TRANSACTION_END, 'a transaction of its own', endTransaction);
handle(XS_GET_DOMAIN_PATH, 'nothing', domainPath, true);
handle(XS_IS_DOMAIN_INTRODUCED, 'the domain among "introduced"', isIntroduced, true);

export function decideRequest(session: GateSession, exchange: Exchange): void {
  const handler = HANDLERS[exchange.type];
  if (handler === undefined) return refuse(session, exchange);
  if (exchange.transactionId !== 0 && !handler.ignoresTransaction) {
    const transaction = session.transactions.get(exchange.transactionId);
    if (transaction === undefined) return session.malformed(exchange, 'ENOENT', 'there is no such transaction');
    exchange.transaction = transaction;
  }
  handler.decide(session, exchange);
}

function refuse(session: GateSession, exchange: Exchange): void {
  const { type } = exchange;
  if (type === XS_WATCH_EVENT || type === XS_ERROR) {
    return session.malformed(exchange, 'ENOSYS', 'only a daemon sends that');
  }
  session.deny(exchange, 'operation', 'EACCES', undefined, `${typeName(type)} is not for clients of a gate`);
}

/** For explanations: every operation and what it needs; undefined where no policy can grant it. */
export function operationNeeds(): { operation: string; needs: string | undefined }[] {
  return HANDLERS.flatMap((handler, type) => {
    if (type === XS_WATCH_EVENT || type === XS_ERROR) return [];
    return [{ operation: typeName(type), needs: handler?.needs }];
  });
}
