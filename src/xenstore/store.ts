/**
 * The store: a tree of nodes as it is now, and the states of it that open transactions still see.
 *
 * All changes go through the four primitives at the end (`insert`, `detach`, `replaceValue`, `replacePerms`), which keep
 * versions, counts and memory right; operations outside transactions and commits share them. Checks come before the first
 * change: nothing is ever created in part (XSA-414, 415, 421). No recursion anywhere (XSA-418).
 *
 * Trusts its callers to have checked paths and rights; checks quotas itself.
 */
import type { XsErrorName } from '../abi/xen/xs-wire.js';
import { checkCreate, checkMemory, checkNodeSize, firstMissing, nodeMemory, recordSize } from './accounting.js';
import { type ByteArena, type ByteRef, sameSlotSize } from './arena.js';
import type { Domain } from './domains.js';
import { type Entry, generationOf, LIVE, Node, nameStart, Version } from './node.js';
import { NodeTable } from './node-table.js';
import type { Observer } from './observer.js';
import type { Path } from './path.js';
import type { Perms, PermsPool } from './permissions.js';
import type { Quotas } from './quotas.js';
import { Snapshots } from './snapshots.js';
import { type Actor, nearestAbove, ROOT, type View } from './view.js';
import type { Watches } from './watches.js';

/** Garbage looked at when a former state is kept. */
const COLLECT_PER_CHANGE = 4;

export class Store implements View {
  readonly failed = null;
  readonly arena: ByteArena;
  readonly table: NodeTable;
  readonly snapshots = new Snapshots();
  readonly root: Node;
  readonly pool: PermsPool;
  /** Counts changes; a snapshot is a value of it. */
  clock = 1;
  /** Who is told of every lasting change. */
  observer: Observer | null = null;
  readonly #quotas: Quotas;
  readonly #watches: Watches;
  readonly #drop = (version: Version): void => this.#dropVersion(version);

  constructor(arena: ByteArena, quotas: Quotas, watches: Watches, pool: PermsPool, rootHash: number, perms: Perms) {
    this.arena = arena;
    this.table = new NodeTable(arena);
    this.pool = pool;
    this.#quotas = quotas;
    this.#watches = watches;
    this.root = new Node(rootHash, arena.store(ROOT, 0, 1), 1, null, 0, 0, perms, this.clock);
    this.table.add(this.root);
    perms.owner.own(this.root, nodeMemory(this.root));
  }

  find(hash: number, bytes: Uint8Array, start: number, length: number, _depends: number): Node | null {
    return this.table.live(hash, bytes, start, length);
  }

  write(who: Actor, entry: Entry, from: Uint8Array, start: number, length: number): XsErrorName | null {
    const node = entry as Node;
    if (!who.privileged) {
      const error =
        checkNodeSize(this.#quotas, who, recordSize(node.perms, length, node.childBytes)) ??
        checkMemory(this.#quotas, who, node.perms.owner, length - node.valueLength);
      if (error !== null) return error;
    }
    this.#overwriteValue(node, from, start, length);
    this.observer?.nodeChanged(node);
    this.#watches.fire(node, false, null, who);
    return null;
  }

  create(who: Actor, path: Path, from: Uint8Array, start: number, length: number): XsErrorName | null {
    const above = nearestAbove(this, path, 0) as Node;
    const first = firstMissing(path, above);
    const perms = this.pool.inherited(above.perms, who);
    const error = checkCreate(this.#quotas, who, path, above, perms, length, 0);
    if (error !== null) return error;
    let node = above;
    for (let i = first; i < path.depth; i++) {
      const pathLength = path.prefixLength[i] as number;
      const pathRef = this.arena.store(path.bytes, path.start, pathLength);
      const last = i === path.depth - 1;
      const valueRef = last ? this.arena.store(from, start, length) : 0;
      node = this.insert(node, path.prefixHash[i] as number, pathRef, pathLength, valueRef, last ? length : 0, perms);
      this.observer?.nodeChanged(node);
    }
    this.#watches.fire(node, false, null, who);
    return null;
  }

  /** Events come from the leaves up, as on C xenstored: below the removed node only watches on exactly that path fire. */
  remove(who: Actor, entry: Entry): XsErrorName | null {
    const top = entry as Node;
    this.observer?.nodeRemoved(top);
    let node: Node = deepest(top);
    for (;;) {
      this.#watches.fire(node, node !== top, null, who);
      const next: Node | null = node === top ? null : (liveFrom(node.nextSibling) ?? node.parent);
      const descend = next !== null && next !== node.parent;
      this.detach(node);
      if (next === null) return null;
      node = descend ? deepest(next) : next;
    }
  }

  setPerms(who: Actor, entry: Entry, perms: Perms): XsErrorName | null {
    const node = entry as Node;
    const old = node.perms;
    if (!who.privileged) {
      const size = recordSize(perms, node.valueLength, node.childBytes);
      const growth = size - recordSize(old, node.valueLength, node.childBytes);
      const error = checkNodeSize(this.#quotas, who, size) ?? checkMemory(this.#quotas, who, perms.owner, growth);
      if (error !== null) return error;
    }
    this.replacePerms(node, perms);
    this.observer?.nodeChanged(node);
    this.#watches.fire(node, false, old, who);
    return null;
  }

  copyChildren(entry: Entry, to: Uint8Array, at: number): void {
    const skip = nameStart(entry);
    let offset = at;
    for (let child = (entry as Node).firstChild; child !== null; child = child.nextSibling) {
      if (child.death !== LIVE) continue;
      const length = child.pathLength - skip;
      this.arena.copyTo(child.pathRef, skip, length, to, offset);
      to[offset + length] = 0;
      offset += length + 1;
    }
  }

  generation(entry: Entry): number {
    return generationOf(entry as Node);
  }

  /** Live children, oldest first. */
  *children(node: Node): Generator<Node> {
    for (let child = node.firstChild; child !== null; child = child.nextSibling) if (child.death === LIVE) yield child;
  }

  /** Removes everything that a domain owns, and what is below; not the root. At a cost that depends only on that. */
  removeOwnedBy(domain: Domain, who: Actor): void {
    for (let node = domain.firstOwned; node !== null; node = domain.firstOwned) {
      let top = node;
      for (let above = node.parent; above?.parent != null; above = above.parent) {
        if (above.perms.owner === domain) top = above;
      }
      this.remove(who, top);
    }
  }

  /** Gives back what no snapshot sees any more, looking at no more than `limit` former states. */
  collect(limit: number): void {
    if (this.snapshots.pending) this.snapshots.collect(limit, this.#drop);
  }

  // ---- primitives

  /** Puts a new node below `parent`. Takes over both byte references. */
  insert(
    parent: Node,
    hash: number,
    pathRef: ByteRef,
    pathLength: number,
    valueRef: ByteRef,
    valueLength: number,
    perms: Perms,
  ): Node {
    const node = new Node(hash, pathRef, pathLength, parent, valueRef, valueLength, perms, ++this.clock);
    node.previousSibling = parent.lastChild;
    if (parent.lastChild === null) parent.firstChild = node;
    else parent.lastChild.nextSibling = node;
    parent.lastChild = node;
    parent.childGeneration = this.clock;
    const nameBytes = pathLength - nameStart(parent) + 1;
    parent.childBytes += nameBytes;
    parent.perms.owner.memory += nameBytes;
    perms.owner.own(node, nodeMemory(node));
    this.table.add(node);
    this.#watches.attach(node);
    return node;
  }

  /** Takes a node without live children out of the store. */
  detach(node: Node): void {
    const parent = node.parent as Node;
    node.death = ++this.clock;
    parent.childGeneration = this.clock;
    const nameBytes = node.pathLength - nameStart(parent) + 1;
    parent.childBytes -= nameBytes;
    parent.perms.owner.memory -= nameBytes;
    node.perms.owner.disown(node, nodeMemory(node));
    this.#watches.detach(node);
    if (this.snapshots.newest >= node.dataGeneration) this.#keep(node, node.dataGeneration);
    else this.arena.free(node.valueRef, node.valueLength);
    node.valueRef = node.valueLength = 0;
    node.dataGeneration = node.death;
    if (node.history === null) this.#reclaim(node);
  }

  /** Makes bytes that the caller owns the node's value. */
  replaceValue(node: Node, valueRef: ByteRef, valueLength: number): void {
    if (!this.#startVersion(node)) this.arena.free(node.valueRef, node.valueLength);
    node.perms.owner.memory += valueLength - node.valueLength;
    node.valueRef = valueRef;
    node.valueLength = valueLength;
  }

  replacePerms(node: Node, perms: Perms): void {
    const kept = this.#startVersion(node);
    node.perms.owner.disown(node, nodeMemory(node));
    // The version owns the value's bytes now: the node goes on with a copy.
    if (kept && node.valueLength > 0) {
      const chunk = this.arena.chunk(node.valueRef);
      node.valueRef = this.arena.store(chunk, this.arena.offset(node.valueRef), node.valueLength);
    }
    node.perms = perms;
    perms.owner.own(node, nodeMemory(node));
  }

  // ---- private

  #overwriteValue(node: Node, from: Uint8Array, start: number, length: number): void {
    if (this.snapshots.newest < node.dataGeneration && sameSlotSize(node.valueLength, length)) {
      this.arena.overwrite(node.valueRef, from, start, length);
      node.perms.owner.memory += length - node.valueLength;
      node.valueLength = length;
      node.dataGeneration = ++this.clock;
    } else {
      this.replaceValue(node, this.arena.store(from, start, length), length);
    }
  }

  /** Before a change of value or permissions: a new generation. True where a snapshot sees the old state: it is saved. */
  #startVersion(node: Node): boolean {
    const generation = node.dataGeneration;
    node.dataGeneration = ++this.clock;
    if (this.snapshots.newest < generation) return false;
    this.#keep(node, generation);
    return true;
  }

  #keep(node: Node, generation: number): void {
    const version = new Version(node, generation);
    node.history = version;
    this.snapshots.keep(version);
    this.collect(COLLECT_PER_CHANGE);
  }

  #dropVersion(version: Version): void {
    const { node } = version;
    this.arena.free(version.valueRef, version.valueLength);
    if (node.history === version) {
      node.history = version.older;
    } else {
      let newer = node.history as Version;
      while (newer.older !== version) newer = newer.older as Version;
      newer.older = version.older;
    }
    if (node.history === null && node.death !== LIVE) this.#reclaim(node);
  }

  /** Gives back a removed node that no snapshot sees. */
  #reclaim(node: Node): void {
    const parent = node.parent as Node;
    if (node.previousSibling === null) parent.firstChild = node.nextSibling;
    else node.previousSibling.nextSibling = node.nextSibling;
    if (node.nextSibling === null) parent.lastChild = node.previousSibling;
    else node.nextSibling.previousSibling = node.previousSibling;
    this.table.remove(node);
    this.arena.free(node.pathRef, node.pathLength);
  }
}

/** The first live node from here along the siblings. */
function liveFrom(node: Node | null): Node | null {
  let n = node;
  while (n !== null && n.death !== LIVE) n = n.nextSibling;
  return n;
}

/** The first leaf below a node: where a walk from the leaves up begins. */
function deepest(node: Node): Node {
  let n = node;
  for (let child = liveFrom(n.firstChild); child !== null; child = liveFrom(n.firstChild)) n = child;
  return n;
}
