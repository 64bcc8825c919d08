/** MKDIR path|: makes sure that the node is there; one that is stays as it is. @spec xen:docs/misc/xenstore.txt MKDIR */
import { XS_MKDIR, XS_PERM_WRITE } from '../../abi/xen/xs-wire.js';
import type { Outcome, Request } from '../request.js';
import { EXISTENCE } from '../view.js';
import { changeMustWait, type Operation } from './operation.js';

export const mkdir: Operation = {
  type: XS_MKDIR,
  name: 'MKDIR',
  support: 'supported',
  mustWait: changeMustWait,
  run(request: Request): Outcome {
    const entry = request.locateOnly(XS_PERM_WRITE, EXISTENCE);
    if (entry !== null) return request.ok();
    if (request.error !== 'ENOENT') return request.error;
    return request.view.create(request.connection, request.path, request.bytes, 0, 0) ?? request.ok();
  },
};
