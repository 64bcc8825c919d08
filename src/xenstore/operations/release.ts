/** RELEASE domid|: ends serving a domain; what it owned goes. @spec xen:docs/misc/xenstore.txt RELEASE */
import { XS_RELEASE } from '../../abi/xen/xs-wire.js';
import type { Outcome, Request } from '../request.js';
import { servedDomain } from './domain-argument.js';
import type { Operation } from './operation.js';

export const release: Operation = {
  type: XS_RELEASE,
  name: 'RELEASE',
  support: 'supported',
  privileged: true,
  run(request: Request): Outcome {
    const domain = servedDomain(request);
    if (typeof domain === 'string') return domain;
    if (domain === request.server.domains.control) return 'EINVAL';
    request.server.endDomain(domain);
    return request.ok();
  },
};
