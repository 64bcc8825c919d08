/**
 * The whole state as a stream: connections with what is under way on them, watches, nodes, transactions.
 *
 *     dump(server, options)                    at once: for a live update
 *     new SlicedDump(server, options).step()   what outlives the daemon, a slice at a time: for a journal's snapshot
 *
 * A sliced dump shows one moment, the one at which it was begun, whatever happens meanwhile: it reads the nodes through a
 * snapshot, like a transaction.
 */
import type { Connection } from '../connection.js';
import { type Node, visibleAt } from '../node.js';
import type { XenstoreServer } from '../server.js';
import type { Store } from '../store.js';
import {
  connectionIds,
  isServed,
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
import { dumpTransactions } from './transactions.js';

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
  const ids = writeHead(w, server, options, true);
  const walk = new NodeWalk(server.store);
  while (!walk.step(w, Number.POSITIVE_INFINITY)) {}
  walk.close();
  dumpTransactions(w, server, ids, options.extensions === true);
  writeEnd(w);
  return w.bytes().slice();
}

/** A dump for a file: rings, no sockets, of transactions only that rings have them. */
export class SlicedDump {
  readonly #walk: NodeWalk;
  readonly #writer = new RecordWriter();

  constructor(server: XenstoreServer, options: DumpOptions) {
    this.#walk = new NodeWalk(server.store);
    writeHead(this.#writer, server, options, false);
  }

  /**
   * Goes on until about `bytes` more have been written, then hands them out; not to be kept.
   * @returns them, and whether they were the last
   */
  step(bytes: number): { readonly chunk: Uint8Array; readonly done: boolean } {
    const w = this.#writer;
    if (w.length >= bytes) return this.#handOut(false);
    const done = this.#walk.step(w, bytes);
    if (done) {
      this.#walk.close();
      writeEnd(w);
    }
    return this.#handOut(done);
  }

  /** Ends it early. */
  close(): void {
    this.#walk.close();
  }

  #handOut(done: boolean): { readonly chunk: Uint8Array; readonly done: boolean } {
    const chunk = this.#writer.bytes();
    this.#writer.clear();
    return { chunk, done };
  }
}

/** All before the nodes of the tree. @returns numbers of the connections that are in it */
function writeHead(
  w: RecordWriter,
  server: XenstoreServer,
  options: DumpOptions,
  live: boolean,
): Map<Connection, number> {
  const version = options.version ?? STREAM_VERSION;
  const extensions = options.extensions === true;
  w.streamHeader(version);
  if (options.global !== undefined) {
    w.begin(RECORD_GLOBAL_DATA);
    w.u32(options.global.socketFd);
    w.u32(options.global.eventChannelFd);
    w.end();
  }
  if (extensions) writeState(w, server, options.journal ?? 0);
  if (version > 1) writeGlobalQuotas(w, server);
  const ids = writeConnections(w, server, options, live);
  if (version > 1) for (const domain of server.domains) writeDomainData(w, server, domain);
  for (const name of ['@releaseDomain', '@introduceDomain'] as const) {
    writeSpecial(w, name, server.watches.special[name]);
  }
  return ids;
}

function writeState(w: RecordWriter, server: XenstoreServer, journal: number): void {
  w.begin(OWN_STATE);
  w.u32(journal);
  w.u32(0);
  w.u64(server.store.clock);
  w.end();
}

function writeConnections(
  w: RecordWriter,
  server: XenstoreServer,
  options: DumpOptions,
  live: boolean,
): Map<Connection, number> {
  const extensions = options.extensions === true;
  const type = (options.version ?? STREAM_VERSION) > 1 ? RECORD_WATCH_DATA_EXTENDED : RECORD_WATCH_DATA;
  const sockets = [...server.connections].filter((c) => {
    return live && c.kind === 'socket' && (options.fdOf?.(c) ?? NO_FD) !== NO_FD && (extensions || !c.restricted);
  });
  const rings = [...server.domains].filter((domain) => isServed(server, domain));
  const ringsOf = rings.flatMap((domain) => (domain.connection === null ? [] : [domain.connection]));
  const ids = connectionIds([...ringsOf, ...sockets]);
  for (const domain of rings) {
    // What is under way on a ring can only be gone on with by who knows where the ring stands.
    const known = live || (extensions && domain.connection?.ring != null);
    writeDomain(w, domain, extensions, known ? domain.connection : null);
  }
  for (const socket of sockets) {
    writeSocket(w, ids.get(socket) as number, options.fdOf?.(socket) ?? NO_FD, socket, extensions);
  }
  for (const [connection, id] of ids) {
    for (const watch of connection.watches.values()) writeWatch(w, server.arena, id, watch, type);
  }
  return ids;
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
