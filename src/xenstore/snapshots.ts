/**
 * The open snapshots (one a transaction), and what the store keeps for their sake.
 *
 * A snapshot is a generation count, so opening one costs nothing and a thousand open ones slow nobody down: a writer keeps
 * the state it replaces only if the newest snapshot can see it. What is kept is queued; the collector looks at a few
 * entries a request, gives back what no snapshot sees and puts the rest at the end of the queue. So an old snapshot pins
 * at most one state a node, whatever happens later, and no single request pays for clearing up.
 */
import type { Node } from './node.js';

export class Snapshots {
  /** Generations of the open snapshots, oldest first. */
  readonly #open: number[] = [];
  #queue: Node[] = [];
  #head = 0;
  /** Generation of the newest open snapshot, or -1. */
  newest = -1;

  get count(): number {
    return this.#open.length;
  }

  /** Nodes with states that may be garbage. */
  get pending(): number {
    return this.#queue.length - this.#head;
  }

  open(generation: number): void {
    this.#open.push(generation);
    this.newest = generation;
  }

  close(generation: number): void {
    const i = this.#firstAtLeast(generation);
    if (this.#open[i] !== generation) throw new Error(`no snapshot ${generation} is open`);
    this.#open.splice(i, 1);
    this.newest = this.#open[this.#open.length - 1] ?? -1;
  }

  /** Whether a snapshot sees what was there from one generation until before another. */
  sees(from: number, until: number): boolean {
    const at = this.#open[this.#firstAtLeast(from)];
    return at !== undefined && at < until;
  }

  /** Remembers that a node has a state that only snapshots see. */
  enqueue(node: Node): void {
    if (node.queued) return;
    node.queued = true;
    this.#queue.push(node);
  }

  /** Takes up to `limit` nodes from the queue; those that `prune` says still hold something go back. */
  collect(limit: number, prune: (node: Node) => boolean): void {
    for (let n = Math.min(limit, this.pending); n > 0; n--) {
      const node = this.#queue[this.#head++] as Node;
      if (prune(node)) this.#queue.push(node);
      else node.queued = false;
    }
    if (this.#head === this.#queue.length) {
      this.#queue = [];
      this.#head = 0;
    } else if (this.#head > 1024 && this.#head > this.#queue.length / 2) {
      this.#queue = this.#queue.slice(this.#head);
      this.#head = 0;
    }
  }

  #firstAtLeast(generation: number): number {
    let low = 0;
    let high = this.#open.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#open[middle] as number) < generation) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
