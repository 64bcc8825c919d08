/**
 * SET_QUOTA [domid|]name|value|: sets a limit, of a domain or the global one; 0 switches it off.
 * @spec xen:docs/misc/xenstore.txt SET_QUOTA
 */
import { XS_SET_QUOTA } from '../../abi/xen/xs-wire.js';
import { atoi, type Outcome, type Request } from '../request.js';
import type { Operation } from './operation.js';
import { isQuotaName, setLimit } from './quota-argument.js';

export const setQuota: Operation = {
  type: XS_SET_QUOTA,
  name: 'SET_QUOTA',
  support: 'supported',
  note: 'later than Xen 4.17',
  privileged: true,
  run(request: Request): Outcome {
    const { quotas, domains, store } = request.server;
    const texts = request.texts(4);
    const [name, value] = texts.slice(-2);
    if (texts.length < 2 || texts.length > 3 || name === undefined || value === undefined) return 'EINVAL';
    if (!isQuotaName(name) || !/^\d{1,10}$/.test(value)) return 'EINVAL';
    if (texts.length === 2) {
      setLimit(name, quotas.limits, quotas.soft, atoi(value));
      store.observer?.quotasChanged();
      return request.ok();
    }
    const domain = domains.refer(atoi(texts[0] as string));
    if (domain === null) return 'ENOENT';
    domain.limits ??= { ...quotas.limits };
    domain.softLimits ??= { ...quotas.soft };
    setLimit(name, domain.limits, domain.softLimits, atoi(value));
    store.observer?.domainChanged(domain);
    return request.ok();
  },
};
