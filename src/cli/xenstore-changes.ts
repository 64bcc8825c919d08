/** What `postern xenstore rm` and `chmod` do to more nodes than the one named. All in the caller's transaction. */
import {
  type NodePermissions,
  parsePermissions,
  type RequestOptions,
  type Transaction,
  XenStoreError,
} from '../sdk/xenstore.js';

/** The part of a path before its last slash; empty at the top, undefined where there is no slash. */
function parentOf(path: string): string | undefined {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? undefined : path.slice(0, slash);
}

/** Removes a node; with `tidy`, also the nodes above it that are left empty: without value and without children. */
export async function removeNode(tx: Transaction, path: string, tidy: boolean): Promise<void> {
  await tx.remove(path);
  if (!tidy) return;
  for (let parent = parentOf(path); parent; parent = parentOf(parent)) {
    if (!(await isEmpty(tx, parent))) return;
    await tx.remove(parent);
  }
}

async function isEmpty(tx: Transaction, path: string): Promise<boolean> {
  try {
    return (await tx.readBytes(path)).length === 0 && (await tx.list(path)).length === 0;
  } catch (error) {
    if (error instanceof XenStoreError && (error.code === 'ENOENT' || error.code === 'EACCES')) return false;
    throw error;
  }
}

/** `r0 w1`: the owner first. @returns undefined where a text is none; as with the C tools, `r` alone means r0 */
export function parseModes(texts: readonly string[]): NodePermissions | undefined {
  return parsePermissions(texts.map((text) => (text.length === 1 ? `${text}0` : text)));
}

/** @param upto also of all nodes above it, but the root @param recurse also of all below it */
export async function changePermissions(
  tx: Transaction,
  path: string,
  permissions: NodePermissions,
  { upto, recurse }: { upto: boolean; recurse: boolean },
  options?: RequestOptions,
): Promise<void> {
  await tx.setPermissions(path, permissions, options);
  if (upto) {
    for (let parent = parentOf(path); parent; parent = parentOf(parent)) await tx.setPermissions(parent, permissions);
  }
  if (recurse) await changeBelow(tx, path, permissions);
}

async function changeBelow(tx: Transaction, path: string, permissions: NodePermissions): Promise<void> {
  for (const name of await tx.list(path)) {
    const child = `${path}${path.endsWith('/') ? '' : '/'}${name}`;
    await tx.setPermissions(child, permissions);
    await changeBelow(tx, child, permissions);
  }
}
