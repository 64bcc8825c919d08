/**
 * Finds a node by its path in one step, whatever its depth: a hash table over whole paths.
 *
 * It grows by linear hashing, one bucket split an insertion, so that no single request pays for rehashing the store.
 * Several nodes may have the same path (one live, the others tombstones of the past).
 */
import type { ByteArena } from './arena.js';
import { LIVE, type Node, visibleAt } from './node.js';

const INITIAL_BUCKETS = 64;

export class NodeTable {
  readonly #arena: ByteArena;
  readonly #buckets: (Node | null)[] = new Array<Node | null>(INITIAL_BUCKETS).fill(null);
  /** Buckets 0 to `#low` + `#buckets.length - #low - 1` … the usual linear hashing: `#low` is a power of two. */
  #low = INITIAL_BUCKETS;
  #count = 0;

  constructor(arena: ByteArena) {
    this.#arena = arena;
  }

  get size(): number {
    return this.#count;
  }

  /** The node that has this path now. */
  live(hash: number, bytes: Uint8Array, start: number, length: number): Node | null {
    let node = this.#buckets[this.#bucket(hash)] as Node | null;
    for (; node !== null; node = node.chain) {
      if (
        node.hash === hash &&
        node.death === LIVE &&
        node.pathLength === length &&
        this.#arena.equals(node.pathRef, bytes, start, length)
      ) {
        return node;
      }
    }
    return null;
  }

  /** The node that had this path at a snapshot. */
  at(snapshot: number, hash: number, bytes: Uint8Array, start: number, length: number): Node | null {
    let node = this.#buckets[this.#bucket(hash)] as Node | null;
    for (; node !== null; node = node.chain) {
      if (
        node.hash === hash &&
        node.pathLength === length &&
        visibleAt(node, snapshot) !== null &&
        this.#arena.equals(node.pathRef, bytes, start, length)
      ) {
        return node;
      }
    }
    return null;
  }

  add(node: Node): void {
    const b = this.#bucket(node.hash);
    node.chain = this.#buckets[b] as Node | null;
    this.#buckets[b] = node;
    if (++this.#count > this.#buckets.length) this.#split();
  }

  remove(node: Node): void {
    const b = this.#bucket(node.hash);
    let previous: Node | null = null;
    for (let n = this.#buckets[b] as Node | null; n !== null; previous = n, n = n.chain) {
      if (n !== node) continue;
      if (previous === null) this.#buckets[b] = n.chain;
      else previous.chain = n.chain;
      n.chain = null;
      this.#count--;
      return;
    }
    throw new Error('node is not in the table');
  }

  *[Symbol.iterator](): Generator<Node> {
    for (const head of this.#buckets) for (let n = head; n !== null; n = n.chain) yield n;
  }

  #bucket(hash: number): number {
    const b = hash & (2 * this.#low - 1);
    return b < this.#buckets.length ? b : b & (this.#low - 1);
  }

  #split(): void {
    const from = this.#buckets.length - this.#low;
    const to = this.#buckets.length;
    let stay: Node | null = null;
    let move: Node | null = null;
    for (let n = this.#buckets[from] as Node | null; n !== null; ) {
      const next: Node | null = n.chain;
      if ((n.hash & (2 * this.#low - 1)) === to) {
        n.chain = move;
        move = n;
      } else {
        n.chain = stay;
        stay = n;
      }
      n = next;
    }
    this.#buckets[from] = stay;
    this.#buckets.push(move);
    if (this.#buckets.length === 2 * this.#low) this.#low *= 2;
  }
}
