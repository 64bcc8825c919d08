/**
 * Open transactions in a stream.
 *
 * A transaction's snapshot does not travel: the new daemon opens it on the state it is handed. That is as good as the old
 * one while nothing that the transaction has looked at has changed since: all answers it has had are true of the new
 * snapshot too. Where something has changed, its end could only have been EAGAIN; it is handed on as `doomed`, with what
 * it has written and all that it has looked at as it was: a client that looks again must not find something else there,
 * or its own writes gone, and give up before it gets to EAGAIN.
 *
 * A daemon that is killed leaves its rings' transactions in its files (`writeSeen`, `writeNews`): they are doomed all.
 *
 * The format's NODE_DATA says what a transaction has read and written. How exactly (what an answer depended on, in which
 * order nodes were created, which events are due) is said by a record of ours, `OWN_TRANSACTION`:
 *
 *     conn-id u32, tx-id u32, flags u32, uses u32, created u32,
 *     uses × { depends u8, fires u8, bits u16 }, created × u32 (index of the use)
 *
 * Without it the reading takes the cautious side: all of a node that was read is depended on.
 */
import type { Connection } from '../connection.js';
import type { XenstoreServer } from '../server.js';
import { Transaction, type TxEntry } from '../transaction.js';
import { type Actor, CHILDREN, EXISTENCE, VALUE } from '../view.js';
import { ringId, writeNode } from './encode.js';
import type { RecordWriter } from './record-writer.js';
import {
  ACCESS_READ,
  ACCESS_WRITTEN,
  type NodeRecord,
  OWN_TRANSACTION,
  type OwnTransactionRecord,
  RECORD_TRANSACTION_DATA,
  StreamError,
} from './records.js';

const FLAG_DOOMED = 1;
/** Over the quota of nodes: it answers nothing but that. */
const FLAG_FAILED = 2;

/** Bits of a use. */
const WROTE_VALUE = 1;
const SET_PERMS = 2;
/** Removed here, even if created again. */
const REMOVED = 4;
const ALL = EXISTENCE | VALUE | CHILDREN;
const FIRES_MAX = 2;

export function dumpTransactions(
  w: RecordWriter,
  server: XenstoreServer,
  ids: ReadonlyMap<Connection, number>,
  extensions: boolean,
): void {
  for (const [connection, id] of ids) {
    for (const transaction of connection.transactions.values()) {
      writeTransaction(w, id, transaction, server);
      if (extensions) writeUses(w, id, transaction);
    }
  }
}

/** All that a transaction sees and has written. */
function writeTransaction(w: RecordWriter, id: number, transaction: Transaction, server: XenstoreServer): void {
  w.begin(RECORD_TRANSACTION_DATA);
  w.u32(id);
  w.u32(transaction.id);
  w.end();
  writeEntries(w, server, id, transaction, transaction.entries);
}

function writeEntries(
  w: RecordWriter,
  server: XenstoreServer,
  id: number,
  transaction: Transaction,
  entries: readonly TxEntry[],
): void {
  for (const entry of entries) {
    const access = (entry.depends === 0 ? 0 : ACCESS_READ) | (entry.written ? ACCESS_WRITTEN : 0);
    const use = { connection: id, transaction: transaction.id, access: entry.exists ? access : 0 };
    writeNode(w, server.arena, entry.pathRef, entry.pathLength, entry.exists ? entry : null, use);
  }
}

/** What the open transactions of a ring see, for a snapshot: one a step, as it is then, unless it has ended meanwhile. */
export function* writeSeen(w: RecordWriter, { server, origin, transactions }: Connection): Generator<void> {
  for (const transaction of [...transactions.values()]) {
    if (transactions.get(transaction.id) !== transaction) continue;
    writeTransaction(w, ringId(origin.domid), transaction, server);
    yield;
  }
}

/**
 * What is new in them, for a journal.
 * @param known those that it has begun already
 */
export function writeNews(
  w: RecordWriter,
  { server, origin, transactions }: Connection,
  known: WeakSet<Transaction>,
): void {
  const id = ringId(origin.domid);
  for (const transaction of transactions.values()) {
    const news = transaction.takeUnsaved();
    if (known.has(transaction)) writeEntries(w, server, id, transaction, news);
    else writeTransaction(w, id, transaction, server);
    known.add(transaction);
  }
}

function writeUses(w: RecordWriter, connection: number, transaction: Transaction): void {
  const { entries } = transaction;
  const indexes = new Map(entries.map((entry, i) => [entry, i]));
  const created = transaction.created();
  w.begin(OWN_TRANSACTION);
  w.u32(connection);
  w.u32(transaction.id);
  w.u32((transaction.conflicts() ? FLAG_DOOMED : 0) | (transaction.failed === null ? 0 : FLAG_FAILED));
  w.u32(entries.length);
  w.u32(created.length);
  for (const entry of entries) {
    w.u8(entry.depends);
    w.u8(entry.fires);
    const isNew = entry.createdAs >= 0;
    w.u16(
      (isNew || entry.ownsValue ? WROTE_VALUE : 0) |
        (isNew || entry.permsChanged ? SET_PERMS : 0) |
        (entry.baseRemoved ? REMOVED : 0),
    );
  }
  for (const entry of created) w.u32(indexes.get(entry) as number);
  w.end();
}

export interface TransactionImage {
  readonly id: number;
  readonly nodes: NodeRecord[];
  own: OwnTransactionRecord | null;
}

/**
 * Opens a transaction as it was: by doing again what it has done, in an order that leads there. One that is doomed does in
 * the same way what others have undone.
 * @param isDoomed whatever the records say @param permsOf the permissions of a record
 */
export function restoreTransaction(
  server: XenstoreServer,
  connection: Connection,
  image: TransactionImage,
  isDoomed: boolean,
  permsOf: (record: NodeRecord) => TxEntry['perms'],
): void {
  const { nodes, own } = image;
  const transaction = new Transaction(image.id, connection, server.store, server.quotas, server.watches);
  connection.transactions.set(image.id, transaction);
  connection.domain.transactions++;
  const who: Actor = { domain: server.domains.control, privileged: true, cause: () => null };
  transaction.doomed = isDoomed || ((own?.flags ?? 0) & FLAG_DOOMED) !== 0;
  const entries = nodes.map((record) => touch(server, transaction, record));
  const bitsOf = (i: number): number => {
    const bits = own?.uses[i]?.bits ?? bitsFor(nodes[i] as NodeRecord, entries[i] ?? null);
    return transaction.doomed && nodes[i]?.perms.length === 0 ? bits | REMOVED : bits;
  };
  const indexes = [...nodes.keys()].sort((a, b) => pathLength(nodes, a) - pathLength(nodes, b));
  for (const i of indexes) {
    const entry = entries[i];
    if (entry?.exists && (bitsOf(i) & REMOVED) !== 0 && entry.pathLength > 1) transaction.remove(who, entry);
  }
  // What others have made since is no fault of its own.
  if (transaction.doomed) transaction.failed = null;
  let room = roomFor(server, connection);
  // A set: those that were created first, in their order, then all others.
  for (const i of new Set([...(own?.created ?? []), ...nodes.keys()])) {
    const record = nodes[i] as NodeRecord;
    if (record.perms.length === 0) continue;
    room -= record.value.length;
    if (transaction.doomed && room < 0) continue;
    bringBack(server, transaction, who, record, permsOf(record), bitsOf(i));
  }
  for (const [i, entry] of entries.entries()) {
    const use = own?.uses[i];
    if (entry === null || use === undefined) continue;
    entry.depends = use.depends & ALL;
    entry.fires = Math.min(use.fires, FIRES_MAX);
  }
  if (transaction.doomed) transaction.failed = null;
  if (((own?.flags ?? 0) & FLAG_FAILED) !== 0) transaction.failed = 'ENOSPC';
}

/**
 * How many bytes a doomed transaction may bring back: half of what its domain may still hold. A guest at its limit is not
 * served, and this one must get to its end.
 */
function roomFor({ quotas }: XenstoreServer, { privileged, domain }: Connection): number {
  const { memory } = quotas.of(domain);
  return privileged || memory === 0 ? Number.POSITIVE_INFINITY : (memory - domain.memory) / 2;
}

/** @throws StreamError where the record of ours doesn't go with the nodes */
export function checkTransaction({ nodes, own }: TransactionImage): void {
  if (own === null) return;
  if (own.uses.length !== nodes.length) throw new StreamError('a transaction with other nodes than it has used');
  if (own.created.some((i) => i >= nodes.length))
    throw new StreamError('a transaction that has created no node of its');
}

function pathLength(nodes: readonly NodeRecord[], i: number): number {
  return (nodes[i] as NodeRecord).path.length;
}

/** What the format alone lets one conclude. */
function bitsFor(record: NodeRecord, entry: TxEntry | null): number {
  if (record.perms.length === 0) return entry?.base == null ? 0 : REMOVED;
  return (record.access & ACCESS_WRITTEN) === 0 ? 0 : WROTE_VALUE | SET_PERMS;
}

/** The transaction's entry for a path, there or not; null once it is over the quota. */
function touch(server: XenstoreServer, transaction: Transaction, record: NodeRecord): TxEntry | null {
  const { path } = server.request;
  parse(server, record.path);
  const before = transaction.entries.length;
  const depends = (record.access & ACCESS_READ) === 0 ? 0 : ALL;
  transaction.find(path.hash, path.bytes, path.start, path.length, depends);
  return transaction.entries[before] ?? null;
}

/** Lets a path be there with the value and the permissions that the transaction sees. */
function bringBack(
  server: XenstoreServer,
  transaction: Transaction,
  who: Actor,
  record: NodeRecord,
  perms: TxEntry['perms'],
  bits: number,
): void {
  if (transaction.failed !== null) return;
  const { value } = record;
  const path = parse(server, record.path);
  const entry = transaction.find(path.hash, path.bytes, path.start, path.length, 0);
  if (entry === null) {
    transaction.create(who, path, value, 0, value.length);
  } else if ((bits & WROTE_VALUE) !== 0 || (transaction.doomed && !hasValue(server, entry, value))) {
    transaction.write(who, entry, value, 0, value.length);
  }
  const made = transaction.find(path.hash, path.bytes, path.start, path.length, 0);
  const isOther = made !== null && made.perms !== perms && (entry === null || transaction.doomed);
  if (made !== null && ((bits & SET_PERMS) !== 0 || isOther)) transaction.setPerms(who, made, perms);
}

function hasValue({ arena }: XenstoreServer, { valueRef, valueLength }: TxEntry, value: Uint8Array): boolean {
  return valueLength === value.length && arena.equals(valueRef, value, 0, value.length);
}

/** Paths have been checked before. */
function parse(server: XenstoreServer, bytes: Uint8Array): XenstoreServer['request']['path'] {
  const { path } = server.request;
  if (!path.parse(bytes, 0, bytes.length, bytes, bytes.length)) throw new Error('a path that was taken is none');
  return path;
}
