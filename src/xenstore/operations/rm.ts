/**
 * RM path|: removes a node and all below it. Not being there is no error, if what is directly above is.
 * @spec xen:docs/misc/xenstore.txt RM
 */
import { XS_PERM_WRITE, XS_RM } from '../../abi/xen/xs-wire.js';
import type { Outcome, Request } from '../request.js';
import { EXISTENCE } from '../view.js';
import { changeMustWait, type Operation } from './operation.js';

export const rm: Operation = {
  type: XS_RM,
  name: 'RM',
  support: 'supported',
  mustWait: changeMustWait,
  run(request: Request): Outcome {
    const entry = request.locateOnly(XS_PERM_WRITE, EXISTENCE);
    if (entry === null) return request.error === 'ENOENT' ? (request.checkParent() ?? request.ok()) : request.error;
    if (entry.pathLength === 1) return 'EINVAL';
    return request.view.remove(request.connection, entry) ?? request.ok();
  },
};
