/** What goes wrong for a XenStore client, with what it means in words. */
import { XSD_ERRORS, type XsErrorName } from '../../abi/xs-wire.js';

/**
 * The server's errors by their names on the wire, and the client's own:
 *
 * - `ENOTCONN`: no XenStore could be reached.
 * - `ECONNRESET`: the connection was lost; whether the server did what was asked before is not known.
 * - `ECANCELED`: the client was closed.
 * - `EPROTO`: the server sent what the protocol doesn't allow. The connection is over.
 * - `EOVERFLOW`: a watch's events were not taken fast enough.
 */
export type XenStoreErrorCode = XsErrorName | 'ENOTCONN' | 'ECONNRESET' | 'ECANCELED' | 'EPROTO' | 'EOVERFLOW';

const MEANING: Readonly<Record<XenStoreErrorCode, string>> = {
  EINVAL: 'the server finds a path, number or parameter malformed',
  EACCES: 'permission denied: this client may not do that here (a gate or a domain sees only its own part)',
  EEXIST: 'it is there already',
  EISDIR: 'it is a directory',
  ENOENT: 'there is no such node',
  ENOMEM: 'a memory quota is exhausted, or the server is out of memory',
  ENOSPC: 'a quota of this client is exhausted (nodes, size of a node, transactions)',
  EIO: 'the store is damaged',
  ENOTEMPTY: 'it is not empty',
  ENOSYS: 'the server does not know this operation',
  EROFS: 'this connection is read-only',
  EBUSY: 'the server is busy',
  EAGAIN: 'somebody else changed what the transaction used; it has had no effect',
  EISCONN: 'the domain is connected already',
  E2BIG: 'too long, or too many (a message holds 4096 bytes)',
  EPERM: 'not allowed',
  ENOTCONN: 'no XenStore was reached',
  ECONNRESET: 'the connection was lost',
  ECANCELED: 'the client was closed',
  EPROTO: 'the server broke the protocol',
  EOVERFLOW: 'more events came than were taken',
};

/** Every failure that is not a bug in the calling program. An abort rejects with the signal's reason instead. */
export class XenStoreError extends Error {
  override readonly name = 'XenStoreError';

  /**
   * @param operation `read`, `transaction commit`, …: what was asked for
   * @param path the node it was about, as the caller wrote it; absent where there is none
   * @param detail what it means here, without the rest; default the code's general meaning
   */
  constructor(
    readonly code: XenStoreErrorCode,
    readonly operation: string,
    readonly path?: string,
    readonly detail: string = MEANING[code],
  ) {
    super(`${operation}${path === undefined ? '' : ` ${path}`}: ${code} (${detail})`);
  }
}

/** As libxenstore does, an error name that isn't known means EINVAL. The name comes from the server: it is not shown raw. */
export function errorFromWire(name: string, operation: string, path: string | undefined): XenStoreError {
  if ((XSD_ERRORS as readonly string[]).includes(name)) return new XenStoreError(name as XsErrorName, operation, path);
  const shown = JSON.stringify(name.slice(0, 40));
  return new XenStoreError('EINVAL', operation, path, `the server answered with an error unknown here, ${shown}`);
}
