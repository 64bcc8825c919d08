/**
 * SET_FEATURE domid|value|: limits the features offered to a domain that isn't served yet.
 * @spec xen:docs/misc/xenstore.txt SET_FEATURE
 */
import { XS_SET_FEATURE } from '../../abi/xen/xs-wire.js';
import { atoi, type Outcome, type Request } from '../request.js';
import type { Operation } from './operation.js';

export const setFeature: Operation = {
  type: XS_SET_FEATURE,
  name: 'SET_FEATURE',
  support: 'supported',
  note: 'later than Xen 4.17',
  privileged: true,
  run(request: Request): Outcome {
    const { server } = request;
    const [domid, value, tooMany] = request.texts(3);
    if (domid === undefined || value === undefined || tooMany !== undefined || !/^\d+$/.test(value)) return 'EINVAL';
    const domain = server.domains.refer(atoi(domid));
    if (domain === null) return 'ENOENT';
    const features = atoi(value);
    if (domain.introduced) return 'EBUSY';
    if ((features & ~server.features) !== 0) return 'EINVAL';
    domain.features = features;
    server.store.observer?.domainChanged(domain);
    return request.ok();
  },
};
