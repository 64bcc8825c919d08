/** All operations, by type: the dispatcher's table and the support matrix. Types that only a server sends have none. */
import { XS_ERROR, XS_WATCH_EVENT } from '../../abi/xen/xs-wire.js';
import { control } from './control.js';
import { directory } from './directory.js';
import { directoryPart } from './directory-part.js';
import { getDomainPath } from './get-domain-path.js';
import { getFeature } from './get-feature.js';
import { getPerms } from './get-perms.js';
import { getQuota } from './get-quota.js';
import { introduce } from './introduce.js';
import { isDomainIntroduced } from './is-domain-introduced.js';
import { mkdir } from './mkdir.js';
import type { Operation } from './operation.js';
import { read } from './read.js';
import { release } from './release.js';
import { resetWatches } from './reset-watches.js';
import { restrict } from './restrict.js';
import { resume } from './resume.js';
import { rm } from './rm.js';
import { setFeature } from './set-feature.js';
import { setPerms } from './set-perms.js';
import { setQuota } from './set-quota.js';
import { setTarget } from './set-target.js';
import { transactionEnd } from './transaction-end.js';
import { transactionStart } from './transaction-start.js';
import { unwatch } from './unwatch.js';
import { watch } from './watch.js';
import { write } from './write.js';

const ALL: readonly Operation[] = [
  control,
  directory,
  read,
  getPerms,
  watch,
  unwatch,
  transactionStart,
  transactionEnd,
  introduce,
  release,
  getDomainPath,
  write,
  mkdir,
  rm,
  setPerms,
  isDomainIntroduced,
  resume,
  setTarget,
  restrict,
  resetWatches,
  directoryPart,
  getFeature,
  setFeature,
  getQuota,
  setQuota,
];

/** Sparse: indexed by type. */
export const OPERATIONS: readonly (Operation | undefined)[] = (() => {
  const table = new Array<Operation | undefined>(1 + Math.max(...ALL.map((o) => o.type))).fill(undefined);
  for (const operation of ALL) table[operation.type] = operation;
  return table;
})();

/** The name of any type, for traces. */
export function typeName(type: number): string {
  if (type === XS_WATCH_EVENT) return 'WATCH_EVENT';
  if (type === XS_ERROR) return 'ERROR';
  return OPERATIONS[type]?.name ?? `type ${type}`;
}
