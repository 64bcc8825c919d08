/**
 * A policy with one device model's numbers put in: what the gate asks about each request.
 *
 * Decisions are remembered by path in a table of fixed size, keyed by the path's seeded hash: a client that asks the same
 * few things costs no walk, one that asks ever new ones costs one each and no memory.
 */
import { latin1Bytes } from '../arena.js';
import type { Path } from '../path.js';
import { fill, matches, type Parameters } from './pattern.js';
import { PatternTree } from './pattern-tree.js';
import { fillAll, type PermissionLists, type Policy, type PolicyLimits } from './policy.js';
import { RIGHT_CREATE, RIGHTS, type RightName } from './rights.js';

const REMEMBERED = 256;
const REMEMBERED_PATH_MAX = 256;

/** What a policy says of one path. */
export interface Decision {
  readonly path: Uint8Array;
  readonly hash: number;
  readonly rights: number;
  /**
   * Length of the nearest prefix above, not counting the path itself, that the client may not make: it must be there
   * before anything is made below it. 0 where all of them may be made, as the root always is there.
   */
  readonly guard: number;
  /** Whether there may be something below that the client may know of. */
  readonly leadsOn: boolean;
  /** Whether all children may be listed. */
  readonly showsAll: boolean;
}

/** One grant of a path, for explanations. */
export interface Explanation {
  /** Index among the policy's grants. */
  readonly grant: number;
  readonly why: string;
  /** With the parameters still in it. */
  readonly pattern: string;
  readonly rights: readonly RightName[];
  /** Lists that may be set, or `any`. */
  readonly permissions: readonly string[];
}

export class BoundPolicy {
  readonly limits: PolicyLimits;
  /** What relative paths are relative to. */
  readonly home: Uint8Array;
  readonly #tree = new PatternTree();
  readonly #special = new Set<string>();
  readonly #introduced: ReadonlySet<number>;
  readonly #remembered = new Array<Decision | null>(REMEMBERED).fill(null);

  constructor(
    readonly policy: Policy,
    readonly parameters: Parameters,
  ) {
    this.limits = policy.limits;
    this.home = latin1Bytes(fill(policy.home, parameters));
    this.#introduced = new Set(fillAll(policy.introduced, parameters).map(Number));
    for (const { paths, rights } of policy.grants) {
      const bits = rights.reduce((sum, name) => sum | RIGHTS[name][0], 0);
      for (const path of fillAll(paths, parameters)) {
        if (path.startsWith('@')) this.#special.add(path);
        else this.#tree.add(path, bits);
      }
    }
  }

  decide(path: Path): Decision {
    const slot = path.hash & (REMEMBERED - 1);
    const known = this.#remembered[slot] as Decision | null;
    if (known !== null && known.hash === path.hash && isSame(known.path, path)) return known;
    const decision = this.#decide(path);
    if (path.length <= REMEMBERED_PATH_MAX) this.#remembered[slot] = decision;
    return decision;
  }

  /** For a listing: which children may be named. Answers for the path of the last call until the next one of anything. */
  childrenOf(path: Path): PatternTree {
    this.#tree.walk(path);
    return this.#tree;
  }

  mayWatchSpecial(name: string): boolean {
    return this.#special.has(name);
  }

  mayAskIntroduced(domid: number): boolean {
    return this.#introduced.has(domid);
  }

  /** Whether SET_PERMS on the path may set this list, written as over the wire with blanks between: `n0 r1`. */
  maySetPerms(path: string, list: string): boolean {
    return this.explain(path).some(({ permissions }) => permissions.includes(list) || permissions.includes('any'));
  }

  /** Every grant that matches a path. */
  explain(path: string): Explanation[] {
    const found: Explanation[] = [];
    for (const [grant, { paths, rights, why, permissions = [] }] of this.policy.grants.entries()) {
      for (const pattern of paths) {
        if (!matches(fill(pattern, this.parameters), path)) continue;
        const lists = this.#lists(permissions);
        found.push({ grant, why, pattern, rights, permissions: lists });
      }
    }
    return found;
  }

  #lists(permissions: PermissionLists): string[] {
    if (permissions === 'any') return ['any'];
    return permissions.map((list) => fillAll(list, this.parameters).join(' '));
  }

  #decide(path: Path): Decision {
    const tree = this.#tree;
    const rights = tree.walk(path);
    let above = path.depth - 1;
    while (above > 0 && ((tree.rightsAt[above] as number) & RIGHT_CREATE) !== 0) above--;
    return {
      path: path.bytes.slice(path.start, path.start + path.length),
      hash: path.hash,
      rights,
      guard: above > 0 ? (path.prefixLength[above - 1] as number) : 0,
      leadsOn: tree.leadsOn,
      showsAll: tree.showsAll,
    };
  }
}

function isSame(known: Uint8Array, path: Path): boolean {
  if (known.length !== path.length) return false;
  const { bytes, start } = path;
  for (let i = 0; i < known.length; i++) if (known[i] !== bytes[start + i]) return false;
  return true;
}
