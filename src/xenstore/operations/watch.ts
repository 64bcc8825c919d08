/**
 * WATCH path|token|[depth|]: registers a watch, which fires at once.
 *
 * The event comes after the reply. A `depth` limits the levels below the path; for a special watch, 1 asks for the domid in
 * the event.
 * @spec xen:docs/misc/xenstore.txt WATCH
 */
import { XS_WATCH } from '../../abi/xen/xs-wire.js';
import type { Outcome, Request } from '../request.js';
import { NO_DEPTH_LIMIT } from '../watches.js';
import type { Operation } from './operation.js';

export const watch: Operation = {
  type: XS_WATCH,
  name: 'WATCH',
  support: 'supported',
  ignoresTransaction: true,
  run(request: Request): Outcome {
    const { connection, server, bytes } = request;
    const { domain, home } = connection;
    const strings = request.countStrings();
    if (strings !== 2 && strings !== 3) return 'EINVAL';
    const [start, tokenStart, tokenEnd, end] = request.strings(strings) as [number, number, number, number?];
    const { path } = request;
    if (!path.parseWatched(bytes, start, tokenStart - 1, home, server.quotas.pathMax(domain))) return 'EINVAL';
    const depth = end === undefined ? NO_DEPTH_LIMIT : parseDepth(request.text(tokenEnd, end - 1), path.special);
    if (depth === null) return 'EINVAL';
    const key = watchKey(path.toString(), request.text(tokenStart, tokenEnd - 1));
    if (connection.watches.has(key)) return 'EEXIST';
    if (!connection.privileged && server.quotas.exceeds(domain, 'watches', domain.watches + 1)) {
      return server.quotas.deny(domain, 'watches', 'E2BIG', `${domain.watches} watches`);
    }
    const token = bytes.slice(tokenStart, tokenEnd - 1);
    if (!connection.privileged && !server.quotas.mayGrow(domain, path.length + token.length)) {
      return server.quotas.deny(domain, 'memory', 'ENOMEM', `a watch of ${path.length + token.length} bytes`);
    }
    const relative = !path.special && bytes[start] !== 0x2f;
    const skip = relative ? home.length + 1 : 0;
    connection.addWatch(path, token, key, skip, depth);
    request.ok();
    connection.sendEvent(path.bytes, path.start + skip, path.length - skip, token, null, !path.special);
    return null;
  },
};

/** Null for what isn't a depth. */
function parseDepth(text: string, special: boolean): number | null {
  if (!/^\d{1,9}$/.test(text)) return null;
  const depth = Number(text);
  return special && depth !== 1 ? null : depth;
}

export function watchKey(path: string, token: string): string {
  return `${path}\0${token}`;
}
