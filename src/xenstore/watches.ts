/**
 * Watches, kept where the paths are: a change looks only at its own node and the nodes above it, so its cost doesn't depend
 * on how many watches are set elsewhere.
 *
 * A `WatchPoint` is a watched path, there or not. A node knows the point of its path (`node.watched`): firing climbs from
 * the changed node to the root along parents and finds the watches without a single lookup. Matching watches fire in the
 * order in which they were set.
 *
 * An event goes only to who may read the node, its parent, or could read it before a change of permissions (XSA-115).
 * @spec xen:docs/misc/xenstore.txt WATCH, WATCH_EVENT
 */
import { XS_PERM_READ } from '../abi/xen/xs-wire.js';
import { type ByteArena, type ByteRef, latin1Bytes } from './arena.js';
import type { Connection } from './connection.js';
import type { Domain } from './domains.js';
import type { Node } from './node.js';
import type { NodeTable } from './node-table.js';
import { hashBytes, type Path } from './path.js';
import type { Perms } from './permissions.js';
import type { Actor, Cause } from './view.js';

export const NO_DEPTH_LIMIT = -1;

/** A watched path and its watches in the order they were set. */
export class WatchPoint {
  readonly hash: number;
  readonly pathRef: ByteRef;
  readonly length: number;
  /** Number of segments. */
  readonly depth: number;
  readonly watches = new Set<Watch>();
  /** The live node of the path. */
  node: Node | null = null;
  /** Next point of the same hash. */
  chain: WatchPoint | null = null;

  constructor(hash: number, pathRef: ByteRef, length: number, depth: number) {
    this.hash = hash;
    this.pathRef = pathRef;
    this.length = length;
    this.depth = depth;
  }
}

export class Watch {
  readonly connection: Connection;
  readonly point: WatchPoint;
  readonly token: Uint8Array;
  /** Key in the connection's table. */
  readonly key: string;
  /** Bytes of the path that a client who watched a relative path doesn't see. */
  readonly skip: number;
  /** Levels below the path that match, or `NO_DEPTH_LIMIT`. */
  readonly depth: number;
  readonly serial: number;

  constructor(
    connection: Connection,
    point: WatchPoint,
    token: Uint8Array,
    key: string,
    skip: number,
    depth: number,
    serial: number,
  ) {
    this.connection = connection;
    this.point = point;
    this.token = token;
    this.key = key;
    this.skip = skip;
    this.depth = depth;
    this.serial = serial;
  }

  /** Bytes charged to the watcher. */
  get memory(): number {
    return this.point.length + this.token.length;
  }
}

export type SpecialWatch = '@introduceDomain' | '@releaseDomain';

export class Watches {
  readonly #arena: ByteArena;
  readonly #points = new Map<number, WatchPoint>();
  /** Who may receive the special events. */
  readonly special: Record<SpecialWatch, Perms>;
  #count = 0;
  #serial = 0;
  #hits: Watch[] = [];

  constructor(arena: ByteArena, specialPerms: Perms) {
    this.#arena = arena;
    this.special = { '@introduceDomain': specialPerms, '@releaseDomain': specialPerms };
  }

  get count(): number {
    return this.#count;
  }

  add(
    connection: Connection,
    path: Path,
    token: Uint8Array,
    key: string,
    skip: number,
    depth: number,
    table: NodeTable,
  ): Watch {
    let point = this.#find(path.hash, path.bytes, path.start, path.length);
    if (point === null) {
      const ref = this.#arena.store(path.bytes, path.start, path.length);
      point = new WatchPoint(path.hash, ref, path.length, path.depth);
      point.chain = this.#points.get(path.hash) ?? null;
      this.#points.set(path.hash, point);
      point.node = table.live(path.hash, path.bytes, path.start, path.length);
      if (point.node !== null) point.node.watched = point;
    }
    const watch = new Watch(connection, point, token, key, skip, depth, this.#serial++);
    point.watches.add(watch);
    this.#count++;
    return watch;
  }

  remove(watch: Watch): void {
    const point = watch.point;
    if (!point.watches.delete(watch)) throw new Error('watch is not set');
    this.#count--;
    if (point.watches.size > 0) return;
    if (point.node !== null) point.node.watched = null;
    this.#arena.free(point.pathRef, point.length);
    const head = this.#points.get(point.hash) as WatchPoint;
    if (head === point) {
      if (point.chain === null) this.#points.delete(point.hash);
      else this.#points.set(point.hash, point.chain);
      return;
    }
    let before = head;
    while (before.chain !== point) before = before.chain as WatchPoint;
    before.chain = point.chain;
  }

  /** A node has come to a path: the watches set on the path belong to it. */
  attach(node: Node): void {
    if (this.#count === 0) return;
    const chunk = this.#arena.chunk(node.pathRef);
    const point = this.#find(node.hash, chunk, this.#arena.offset(node.pathRef), node.pathLength);
    if (point === null) return;
    point.node = node;
    node.watched = point;
  }

  /** A node leaves its path. It keeps `watched` for the events of its own removal. */
  detach(node: Node): void {
    if (node.watched !== null && node.watched.node === node) node.watched.node = null;
  }

  /**
   * Sends the events of one change.
   * @param exact only watches on exactly this path match: the node went because one above it was removed
   * @param oldPerms the permissions before they were changed
   */
  fire(node: Node, exact: boolean, oldPerms: Perms | null, who: Actor): void {
    if (this.#count === 0) return;
    const hits = this.#hits;
    let levels = 0;
    for (let n: Node | null = node; n !== null; n = exact ? null : n.parent, levels++) {
      if (n.watched === null) continue;
      for (const watch of n.watched.watches) if (watch.depth < 0 || levels <= watch.depth) hits.push(watch);
    }
    if (hits.length === 0) return;
    this.#hits = [];
    if (hits.length > 1) hits.sort((a, b) => a.serial - b.serial);
    const cause = who.cause();
    const chunk = this.#arena.chunk(node.pathRef);
    const offset = this.#arena.offset(node.pathRef);
    for (const watch of hits) {
      const to = watch.connection;
      if (!mayKnow(to, node, oldPerms)) continue;
      to.sendEvent(chunk, offset + watch.skip, node.pathLength - watch.skip, watch.token, cause, true);
    }
    hits.length = 0;
    this.#hits = hits;
  }

  /** Sends `@introduceDomain` or `@releaseDomain`, with the domid to who asked for it. */
  fireSpecial(name: SpecialWatch, domain: Domain, cause: Cause | null, rootHash: number): void {
    const general = latin1Bytes(name);
    const particular = latin1Bytes(`${name}/${domain.domid}`);
    const points = [this.#findSpecial(general, rootHash), this.#findSpecial(particular, rootHash)];
    const hits = points.flatMap((p) => (p === null ? [] : [...p.watches])).sort((a, b) => a.serial - b.serial);
    for (const watch of hits) {
      const to = watch.connection;
      if ((this.special[name].rightsOf(to) & XS_PERM_READ) === 0) continue;
      const text = watch.depth === 1 || watch.point.length > general.length ? particular : general;
      to.sendEvent(text, 0, text.length, watch.token, cause, false);
    }
  }

  /** For the consistency check: every point with a watch. */
  *points(): Generator<WatchPoint> {
    for (const head of this.#points.values()) for (let p: WatchPoint | null = head; p !== null; p = p.chain) yield p;
  }

  #find(hash: number, bytes: Uint8Array, start: number, length: number): WatchPoint | null {
    for (let p = this.#points.get(hash) ?? null; p !== null; p = p.chain) {
      if (p.length === length && this.#arena.equals(p.pathRef, bytes, start, length)) return p;
    }
    return null;
  }

  #findSpecial(name: Uint8Array, rootHash: number): WatchPoint | null {
    return this.#find(hashBytes(name, rootHash), name, 0, name.length);
  }
}

function mayKnow(to: Connection, node: Node, oldPerms: Perms | null): boolean {
  return (
    to.privileged ||
    (oldPerms !== null && (oldPerms.rightsOf(to) & XS_PERM_READ) !== 0) ||
    (node.perms.rightsOf(to) & XS_PERM_READ) !== 0 ||
    (node.parent !== null && (node.parent.perms.rightsOf(to) & XS_PERM_READ) !== 0)
  );
}
