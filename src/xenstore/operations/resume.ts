/** RESUME domid|: the next shutdown of the domain is announced again. @spec xen:docs/misc/xenstore.txt RESUME */
import { XS_RESUME } from '../../abi/xen/xs-wire.js';
import type { Outcome, Request } from '../request.js';
import { servedDomain } from './domain-argument.js';
import type { Operation } from './operation.js';

export const resume: Operation = {
  type: XS_RESUME,
  name: 'RESUME',
  support: 'supported',
  privileged: true,
  run(request: Request): Outcome {
    const domain = servedDomain(request);
    if (typeof domain === 'string') return domain;
    domain.shutdown = false;
    request.server.store.observer?.domainChanged(domain);
    return request.ok();
  },
};
