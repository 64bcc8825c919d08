/** IS_DOMAIN_INTRODUCED domid| → T| or F|. @spec xen:docs/misc/xenstore.txt IS_DOMAIN_INTRODUCED */
import { DOMID_SELF, XS_IS_DOMAIN_INTRODUCED } from '../../abi/xen/xs-wire.js';
import { atoi, type Outcome, type Request } from '../request.js';
import type { Operation } from './operation.js';

export const isDomainIntroduced: Operation = {
  type: XS_IS_DOMAIN_INTRODUCED,
  name: 'IS_DOMAIN_INTRODUCED',
  support: 'supported',
  privileged: true,
  run(request: Request): Outcome {
    const nul = request.oneString();
    if (nul < 0) return 'EINVAL';
    const domid = atoi(request.text(request.start, nul));
    const introduced = domid === DOMID_SELF || (request.server.domains.get(domid)?.introduced ?? false);
    return request.replyText(introduced ? 'T\0' : 'F\0');
  },
};
