/**
 * INTRODUCE domid|gfn|port|: begins to serve a domain, or reconnects its ring. The gfn is the host's business.
 * @spec xen:docs/misc/xenstore.txt INTRODUCE
 */
import { XS_INTRODUCE } from '../../abi/xen/xs-wire.js';
import { atoi, type Outcome, type Request } from '../request.js';
import type { Operation } from './operation.js';

export const introduce: Operation = {
  type: XS_INTRODUCE,
  name: 'INTRODUCE',
  support: 'supported',
  privileged: true,
  run(request: Request): Outcome {
    const [domid, gfn, port] = request.texts(3);
    if (domid === undefined || gfn === undefined || port === undefined || atoi(port) <= 0) return 'EINVAL';
    return request.server.introduce(atoi(domid), atoi(gfn), atoi(port)) ?? request.ok();
  },
};
