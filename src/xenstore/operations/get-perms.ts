/** GET_PERMS path| → permissions, the owner's first. @spec xen:docs/misc/xenstore.txt GET_PERMS */
import { XS_GET_PERMS, XS_PERM_READ } from '../../abi/xen/xs-wire.js';
import type { Outcome, Request } from '../request.js';
import { EXISTENCE } from '../view.js';
import type { Operation } from './operation.js';

export const getPerms: Operation = {
  type: XS_GET_PERMS,
  name: 'GET_PERMS',
  support: 'supported',
  run(request: Request): Outcome {
    const entry = request.locateOnly(XS_PERM_READ, EXISTENCE);
    return entry === null ? request.error : request.reply(entry.perms.text);
  },
};
