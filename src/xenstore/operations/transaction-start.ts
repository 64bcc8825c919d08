/** TRANSACTION_START → id. @spec xen:docs/misc/xenstore.txt TRANSACTION_START */
import { XS_TRANSACTION_START } from '../../abi/xen/xs-wire.js';
import type { Outcome, Request } from '../request.js';
import { Transaction } from '../transaction.js';
import type { Operation } from './operation.js';

export const transactionStart: Operation = {
  type: XS_TRANSACTION_START,
  name: 'TRANSACTION_START',
  support: 'supported',
  mustWait: (request) => request.transactionId === 0 && !request.server.turns.mayStart(request.connection),
  run(request: Request): Outcome {
    const { connection, server } = request;
    const { domain, transactions } = connection;
    if (request.transactionId !== 0) return 'EBUSY';
    if (!connection.privileged && server.quotas.exceeds(domain, 'transactions', domain.transactions + 1)) {
      return server.quotas.deny(domain, 'transactions', 'ENOSPC', `${domain.transactions} transactions`);
    }
    const id = connection.newTransactionId();
    transactions.set(id, new Transaction(id, connection, server.store, server.quotas, server.watches));
    domain.transactions++;
    return request.replyNumber(id);
  },
};
