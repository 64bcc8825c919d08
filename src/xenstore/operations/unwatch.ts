/** UNWATCH path|token|: removes a watch. Events on their way still arrive. @spec xen:docs/misc/xenstore.txt UNWATCH */
import { XS_UNWATCH } from '../../abi/xen/xs-wire.js';
import type { Outcome, Request } from '../request.js';
import type { Operation } from './operation.js';
import { watchKey } from './watch.js';

export const unwatch: Operation = {
  type: XS_UNWATCH,
  name: 'UNWATCH',
  support: 'supported',
  ignoresTransaction: true,
  run(request: Request): Outcome {
    const { connection, server, path, bytes } = request;
    if (request.countStrings() !== 2) return 'EINVAL';
    const [start, token, end] = request.strings(2) as [number, number, number];
    if (!path.parseWatched(bytes, start, token - 1, connection.home, server.quotas.pathMax(connection.domain))) {
      return 'ENOENT';
    }
    const watch = connection.watches.get(watchKey(path.toString(), request.text(token, end - 1)));
    if (watch === undefined) return 'ENOENT';
    connection.dropWatch(watch);
    return request.ok();
  },
};
