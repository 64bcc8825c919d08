/** DIRECTORY path| → names of the children, each with its nul. @spec xen:docs/misc/xenstore.txt DIRECTORY */
import { XS_DIRECTORY, XS_PERM_READ } from '../../abi/xen/xs-wire.js';
import type { Outcome, Request } from '../request.js';
import { CHILDREN, EXISTENCE } from '../view.js';
import type { Operation } from './operation.js';

export const directory: Operation = {
  type: XS_DIRECTORY,
  name: 'DIRECTORY',
  support: 'supported',
  run(request: Request): Outcome {
    const entry = request.locateOnly(XS_PERM_READ, EXISTENCE | CHILDREN);
    if (entry === null) return request.error;
    const at = request.beginReply(entry.childBytes);
    if (at >= 0) request.view.copyChildren(entry, request.connection.out.buffer, at);
    return request.endReply(at, entry.childBytes);
  },
};
