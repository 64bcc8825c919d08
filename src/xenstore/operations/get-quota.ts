/**
 * GET_QUOTA [[domid|]name|]: a limit, of a domain or the global one; without arguments, the names of all.
 * @spec xen:docs/misc/xenstore.txt GET_QUOTA
 */
import { XS_GET_QUOTA } from '../../abi/xen/xs-wire.js';
import { atoi, type Outcome, type Request } from '../request.js';
import type { Operation } from './operation.js';
import { allQuotaNames, getLimit, isQuotaName } from './quota-argument.js';

export const getQuota: Operation = {
  type: XS_GET_QUOTA,
  name: 'GET_QUOTA',
  support: 'supported',
  note: 'later than Xen 4.17',
  privileged: true,
  run(request: Request): Outcome {
    const { quotas, domains } = request.server;
    const texts = request.texts(3);
    const name = texts.at(-1);
    if (texts.length > 2) return 'EINVAL';
    if (name === undefined || (texts.length === 1 && name === ''))
      return request.replyText(`${allQuotaNames().join(' ')}\0`);
    if (!isQuotaName(name)) return 'EINVAL';
    if (texts.length === 1) return request.replyText(`${getLimit(name, quotas.limits, quotas.soft)}\0`);
    const domain = domains.refer(atoi(texts[0] as string));
    if (domain === null) return 'ENOENT';
    return request.replyText(`${getLimit(name, quotas.of(domain), quotas.softOf(domain))}\0`);
  },
};
