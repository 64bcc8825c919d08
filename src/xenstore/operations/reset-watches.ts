/**
 * RESET_WATCHES: drops all watches and transactions of the caller, also the one the request names (XSA-330, XSA-484).
 * @spec xen:docs/misc/xenstore.txt RESET_WATCHES
 */
import { XS_RESET_WATCHES } from '../../abi/xen/xs-wire.js';
import type { Outcome, Request } from '../request.js';
import type { Operation } from './operation.js';

export const resetWatches: Operation = {
  type: XS_RESET_WATCHES,
  name: 'RESET_WATCHES',
  support: 'supported',
  run(request: Request): Outcome {
    request.connection.removeAllWatches();
    request.connection.endAllTransactions();
    return request.ok();
  },
};
