/**
 * The whole state as a stream: connections with what is under way on them, watches, nodes, transactions.
 *
 *     dump(server, options)                    at once: for a live update
 *     new SlicedDump(server, options).step()   what outlives the daemon, a slice at a time: for a journal's snapshot
 *
 * A sliced dump shows the nodes as they were at one moment, the one at which it was begun, whatever happens meanwhile: it
 * reads them through a snapshot, like a transaction. Domains and the watches of their rings it shows as they are when
 * their turn comes: who has all changes since that moment too, in a journal, comes out right.
 */
import type { Connection } from '../connection.js';
import type { Domain } from '../domains.js';
import { type Node, visibleAt } from '../node.js';
import type { XenstoreServer } from '../server.js';
import type { Store } from '../store.js';
import {
  FIRST_SOCKET_ID,
  isServed,
  ringId,
  type WatchType,
  writeDomain,
  writeDomainData,
  writeGlobalQuotas,
  writeNode,
  writeSocket,
  writeSpecial,
  writeWatch,
} from './encode.js';
import { RecordWriter } from './record-writer.js';
import {
  NO_FD,
  OWN_STATE,
  RECORD_END,
  RECORD_GLOBAL_DATA,
  RECORD_WATCH_DATA,
  RECORD_WATCH_DATA_EXTENDED,
  STREAM_VERSION,
} from './records.js';
import { dumpTransactions, writeSeen } from './transactions.js';

export interface DumpOptions {
  /** 1 is what Xen 4.17 takes: without depth of watches, quotas and features. Default: the newest. */
  readonly version?: 1 | 2;
  /** Add what the format has no place for, in records of our own. Without: what needs it is left out. */
  readonly extensions?: boolean;
  /** Descriptors of the daemon's own, for a live update. */
  readonly global?: { readonly socketFd: number; readonly eventChannelFd: number };
  /** Descriptor of a socket connection, or -1 to leave it out. Default: all are left out. */
  readonly fdOf?: (connection: Connection) => number;
  /** Number of the journal that follows this dump; with `extensions` only. */
  readonly journal?: number;
}

/** @returns the stream, the caller's to keep */
export function dump(server: XenstoreServer, options: DumpOptions = {}): Uint8Array {
  const w = new RecordWriter();
  const ids = new Map<Connection, number>();
  for (const _ of head(w, server, options, ids)) {
    // all at once
  }
  const walk = new NodeWalk(server.store);
  while (!walk.step(w, Number.POSITIVE_INFINITY)) {}
  walk.close();
  dumpTransactions(w, server, ids, options.extensions === true);
  writeEnd(w);
  return w.bytes().slice();
}

/** A dump for a file: rings and what their transactions see, no sockets. */
export class SlicedDump {
  readonly #walk: NodeWalk;
  readonly #writer = new RecordWriter();
  readonly #head: Iterator<void>;
  #inHead = true;

  constructor(server: XenstoreServer, options: DumpOptions) {
    this.#walk = new NodeWalk(server.store);
    this.#head = head(this.#writer, server, options, null);
  }

  /**
   * Goes on until about `bytes` more have been written, then hands them out; not to be kept.
   * @returns them, and whether they were the last
   */
  step(bytes: number): { readonly chunk: Uint8Array; readonly done: boolean } {
    const w = this.#writer;
    w.clear();
    while (this.#inHead && w.length < bytes) this.#inHead = this.#head.next().done !== true;
    const done = !this.#inHead && this.#walk.step(w, bytes);
    if (done) {
      this.#walk.close();
      writeEnd(w);
    }
    return { chunk: w.bytes(), done };
  }

  /** Ends it early. */
  close(): void {
    this.#walk.close();
  }
}

/**
 * Writes all before the nodes of the tree, a piece a step.
 * @param ids for a live update: gets the numbers of the connections that are in it
 */
function* head(
  w: RecordWriter,
  server: XenstoreServer,
  options: DumpOptions,
  ids: Map<Connection, number> | null,
): Generator<void> {
  const version = options.version ?? STREAM_VERSION;
  const extensions = options.extensions === true;
  const domains = [...server.domains];
  const type = version > 1 ? RECORD_WATCH_DATA_EXTENDED : RECORD_WATCH_DATA;
  w.streamHeader(version);
  if (options.global !== undefined) {
    w.begin(RECORD_GLOBAL_DATA);
    w.u32(options.global.socketFd);
    w.u32(options.global.eventChannelFd);
    w.end();
  }
  if (extensions) writeState(w, server, options.journal ?? 0);
  if (version > 1) writeGlobalQuotas(w, server);
  for (const domain of domains) {
    if (!domain.alive) continue;
    const ring = isServed(server, domain) ? writeRing(w, domain, options, ids, type) : null;
    if (version > 1) writeDomainData(w, server, domain);
    yield;
    if (ids === null && ring !== null) yield* writeSeen(w, ring);
  }
  if (ids !== null) writeSockets(w, server, options, ids, type);
  for (const name of ['@releaseDomain', '@introduceDomain'] as const) {
    writeSpecial(w, name, server.watches.special[name]);
  }
}

function writeState(w: RecordWriter, server: XenstoreServer, journal: number): void {
  w.begin(OWN_STATE);
  w.u32(journal);
  w.u32(0);
  w.u64(server.store.clock);
  w.end();
}

/** @returns the ring's connection, where it can be gone on with */
function writeRing(
  w: RecordWriter,
  domain: Domain,
  options: DumpOptions,
  ids: Map<Connection, number> | null,
  type: WatchType,
): Connection | null {
  const { connection } = domain;
  const extensions = options.extensions === true;
  // What is under way on a ring can only be gone on with by who knows where the ring stands.
  const isKnown = ids !== null || (extensions && connection?.ring != null);
  writeDomain(w, domain, extensions, isKnown ? connection : null);
  if (connection === null) return null;
  const id = ringId(domain.domid);
  ids?.set(connection, id);
  for (const watch of connection.watches.values()) writeWatch(w, connection.server.arena, id, watch, type);
  return isKnown ? connection : null;
}

function writeSockets(
  w: RecordWriter,
  server: XenstoreServer,
  options: DumpOptions,
  ids: Map<Connection, number>,
  type: WatchType,
): void {
  const extensions = options.extensions === true;
  let id = FIRST_SOCKET_ID;
  for (const connection of server.connections) {
    if (connection.kind !== 'socket' || (connection.restricted && !extensions)) continue;
    const fd = options.fdOf?.(connection) ?? NO_FD;
    if (fd === NO_FD) continue;
    writeSocket(w, id, fd, connection, extensions);
    for (const watch of connection.watches.values()) writeWatch(w, server.arena, id, watch, type);
    ids.set(connection, id++);
  }
}

function writeEnd(w: RecordWriter): void {
  w.begin(RECORD_END);
  w.end();
}

/** Goes through the tree as it was at one moment, parents first. */
class NodeWalk {
  readonly #store: Store;
  readonly #snapshot: number;
  /** Written next; null at the end. */
  #next: Node | null;
  #open = true;

  constructor(store: Store) {
    this.#store = store;
    this.#snapshot = store.clock;
    this.#next = store.root;
    store.snapshots.open(this.#snapshot);
  }

  /** Writes until the writer holds `bytes`. @returns true once all has been written */
  step(w: RecordWriter, bytes: number): boolean {
    const { arena } = this.#store;
    for (let node = this.#next; node !== null; node = this.#next) {
      if (w.length >= bytes) return false;
      writeNode(w, arena, node.pathRef, node.pathLength, visibleAt(node, this.#snapshot));
      this.#next = this.#after(node);
    }
    return true;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#store.snapshots.close(this.#snapshot);
  }

  /** In tree order. A node that the snapshot sees stays linked to its neighbours, even once it is gone. */
  #after(node: Node): Node | null {
    const child = this.#visible(node.firstChild);
    if (child !== null) return child;
    for (let n: Node | null = node; n !== null; n = n.parent) {
      const sibling = this.#visible(n.nextSibling);
      if (sibling !== null) return sibling;
    }
    return null;
  }

  #visible(from: Node | null): Node | null {
    let n = from;
    while (n !== null && visibleAt(n, this.#snapshot) === null) n = n.nextSibling;
    return n;
  }
}
