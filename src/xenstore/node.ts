/**
 * A node of the store: one incarnation of a path, from its creation to its removal.
 *
 * Time is the generation count. A node's present state is in its fields; states that an open transaction still sees are
 * in `history`, the last one of a removed node too: it stays as a tombstone (`death` > 0) while it has any. Creating the
 * path anew makes another node. So "what did this path look like at generation S" has one answer, and a
 * transaction starts by remembering S.
 *
 *     born ──(write: version saved if a snapshot sees it)──▶ live ──(removed)──▶ tombstone ──(no snapshot)──▶ reclaimed
 *                                                             └──────────(removed, no snapshot)──────────────▶ reclaimed
 */
import type { ByteRef } from './arena.js';
import type { Perms } from './permissions.js';
import type { WatchPoint } from './watches.js';

/** `death` of a node that is in the store now. */
export const LIVE = 0;

/** What an operation sees of a node, in the store or in a transaction. */
export interface Entry {
  readonly pathRef: ByteRef;
  readonly pathLength: number;
  readonly valueRef: ByteRef;
  readonly valueLength: number;
  readonly perms: Perms;
  /** Bytes of the list of children, each name with its nul. */
  readonly childBytes: number;
}

/** A former value and permissions, visible from `generation` until the next newer version's. */
export class Version {
  readonly node: Node;
  readonly generation: number;
  readonly valueRef: ByteRef;
  readonly valueLength: number;
  readonly perms: Perms;
  older: Version | null;
  /** Next of those that are kept for the same snapshot. */
  nextKept: Version | null = null;

  /** A node's present state, becoming a former one. */
  constructor(node: Node, generation: number) {
    this.node = node;
    this.generation = generation;
    this.valueRef = node.valueRef;
    this.valueLength = node.valueLength;
    this.perms = node.perms;
    this.older = node.history;
  }
}

export class Node implements Entry {
  readonly hash: number;
  readonly pathRef: ByteRef;
  readonly pathLength: number;
  readonly parent: Node | null;
  valueRef: ByteRef;
  valueLength: number;
  perms: Perms;
  childBytes = 0;
  /** Generation of the last change of value or permissions, of the creation or the removal. */
  dataGeneration: number;
  /** Generation of the last change of the list of children. */
  childGeneration: number;
  /** Generation of the removal, or `LIVE`. */
  death = LIVE;
  history: Version | null = null;
  /** Watches set on exactly this path. */
  watched: WatchPoint | null = null;
  /** Next node of the same hash bucket. */
  chain: Node | null = null;
  firstChild: Node | null = null;
  lastChild: Node | null = null;
  nextSibling: Node | null = null;
  previousSibling: Node | null = null;
  /** Neighbours in the list of the owner's live nodes. */
  nextOwned: Node | null = null;
  previousOwned: Node | null = null;

  constructor(
    hash: number,
    pathRef: ByteRef,
    pathLength: number,
    parent: Node | null,
    valueRef: ByteRef,
    valueLength: number,
    perms: Perms,
    generation: number,
  ) {
    this.hash = hash;
    this.pathRef = pathRef;
    this.pathLength = pathLength;
    this.parent = parent;
    this.valueRef = valueRef;
    this.valueLength = valueLength;
    this.perms = perms;
    this.dataGeneration = generation;
    this.childGeneration = generation;
  }
}

/** Length of the path that a child's name is put behind, slash included. */
export function nameStart(parent: Entry): number {
  return parent.pathLength === 1 ? 1 : parent.pathLength + 1;
}

/** Generation count of a node as clients see it: of its last change, children included. */
export function generationOf(node: Node): number {
  return Math.max(node.dataGeneration, node.childGeneration);
}

/** The node's state as a snapshot sees it: the node itself while it is unchanged, a version, or null for "not there". */
export function visibleAt(node: Node, snapshot: number): Node | Version | null {
  if (node.death !== LIVE && node.death <= snapshot) return null;
  if (node.dataGeneration <= snapshot) return node;
  for (let v = node.history; v !== null; v = v.older) if (v.generation <= snapshot) return v;
  return null;
}
