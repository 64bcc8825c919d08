/**
 * What an operation works on: the store as it is now, or a transaction's view of it. One interface, so that each operation
 * is written once.
 *
 * Every look says what the answer will depend on. The store ignores that; a transaction remembers it, and it is exactly
 * what decides at its end whether another change was a conflict.
 */
import type { XsErrorName } from '../abi/xen/xs-wire.js';
import type { Connection } from './connection.js';
import type { Entry } from './node.js';
import type { Path } from './path.js';
import type { Perms, Subject } from './permissions.js';

/** The node's being there and its permissions. */
export const EXISTENCE = 1;
/** Its value, and everything of `EXISTENCE`. */
export const VALUE = 2;
/** Its list of children. */
export const CHILDREN = 4;

/** A request that caused events: it stays outstanding until its reply and all its events have been taken. */
export interface Cause {
  pending: number;
  readonly connection: Connection;
}

/** Who acts. `cause` is asked for only when there is an event to send. */
export interface Actor extends Subject {
  cause(): Cause | null;
}

export interface View {
  /** Set where the view can no longer be trusted: a transaction that ran out of quota. */
  readonly failed: XsErrorName | null;
  /** The entry at a path, given by the path's hash and bytes. */
  find(hash: number, bytes: Uint8Array, start: number, length: number, depends: number): Entry | null;
  /** Replaces a value. */
  write(who: Actor, entry: Entry, from: Uint8Array, start: number, length: number): XsErrorName | null;
  /** Creates a path that `find` just missed, and what is missing above it. */
  create(who: Actor, path: Path, from: Uint8Array, start: number, length: number): XsErrorName | null;
  /** Removes an entry, not the root, and all below it. */
  remove(who: Actor, entry: Entry): XsErrorName | null;
  setPerms(who: Actor, entry: Entry, perms: Perms): XsErrorName | null;
  /** Writes the `childBytes` bytes of the list of children: names with their nuls, oldest first. */
  copyChildren(entry: Entry, to: Uint8Array, at: number): void;
  /** Generation count as reported by DIRECTORY_PART. */
  generation(entry: Entry): number;
}

/** The nearest entry above a path that isn't there; null only where the view has failed, as the root always is. */
export function nearestAbove(view: View, path: Path, depends: number): Entry | null {
  for (let i = path.depth - 2; i >= 0; i--) {
    const hash = path.prefixHash[i] as number;
    const entry = view.find(hash, path.bytes, path.start, path.prefixLength[i] as number, depends);
    if (entry !== null) return entry;
    if (view.failed !== null) return null;
  }
  const root = view.find(path.rootHash, ROOT, 0, 1, depends);
  if (root === null && view.failed === null) throw new Error('the store has no root');
  return root;
}

/** The bytes of `/`. */
export const ROOT = Uint8Array.of(0x2f);
