/** Payloads of requests. A nul in a path would make two of it, so that is refused here: names come from anywhere. */
import { XENSTORE_ABS_PATH_MAX } from '../../abi/xs-wire.js';
import { XenStoreError } from './error.js';

/** Each text with a nul behind it, then the data as it is. */
export function payloadOf(texts: readonly string[], data?: string | Uint8Array): Buffer {
  let size = texts.length + (data === undefined ? 0 : Buffer.byteLength(data));
  for (const text of texts) size += Buffer.byteLength(text);
  const payload = Buffer.allocUnsafe(size);
  let at = 0;
  for (const text of texts) {
    at += payload.write(text, at);
    payload[at++] = 0;
  }
  if (typeof data === 'string') payload.write(data, at);
  else if (data !== undefined) payload.set(data, at);
  return payload;
}

/** @throws XenStoreError EINVAL */
export function checkPath(path: string, operation: string): void {
  const why =
    path === ''
      ? 'a path is needed'
      : path.includes('\0')
        ? 'a path cannot hold a nul character'
        : path.length > XENSTORE_ABS_PATH_MAX
          ? `a path has at most ${XENSTORE_ABS_PATH_MAX} characters, this one has ${path.length}`
          : undefined;
  if (why === undefined) return;
  throw new XenStoreError('EINVAL', operation, JSON.stringify(path.slice(0, 80)), why);
}

/** @throws XenStoreError EINVAL */
export function checkText(text: string, what: string, operation: string): void {
  if (text.includes('\0')) throw new XenStoreError('EINVAL', operation, undefined, `a nul character in the ${what}`);
}
