/**
 * A transaction: a snapshot to read from, an overlay to write to, and a record of what its answers depended on.
 *
 * Starting costs a small object, whatever the size of the store. Every path that the client touches gets a `TxEntry` with
 * flags for what was used of it: that it was there and with which permissions, its value, its list of children. At the end
 * the transaction conflicts, with EAGAIN, only if one of exactly these has changed since the snapshot:
 *
 *     looked for and missing   somebody has created it
 *     EXISTENCE                it is gone, or has other permissions
 *     VALUE, or written        its value or permissions were changed
 *     CHILDREN, or removed     a child came or went
 *
 * So two transactions that add different children to one parent both commit, and one that only read always commits: its
 * snapshot was a consistent state. Without a conflict the changes are as good as made at the moment of the commit.
 *
 * Small transactions and busy writers: see `turns.ts`.
 *
 * @deviates from C xenstored, which takes each node at its first access and lets any change of a node (a child added
 * beside) conflict; oxenstored does as this does.
 */
import type { XsErrorName } from '../abi/xen/xs-wire.js';
import { checkCreate, checkMemory, checkNodeCount, checkNodeSize, firstMissing, recordSize } from './accounting.js';
import type { ByteRef } from './arena.js';
import type { Connection } from './connection.js';
import type { Domain } from './domains.js';
import { type Entry, generationOf, LIVE, type Node, nameStart, type Version, visibleAt } from './node.js';
import type { Path } from './path.js';
import type { Perms } from './permissions.js';
import type { Quotas } from './quotas.js';
import type { Store } from './store.js';
import { type Actor, CHILDREN, EXISTENCE, nearestAbove, VALUE, type View } from './view.js';
import type { Watches } from './watches.js';

/** Bytes charged for a touched path, beside the bytes of what was written. */
const ENTRY_MEMORY = 128;
/** Up to so many paths are searched one by one, as most transactions are small. */
const FEW_ENTRIES = 12;
/** Garbage looked at when a transaction ends: what it leaves behind, if it was small. */
const COLLECT_PER_END = 32;

const FIRE_NONE = 0;
const FIRE_EXACT = 1;
const FIRE_ALL = 2;

/** A path as the transaction sees it. */
export class TxEntry implements Entry {
  readonly hash: number;
  readonly pathRef: ByteRef;
  readonly pathLength: number;
  /** The node that the snapshot shows, and its state there. */
  readonly base: Node | null;
  readonly basePerms: Perms | null;
  valueRef: ByteRef;
  valueLength: number;
  perms: Perms;
  childBytes: number;
  generation: number;
  exists: boolean;
  depends = 0;
  /** The value is this transaction's own bytes. */
  ownsValue = false;
  permsChanged = false;
  /** The base was removed here, even if the path was created again. */
  baseRemoved = false;
  /** Place among the paths created here; -1 for one that was there. */
  createdAs = -1;
  createdBelow: TxEntry | null = null;
  added: { readonly entry: TxEntry; readonly createdAs: number }[] | null = null;
  /** The node that a commit made of it. */
  node: Node | null = null;
  fires = FIRE_NONE;
  /** Waits to be taken by `takeUnsaved`. */
  unsaved = false;
  /** Next entry of the same hash. */
  chain: TxEntry | null = null;

  constructor(hash: number, pathRef: ByteRef, pathLength: number, base: Node | null, perms: Perms) {
    this.hash = hash;
    this.pathRef = pathRef;
    this.pathLength = pathLength;
    this.base = base;
    this.perms = perms;
    this.basePerms = base === null ? null : perms;
    this.exists = base !== null;
    this.valueRef = 0;
    this.valueLength = 0;
    this.childBytes = 0;
    this.generation = 0;
  }

  get written(): boolean {
    return this.ownsValue || this.permsChanged || this.baseRemoved || this.createdAs >= 0;
  }
}

export class Transaction implements View {
  readonly id: number;
  failed: XsErrorName | null = null;
  /** Found to conflict when it was handed to a new daemon, or the old one was killed: it can only end with EAGAIN. */
  doomed = false;
  /** Paths touched, in the order of their first access. */
  readonly entries: TxEntry[] = [];
  readonly #connection: Connection;
  /** Who is charged. */
  readonly #account: Domain;
  readonly #store: Store;
  readonly #quotas: Quotas;
  readonly #watches: Watches;
  readonly #snapshot: number;
  /** Made when there are more than a few. */
  #byHash: Map<number, TxEntry> | null = null;
  readonly #created: TxEntry[] = [];
  /** Nodes more or fewer, by owner. */
  #nodeDelta: Map<Domain, number> | null = null;
  #memory = 0;
  /** Something was changed, even if it was undone later. */
  #modified = false;
  /** What a journal doesn't know yet. Kept for rings, as they outlive the daemon. */
  #unsaved: TxEntry[] | null;
  #open = true;
  #seesSnapshot = true;

  constructor(id: number, connection: Connection, store: Store, quotas: Quotas, watches: Watches) {
    this.id = id;
    this.#connection = connection;
    this.#account = connection.domain;
    this.#store = store;
    this.#quotas = quotas;
    this.#watches = watches;
    this.#snapshot = store.clock;
    this.#unsaved = connection.kind === 'ring' ? [] : null;
    store.snapshots.open(this.#snapshot);
  }

  find(hash: number, bytes: Uint8Array, start: number, length: number, depends: number): TxEntry | null {
    const entry = this.#lookup(hash, bytes, start, length) ?? this.#touch(hash, bytes, start, length);
    if (entry === null) return null;
    entry.depends |= depends;
    return entry.exists ? entry : null;
  }

  write(who: Actor, target: Entry, from: Uint8Array, start: number, length: number): XsErrorName | null {
    const entry = target as TxEntry;
    const growth = length - (entry.ownsValue ? entry.valueLength : 0);
    const error =
      checkNodeSize(this.#quotas, who, recordSize(entry.perms, length, entry.childBytes)) ??
      checkMemory(this.#quotas, who, who.domain, growth);
    if (error !== null) return error;
    entry.depends |= VALUE;
    this.#setValue(entry, from, start, length);
    this.#changed(entry, FIRE_ALL);
    return null;
  }

  create(who: Actor, path: Path, from: Uint8Array, start: number, length: number): XsErrorName | null {
    const above = nearestAbove(this, path, EXISTENCE) as TxEntry | null;
    if (above === null) return this.failed;
    const perms = this.#store.pool.inherited(above.perms, who);
    const pending = this.#nodeDelta?.get(perms.owner) ?? 0;
    const error = checkCreate(this.#quotas, who, path, above, perms, length, pending);
    if (error !== null) return error;
    let parent = above;
    for (let i = firstMissing(path, above); i < path.depth; i++) {
      const hash = path.prefixHash[i] as number;
      const prefix = path.prefixLength[i] as number;
      this.find(hash, path.bytes, path.start, prefix, 0);
      if (this.failed !== null) return this.failed;
      const entry = this.#lookup(hash, path.bytes, path.start, prefix) as TxEntry;
      this.#bringIn(entry, parent, perms);
      parent = entry;
    }
    this.#setValue(parent, from, start, length);
    this.#changed(parent, FIRE_ALL);
    return null;
  }

  remove(_who: Actor, target: Entry): XsErrorName | null {
    const top = target as TxEntry;
    const all: TxEntry[] = [top];
    for (let i = 0; i < all.length; i++) {
      const entry = all[i] as TxEntry;
      entry.depends |= VALUE | CHILDREN;
      this.#forEachChild(entry, (child) => {
        all.push(child);
      });
      if (this.failed !== null) return this.failed;
    }
    if (!this.#childGone(top)) return this.failed;
    for (const entry of all) {
      this.#dropValue(entry);
      entry.exists = false;
      entry.baseRemoved = entry.base !== null;
      entry.createdAs = -1;
      entry.permsChanged = false;
      entry.added = null;
      entry.valueLength = entry.valueRef = entry.childBytes = 0;
      this.#count(entry.perms.owner, -1);
      this.#changed(entry, entry === top ? FIRE_ALL : FIRE_EXACT);
    }
    return null;
  }

  setPerms(who: Actor, target: Entry, perms: Perms): XsErrorName | null {
    const entry = target as TxEntry;
    const error = checkNodeSize(this.#quotas, who, recordSize(perms, entry.valueLength, entry.childBytes));
    if (error !== null) return error;
    entry.depends |= VALUE;
    this.#count(entry.perms.owner, -1);
    this.#count(perms.owner, 1);
    entry.perms = perms;
    entry.permsChanged = true;
    this.#changed(entry, FIRE_ALL);
    return null;
  }

  copyChildren(target: Entry, to: Uint8Array, at: number): void {
    const arena = this.#store.arena;
    const skip = nameStart(target);
    let offset = at;
    const put = (ref: ByteRef, pathLength: number): void => {
      arena.copyTo(ref, skip, pathLength - skip, to, offset);
      offset += pathLength - skip;
      to[offset++] = 0;
    };
    const entry = target as TxEntry;
    for (const child of this.#baseChildren(entry)) {
      const seen = this.#lookupNode(child);
      if (seen === null || (seen.exists && seen.createdAs < 0)) put(child.pathRef, child.pathLength);
    }
    for (const { entry: child, createdAs } of entry.added ?? []) {
      if (child.exists && child.createdAs === createdAs) put(child.pathRef, child.pathLength);
    }
  }

  generation(entry: Entry): number {
    return (entry as TxEntry).generation;
  }

  /** Makes the changes, or says why not; either way the transaction is over. */
  commit(): XsErrorName | null {
    const error = this.failed !== null ? 'ENOMEM' : (this.#checkConflicts() ?? this.#checkQuotas());
    if (error === null && this.#modified) this.#apply();
    this.discard();
    return error;
  }

  /** Ends the transaction without a trace. */
  discard(): void {
    if (!this.#open) return;
    this.#open = false;
    const arena = this.#store.arena;
    for (const entry of this.entries) {
      if (entry.ownsValue) arena.free(entry.valueRef, entry.valueLength);
      if (entry.base === null) arena.free(entry.pathRef, entry.pathLength);
    }
    this.#account.memory -= this.#memory;
    this.#closeSnapshot();
    this.#store.collect(COLLECT_PER_END);
  }

  /** Hashes of the paths that the outcome depends on, and of those that a commit would change. */
  footprint(): number[] {
    return this.entries.filter((e) => e.depends !== 0 || e.written).map((e) => e.hash);
  }

  writtenPaths(): number[] {
    return this.entries.filter((e) => e.written).map((e) => e.hash);
  }

  /** Whether a commit would end with EAGAIN now. */
  conflicts(): boolean {
    return this.doomed || this.entries.some((entry) => this.#conflicts(entry));
  }

  /** Paths created here that are there still, in the order of their creation. */
  created(): TxEntry[] {
    return this.#created.filter((entry, i) => entry.exists && entry.createdAs === i);
  }

  /** Of a ring's transaction: what has been touched or changed since this was called last. */
  takeUnsaved(): readonly TxEntry[] {
    const taken = this.#unsaved ?? [];
    if (taken.length === 0) return taken;
    for (const entry of taken) entry.unsaved = false;
    this.#unsaved = [];
    return taken;
  }

  /** For the consistency check. */
  holdings(): { memory: number; slots: number } {
    const slots = this.entries.reduce(
      (n, e) => n + (e.base === null ? 1 : 0) + (e.ownsValue && e.valueLength > 0 ? 1 : 0),
      0,
    );
    return { memory: this.#memory, slots };
  }

  // ---- private

  #lookup(hash: number, bytes: Uint8Array, start: number, length: number): TxEntry | null {
    const { arena } = this.#store;
    if (this.#byHash === null) {
      const { entries } = this;
      for (let i = 0; i < entries.length; i++) {
        const e = entries[i] as TxEntry;
        if (e.hash === hash && e.pathLength === length && arena.equals(e.pathRef, bytes, start, length)) return e;
      }
      return null;
    }
    for (let e = this.#byHash.get(hash) ?? null; e !== null; e = e.chain) {
      if (e.pathLength === length && arena.equals(e.pathRef, bytes, start, length)) return e;
    }
    return null;
  }

  #enter(entry: TxEntry): void {
    this.entries.push(entry);
    this.#unsave(entry);
    if (this.#byHash !== null) {
      entry.chain = this.#byHash.get(entry.hash) ?? null;
      this.#byHash.set(entry.hash, entry);
    } else if (this.entries.length > FEW_ENTRIES) {
      const byHash = new Map<number, TxEntry>();
      for (const known of this.entries) {
        known.chain = byHash.get(known.hash) ?? null;
        byHash.set(known.hash, known);
      }
      this.#byHash = byHash;
    }
  }

  #closeSnapshot(): void {
    if (this.#seesSnapshot) this.#store.snapshots.close(this.#snapshot);
    this.#seesSnapshot = false;
  }

  #lookupNode(node: Node): TxEntry | null {
    const arena = this.#store.arena;
    return this.#lookup(node.hash, arena.chunk(node.pathRef), arena.offset(node.pathRef), node.pathLength);
  }

  /** First access to a path: takes what the snapshot shows of it. Null where that is one path too many. */
  #touch(hash: number, bytes: Uint8Array, start: number, length: number): TxEntry | null {
    const store = this.#store;
    const who = this.#connection;
    if (!who.privileged && this.#quotas.exceeds(who.domain, 'transaction-nodes', this.entries.length + 1)) {
      this.failed = this.#quotas.deny(who.domain, 'transaction-nodes', 'ENOSPC', 'too many nodes in one transaction');
      return null;
    }
    const base = store.table.at(this.#snapshot, hash, bytes, start, length);
    const state = base === null ? null : (visibleAt(base, this.#snapshot) as Node | Version);
    const ref = base === null ? store.arena.store(bytes, start, length) : base.pathRef;
    const entry = new TxEntry(hash, ref, length, base, state === null ? store.root.perms : state.perms);
    if (base !== null && state !== null) {
      entry.valueRef = state.valueRef;
      entry.valueLength = state.valueLength;
      entry.generation = generationOf(base);
      entry.childBytes = base.childGeneration <= this.#snapshot ? base.childBytes : this.#baseChildBytes(base);
    }
    this.#enter(entry);
    this.#charge(ENTRY_MEMORY);
    return entry;
  }

  /** A path comes into being below `parent`. */
  #bringIn(entry: TxEntry, parent: TxEntry, perms: Perms): void {
    entry.exists = true;
    entry.perms = perms;
    entry.createdAs = this.#created.length;
    entry.createdBelow = parent;
    entry.childBytes = 0;
    this.#created.push(entry);
    parent.added ??= [];
    parent.added.push({ entry, createdAs: entry.createdAs });
    parent.childBytes += entry.pathLength - nameStart(parent) + 1;
    this.#changed(parent, FIRE_NONE);
    this.#changed(entry, FIRE_NONE);
    this.#count(perms.owner, 1);
  }

  /** Takes a name off its parent's list; false where touching the parent is one path too many. */
  #childGone(entry: TxEntry): boolean {
    const above = entry.base?.parent ?? null;
    const parent = entry.createdAs >= 0 || above === null ? entry.createdBelow : this.#entryOf(above);
    if (parent === null) return false;
    parent.childBytes -= entry.pathLength - nameStart(parent) + 1;
    this.#changed(parent, FIRE_NONE);
    return true;
  }

  /** The entry of a node that the snapshot shows; null where that is one path too many. */
  #entryOf(node: Node): TxEntry | null {
    const arena = this.#store.arena;
    const chunk = arena.chunk(node.pathRef);
    return this.#lookupNode(node) ?? this.#touch(node.hash, chunk, arena.offset(node.pathRef), node.pathLength);
  }

  /** Children of the node that the snapshot shows; none where that node was removed here. */
  *#baseChildren(entry: TxEntry): Generator<Node> {
    if (entry.base === null || entry.baseRemoved) return;
    for (let child = entry.base.firstChild; child !== null; child = child.nextSibling) {
      if (visibleAt(child, this.#snapshot) !== null) yield child;
    }
  }

  #baseChildBytes(base: Node): number {
    let bytes = 0;
    const skip = nameStart(base);
    for (let child = base.firstChild; child !== null; child = child.nextSibling) {
      if (visibleAt(child, this.#snapshot) !== null) bytes += child.pathLength - skip + 1;
    }
    return bytes;
  }

  /** Calls for every child that this transaction sees, touching each. */
  #forEachChild(entry: TxEntry, visit: (child: TxEntry) => void): void {
    for (const node of this.#baseChildren(entry)) {
      const child = this.#entryOf(node);
      if (child === null) return;
      if (child.exists && child.createdAs < 0) visit(child);
    }
    for (const { entry: child, createdAs } of entry.added ?? []) {
      if (child.exists && child.createdAs === createdAs) visit(child);
    }
  }

  #setValue(entry: TxEntry, from: Uint8Array, start: number, length: number): void {
    // Stored before the old bytes are dropped: both are accounted for, neither is read after.
    const ref = this.#store.arena.store(from, start, length);
    this.#dropValue(entry);
    entry.valueRef = ref;
    entry.valueLength = length;
    entry.ownsValue = true;
    this.#charge(length);
  }

  #dropValue(entry: TxEntry): void {
    if (!entry.ownsValue) return;
    this.#store.arena.free(entry.valueRef, entry.valueLength);
    this.#charge(-entry.valueLength);
    entry.ownsValue = false;
  }

  /** As on C xenstored, an event for all watchers replaces one for exact watchers, never the other way. */
  #changed(entry: TxEntry, fires: number): void {
    entry.fires = Math.max(entry.fires, fires);
    entry.generation = ++this.#store.clock;
    this.#modified = true;
    this.#unsave(entry);
  }

  #unsave(entry: TxEntry): void {
    if (this.#unsaved === null || entry.unsaved) return;
    entry.unsaved = true;
    this.#unsaved.push(entry);
  }

  #charge(bytes: number): void {
    this.#memory += bytes;
    this.#account.memory += bytes;
  }

  #count(owner: Domain, nodes: number): void {
    this.#nodeDelta ??= new Map();
    this.#nodeDelta.set(owner, (this.#nodeDelta.get(owner) ?? 0) + nodes);
  }

  #checkConflicts(): XsErrorName | null {
    if (this.doomed) return 'EAGAIN';
    if (!this.#modified) return null;
    for (const entry of this.entries) if (this.#conflicts(entry)) return 'EAGAIN';
    return null;
  }

  #conflicts(entry: TxEntry): boolean {
    const { base, depends } = entry;
    if (base === null) {
      const arena = this.#store.arena;
      const chunk = arena.chunk(entry.pathRef);
      return this.#store.table.live(entry.hash, chunk, arena.offset(entry.pathRef), entry.pathLength) !== null;
    }
    if (depends === 0) return false;
    if (base.death !== LIVE || base.perms !== entry.basePerms) return true;
    if ((depends & VALUE) !== 0 && base.dataGeneration > this.#snapshot) return true;
    return (depends & CHILDREN) !== 0 && base.childGeneration > this.#snapshot;
  }

  /** What may have changed beside the conflicts: counts and sizes that other commits have used up. */
  #checkQuotas(): XsErrorName | null {
    const who = this.#connection;
    for (const entry of this.entries) {
      if (entry.written && entry.exists && !entry.perms.owner.alive) return 'ENOMEM';
      if (who.privileged || entry.added === null || entry.base === null || entry.baseRemoved) continue;
      const added = entry.childBytes - this.#baseChildBytes(entry.base);
      const size = recordSize(entry.perms, entry.valueLength, entry.base.childBytes + added);
      const error = added > 0 ? checkNodeSize(this.#quotas, who, size) : null;
      if (error !== null) return error;
    }
    const delta = this.#nodeDelta?.get(who.domain) ?? 0;
    return delta > 0 ? checkNodeCount(this.#quotas, who, delta) : null;
  }

  /**
   * With the snapshot open, removed nodes keep their bytes until their events are out; without removals it is closed
   * before, so that what is replaced need not be kept for it.
   */
  #apply(): void {
    const store = this.#store;
    const removed: Node[] = [];
    for (const entry of this.entries) if (entry.baseRemoved) removed.push(entry.base as Node);
    if (removed.length === 0) this.#closeSnapshot();
    else removed.sort((a, b) => b.pathLength - a.pathLength);
    const { observer } = store;
    for (const node of removed) {
      observer?.nodeRemoved(node);
      store.detach(node);
    }
    for (let i = 0; i < this.#created.length; i++) {
      const entry = this.#created[i] as TxEntry;
      if (!entry.exists || entry.createdAs !== i) continue;
      entry.node = this.#insert(entry);
      observer?.nodeChanged(entry.node);
    }
    for (const entry of this.entries) {
      if (!entry.written || !entry.exists || entry.createdAs >= 0 || entry.base === null) continue;
      if (entry.permsChanged) store.replacePerms(entry.base, entry.perms);
      if (entry.ownsValue) {
        store.replaceValue(entry.base, entry.valueRef, entry.valueLength);
        this.#handOver(entry);
      }
      observer?.nodeChanged(entry.base);
    }
    for (const entry of this.entries) {
      const node = entry.node ?? entry.base;
      if (entry.fires === FIRE_NONE || node === null) continue;
      this.#watches.fire(node, entry.fires === FIRE_EXACT, entry.basePerms, this.#connection);
    }
  }

  /** Puts a created path into the store. */
  #insert(entry: TxEntry): Node {
    const { arena } = this.#store;
    const above = entry.createdBelow;
    const parent = above === null ? null : (above.node ?? above.base);
    if (parent === null) throw new Error('a created path has no parent');
    const pathRef = arena.store(arena.chunk(entry.pathRef), arena.offset(entry.pathRef), entry.pathLength);
    const { hash, pathLength, valueRef, valueLength, perms } = entry;
    const node = this.#store.insert(parent, hash, pathRef, pathLength, valueRef, valueLength, perms);
    this.#handOver(entry);
    return node;
  }

  /** The store owns the bytes of the value now; they are no longer this transaction's memory. */
  #handOver(entry: TxEntry): void {
    this.#charge(-entry.valueLength);
    entry.ownsValue = false;
  }
}
