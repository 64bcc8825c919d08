/**
 * RESTRICT domid|: from now on this connection has that domain's rights and account, and no way back. An extension, off
 * unless the server was told otherwise: Xen had it until 4.9, and the number was never reused.
 *
 * Paths stay relative to where they were, as in Xen: a device model in dom0 goes on saying `device-model/1/state`.
 */
import { XS_RESTRICT } from '../../abi/xen/xs-wire.js';
import { atoi, type Outcome, type Request } from '../request.js';
import type { Operation } from './operation.js';

export const restrict: Operation = {
  type: XS_RESTRICT,
  name: 'RESTRICT',
  support: 'extension',
  note: 'off unless the server is told to allow it (ENOSYS then); removed from Xen in 2017',
  ignoresTransaction: true,
  run(request: Request): Outcome {
    const { connection, server } = request;
    if (!server.allowRestrict) return 'ENOSYS';
    if (!connection.privileged) return 'EACCES';
    const nul = request.oneString();
    const text = nul < 0 ? '' : request.text(request.start, nul);
    if (!/^\d+$/.test(text)) return 'EINVAL';
    const domain = server.domains.refer(atoi(text));
    if (domain === null) return 'ENOENT';
    if (connection.transactions.size > 0) return 'EBUSY';
    if (domain.privileged) return 'EINVAL';
    connection.become(domain);
    return request.ok();
  },
};
