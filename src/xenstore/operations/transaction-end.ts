/** TRANSACTION_END T|F|: commits or discards. @spec xen:docs/misc/xenstore.txt TRANSACTION_END */
import { XS_TRANSACTION_END } from '../../abi/xen/xs-wire.js';
import type { Outcome, Request } from '../request.js';
import { Transaction } from '../transaction.js';
import type { Operation } from './operation.js';

const T = 0x54;
const F = 0x46;

export const transactionEnd: Operation = {
  type: XS_TRANSACTION_END,
  name: 'TRANSACTION_END',
  support: 'supported',
  mustWait(request) {
    const { turns } = request.server;
    if (!turns.held || request.bytes[request.start] !== T || !(request.view instanceof Transaction)) return false;
    return !turns.mayChange(request.connection, request.view.writtenPaths());
  },
  run(request: Request): Outcome {
    const { connection, server, view } = request;
    const verdict = request.bytes[request.start];
    if (request.oneString() !== request.start + 1 || (verdict !== T && verdict !== F)) return 'EINVAL';
    if (!(view instanceof Transaction)) return 'ENOENT';
    connection.transactions.delete(view.id);
    connection.domain.transactions--;
    let error: Outcome = null;
    if (verdict === T) error = view.commit();
    else view.discard();
    if (error === 'EAGAIN') server.turns.lost(connection, view.footprint());
    server.turns.ended(connection);
    return error ?? request.ok();
  },
};
