/** SET_TARGET domid|tdomid|: domid acts with tdomid's rights too. @spec xen:docs/misc/xenstore.txt SET_TARGET */
import { XS_SET_TARGET } from '../../abi/xen/xs-wire.js';
import { atoi, type Outcome, type Request } from '../request.js';
import { introducedDomain } from './domain-argument.js';
import type { Operation } from './operation.js';

export const setTarget: Operation = {
  type: XS_SET_TARGET,
  name: 'SET_TARGET',
  support: 'supported',
  privileged: true,
  run(request: Request): Outcome {
    const [first, second] = request.texts(2);
    if (first === undefined || second === undefined) return 'EINVAL';
    const domain = introducedDomain(request, atoi(first));
    if (typeof domain === 'string') return domain;
    const target = introducedDomain(request, atoi(second));
    if (typeof target === 'string') return target;
    domain.target = target;
    request.server.store.observer?.domainChanged(domain);
    return request.ok();
  },
};
