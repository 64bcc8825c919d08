/** A path as a person writes it, checked and resolved as the gate does with a client's. */
import { XENSTORE_REL_PATH_MAX } from '../../abi/xen/xs-wire.js';
import { latin1Bytes } from '../arena.js';
import { Path } from '../path.js';
import type { BoundPolicy } from './bound-policy.js';

/** @returns the absolute path; undefined where it is none */
export function checkPath(policy: BoundPolicy, text: string): string | undefined {
  const bytes = latin1Bytes(text);
  const path = new Path(0);
  const isPath = path.parseWatched(bytes, 0, bytes.length, policy.home, XENSTORE_REL_PATH_MAX);
  return isPath && !/[^\0-\xff]/.test(text) ? path.toString() : undefined;
}
