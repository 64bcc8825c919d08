/** What `postern gate --explain` says: who may do what at a path, and by which rule. */

import { XENSTORE_REL_PATH_MAX } from '../../abi/xen/xs-wire.js';
import { latin1Bytes } from '../arena.js';
import { Path } from '../path.js';
import type { BoundPolicy, Explanation } from './bound-policy.js';
import { operationNeeds } from './requests/index.js';
import { RIGHT_NAMES, RIGHTS, type RightName } from './rights.js';

export interface RightExplanation {
  readonly right: RightName;
  /** The operations it stands for. */
  readonly allows: string;
  /** The rules that grant it; none: it is refused. */
  readonly by: readonly Explanation[];
}

export interface PathExplanation {
  /** Made absolute. */
  readonly path: string;
  readonly policy: string;
  readonly domid: number;
  readonly dm: number;
  readonly rights: readonly RightExplanation[];
  /** What must be there before anything is made at the path: the nearest node above that the client may not make. */
  readonly above: string;
  /** Operations that no policy grants. */
  readonly never: readonly string[];
}

/** @returns undefined where it is no path */
export function explainPath(policy: BoundPolicy, path: string): PathExplanation | undefined {
  const bytes = latin1Bytes(path);
  const parsed = new Path(0);
  const isPath = parsed.parseWatched(bytes, 0, bytes.length, policy.home, XENSTORE_REL_PATH_MAX);
  if (!isPath || /[^\0-\xff]/.test(path)) return undefined;
  const absolute = parsed.toString();
  const guard = parsed.special ? 0 : policy.decide(parsed).guard;
  const found = policy.explain(absolute);
  return {
    path: absolute,
    policy: policy.policy.name,
    domid: policy.parameters.domid,
    dm: policy.parameters.dm,
    rights: RIGHT_NAMES.map((right) => ({
      right,
      allows: RIGHTS[right][1],
      by: found.filter(({ rights }) => rights.includes(right)),
    })),
    above: guard === 0 ? '/' : absolute.slice(0, guard),
    never: operationNeeds().flatMap(({ operation, needs }) => (needs === undefined ? [operation] : [])),
  };
}
