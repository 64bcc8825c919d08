/**
 * What a node weighs, and the checks before a domain may have more of it.
 *
 * Sizes are those of C xenstored's database records (24 bytes of header, 8 a permission, value, list of children; the
 * path as key), so that the same limits mean the same.
 */
import type { XsErrorName } from '../abi/xen/xs-wire.js';
import type { Domain } from './domains.js';
import { type Entry, nameStart } from './node.js';
import type { Path } from './path.js';
import type { Perms, Subject } from './permissions.js';
import type { Quotas } from './quotas.js';

const HEADER_BYTES = 24;
const PERM_BYTES = 8;

/** The size that the `node-size` quota limits. */
export function recordSize(perms: Perms, valueLength: number, childBytes: number): number {
  return HEADER_BYTES + PERM_BYTES * perms.entries.length + valueLength + childBytes;
}

/** The memory a node is charged to its owner with. */
export function nodeMemory(entry: Entry): number {
  return entry.pathLength + recordSize(entry.perms, entry.valueLength, entry.childBytes);
}

export function checkNodeSize(quotas: Quotas, who: Subject, size: number): XsErrorName | null {
  if (who.privileged) return null;
  const limit = quotas.of(who.domain)['node-size'];
  if (limit === 0 || size < limit) return null;
  return quotas.deny(who.domain, 'node-size', 'ENOSPC', `a node of ${size} bytes, limit ${limit}`);
}

export function checkNodeCount(quotas: Quotas, who: Subject, added: number): XsErrorName | null {
  const domain = who.domain;
  if (who.privileged || !quotas.exceeds(domain, 'nodes', domain.nodes + added)) return null;
  return quotas.deny(
    domain,
    'nodes',
    'ENOSPC',
    `${domain.nodes} nodes and ${added} more, limit ${quotas.of(domain).nodes}`,
  );
}

/** Privileged writers aren't stopped by a guest's limit: a full guest must stay manageable. */
export function checkMemory(quotas: Quotas, who: Subject, owner: Domain, bytes: number): XsErrorName | null {
  if (who.privileged || quotas.mayGrow(owner, bytes)) return null;
  return quotas.deny(
    owner,
    'memory',
    'ENOMEM',
    `${owner.memory} bytes and ${bytes} more, limit ${quotas.of(owner).memory}`,
  );
}

/** Index of the first segment of a path that isn't there, where `above` is the nearest entry that is. */
export function firstMissing(path: Path, above: Entry): number {
  if (above.pathLength === 1) return 0;
  let i = path.depth - 1;
  while ((path.prefixLength[i - 1] as number) !== above.pathLength) i--;
  return i;
}

/**
 * Whether a path may be created below the nearest entry above it: all checks before the first change.
 * @param pendingNodes nodes that the same transaction has created already
 */
export function checkCreate(
  quotas: Quotas,
  who: Subject,
  path: Path,
  above: Entry,
  perms: Perms,
  valueLength: number,
  pendingNodes: number,
): XsErrorName | null {
  if (who.privileged) return null;
  if (!who.domain.alive) return 'EACCES';
  const first = firstMissing(path, above);
  const nameBytes = (path.prefixLength[first] as number) - nameStart(above) + 1;
  let memory = 0;
  let largest = recordSize(above.perms, above.valueLength, above.childBytes + nameBytes);
  for (let i = first; i < path.depth; i++) {
    const last = i + 1 === path.depth;
    const childBytes = last ? 0 : (path.prefixLength[i + 1] as number) - (path.prefixLength[i] as number);
    const size = recordSize(perms, last ? valueLength : 0, childBytes);
    memory += (path.prefixLength[i] as number) + size;
    largest = Math.max(largest, size);
  }
  return (
    checkNodeCount(quotas, who, pendingNodes + path.depth - first) ??
    checkNodeSize(quotas, who, largest) ??
    checkMemory(quotas, who, perms.owner, memory) ??
    checkMemory(quotas, who, above.perms.owner, nameBytes)
  );
}
