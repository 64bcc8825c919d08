/** READ path| → value. @spec xen:docs/misc/xenstore.txt READ */
import { XS_PERM_READ, XS_READ } from '../../abi/xen/xs-wire.js';
import type { Outcome, Request } from '../request.js';
import { VALUE } from '../view.js';
import type { Operation } from './operation.js';

export const read: Operation = {
  type: XS_READ,
  name: 'READ',
  support: 'supported',
  run(request: Request): Outcome {
    const entry = request.locateOnly(XS_PERM_READ, VALUE);
    if (entry === null) return request.error;
    const { valueRef, valueLength } = entry;
    const at = request.beginReply(valueLength);
    if (at >= 0) request.server.arena.copyTo(valueRef, 0, valueLength, request.connection.out.buffer, at);
    return request.endReply(at, valueLength);
  },
};
