/** What `postern gate --explain` says: who may do what at a path, and by which rule. */
import type { BoundPolicy, Explanation } from './bound-policy.js';
import { checkPath } from './check-path.js';
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
  /** Operations that no policy grants. */
  readonly never: readonly string[];
}

/** @returns undefined where it is no path */
export function explainPath(policy: BoundPolicy, path: string): PathExplanation | undefined {
  const absolute = checkPath(policy, path);
  if (absolute === undefined) return undefined;
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
    never: operationNeeds().flatMap(({ operation, needs }) => (needs === undefined ? [operation] : [])),
  };
}
