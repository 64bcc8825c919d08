/** WRITE path|value: creates the node and what is missing above it. @spec xen:docs/misc/xenstore.txt WRITE */
import { XS_PERM_WRITE, XS_WRITE } from '../../abi/xen/xs-wire.js';
import type { Outcome, Request } from '../request.js';
import { VALUE } from '../view.js';
import { changeMustWait, type Operation } from './operation.js';

export const write: Operation = {
  type: XS_WRITE,
  name: 'WRITE',
  support: 'supported',
  mustWait: changeMustWait,
  run(request: Request): Outcome {
    const nul = request.stringEnd(request.start);
    if (nul < 0) return 'EINVAL';
    const entry = request.locate(request.start, nul, XS_PERM_WRITE, VALUE);
    const { connection, view, bytes, path } = request;
    const start = nul + 1;
    const length = request.end - start;
    let error: Outcome;
    if (entry !== null) error = view.write(connection, entry, bytes, start, length);
    else if (request.error === 'ENOENT') error = view.create(connection, path, bytes, start, length);
    else error = request.error;
    return error ?? request.ok();
  },
};
