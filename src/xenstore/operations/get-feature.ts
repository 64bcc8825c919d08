/** GET_FEATURE [domid|] → features of the server, or those offered to a domain. @spec xen:docs/misc/xenstore.txt GET_FEATURE */
import { XS_GET_FEATURE } from '../../abi/xen/xs-wire.js';
import { atoi, type Outcome, type Request } from '../request.js';
import type { Operation } from './operation.js';

export const getFeature: Operation = {
  type: XS_GET_FEATURE,
  name: 'GET_FEATURE',
  support: 'supported',
  note: 'later than Xen 4.17',
  privileged: true,
  run(request: Request): Outcome {
    const { server } = request;
    const [text, tooMany] = request.texts(2);
    // No argument may also be sent as an empty string.
    if (tooMany !== undefined) return 'EINVAL';
    if (text === undefined || text === '') return request.replyText(`${server.features}\0`);
    const domain = server.domains.refer(atoi(text));
    return domain === null ? 'ENOENT' : request.replyText(`${domain.features ?? server.features}\0`);
  },
};
