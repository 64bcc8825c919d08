/**
 * The nodes that the client has made and not removed, all connections together, against the policy's limit.
 *
 * A change counts as soon as it is asked for, with every parent that it may make on its way: whether they were there
 * already, nobody says. What is freed is only what is certainly gone, as the client chooses what is on its way when:
 *
 *     claimed ──refused, and never made by another──▶ freed
 *        └──made──▶ counted ──removed, with nothing on its way then, and not asked for again since──▶ freed
 */

interface Node {
  /** Changes on their way. */
  pending: number;
  /** One has been made. */
  isMade: boolean;
  /** Changes ever asked for. */
  claims: number;
}

/** Paths that one change may make. */
export type Claim = readonly string[];

/** A node that a removal takes away, if the removal happens. */
export interface Removal {
  readonly path: string;
  readonly node: Node;
  readonly claims: number;
}

export class NodeAccount {
  readonly #nodes = new Map<string, Node>();

  /** @param limit 0 for none: then nothing is counted */
  constructor(readonly limit: number) {}

  get size(): number {
    return this.#nodes.size;
  }

  /**
   * Counts a node and those above it that may be made with it: whose paths are longer than `guard`.
   * @returns what `settle` takes; null where there would be too many
   */
  claim(path: string, guard: number): Claim | null {
    if (this.limit === 0) return [];
    const paths = [path];
    for (let at = path.lastIndexOf('/'); at > guard; at = path.lastIndexOf('/', at - 1)) {
      paths.push(path.slice(0, at));
      if (paths.length > this.limit) return null;
    }
    let more = 0;
    for (const each of paths) if (!this.#nodes.has(each)) more++;
    if (more > 0 && this.#nodes.size + more > this.limit) return null;
    for (const each of paths) {
      const node = this.#nodes.get(each) ?? { pending: 0, isMade: false, claims: 0 };
      node.pending++;
      node.claims++;
      this.#nodes.set(each, node);
    }
    return paths;
  }

  /** The change has been made, or nobody knows; or it certainly has not. */
  settle(claim: Claim, isMade: boolean): void {
    for (const path of claim) {
      const node = this.#nodes.get(path) as Node;
      node.pending--;
      node.isMade ||= isMade;
      if (node.pending === 0 && !node.isMade) this.#nodes.delete(path);
    }
  }

  /** What would be gone without the path, for `free` once it is. */
  below(path: string): Removal[] {
    const above = path === '/' ? path : `${path}/`;
    const found: Removal[] = [];
    for (const [each, node] of this.#nodes) {
      if (node.pending > 0 || (each !== path && !each.startsWith(above))) continue;
      found.push({ path: each, node, claims: node.claims });
    }
    return found;
  }

  free(removals: Iterable<Removal>): void {
    for (const { path, node, claims } of removals) {
      if (node.claims === claims && this.#nodes.get(path) === node) this.#nodes.delete(path);
    }
  }
}
