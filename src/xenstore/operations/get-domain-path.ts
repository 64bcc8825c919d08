/** GET_DOMAIN_PATH domid| → path|, whether there is such a domain or not. @spec xen:docs/misc/xenstore.txt GET_DOMAIN_PATH */
import { XS_GET_DOMAIN_PATH } from '../../abi/xen/xs-wire.js';
import { atoi, type Outcome, type Request } from '../request.js';
import type { Operation } from './operation.js';

export const getDomainPath: Operation = {
  type: XS_GET_DOMAIN_PATH,
  name: 'GET_DOMAIN_PATH',
  support: 'supported',
  run(request: Request): Outcome {
    const nul = request.oneString();
    if (nul < 0) return 'EINVAL';
    return request.replyText(`/local/domain/${atoi(request.text(request.start, nul)) >>> 0}\0`);
  },
};
