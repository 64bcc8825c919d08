/** The store's objects as records: what dumps and journals have in common. */
import type { ByteArena, ByteRef } from '../arena.js';
import { latin1Bytes } from '../arena.js';
import type { Connection } from '../connection.js';
import type { Domain } from '../domains.js';
import { allQuotaNames, getLimit } from '../operations/quota-argument.js';
import type { Perms } from '../permissions.js';
import type { Limits, SoftLimits } from '../quotas.js';
import type { XenstoreServer } from '../server.js';
import { NO_DEPTH_LIMIT, type SpecialWatch, type Watch } from '../watches.js';
import type { RecordWriter } from './record-writer.js';
import {
  CONNECTION_RING,
  CONNECTION_SOCKET,
  DEPTH_UNLIMITED,
  DOMAIN_SHUTDOWN,
  DOMID_INVALID,
  OWN_DOMAIN,
  OWN_MORE_INPUT,
  OWN_RESTRICTED,
  OWN_RING,
  type OWN_UNWATCH,
  PERM_STALE,
  RECORD_CONNECTION_DATA,
  RECORD_DOMAIN_DATA,
  RECORD_GLOBAL_QUOTA_DATA,
  RECORD_NODE_DATA,
  type RECORD_WATCH_DATA,
  RECORD_WATCH_DATA_EXTENDED,
} from './records.js';

const LETTERS = Uint8Array.from('nrwb', (c) => c.charCodeAt(0));
/** Socket connections are numbered from here, above what rings can have. */
export const FIRST_SOCKET_ID = 0x10000;
/** As much input as CONNECTION_DATA can hold. */
const INPUT_MAX = 0xffff;

export interface NodeState {
  readonly valueRef: ByteRef;
  readonly valueLength: number;
  readonly perms: Perms;
}

/** `conn-id` of the ring of a domain. */
export function ringId(domid: number): number {
  return domid + 1;
}

export function writeNode(
  w: RecordWriter,
  arena: ByteArena,
  pathRef: ByteRef,
  pathLength: number,
  state: NodeState | null,
  use: { connection: number; transaction: number; access: number } | null = null,
): void {
  w.begin(RECORD_NODE_DATA);
  w.u32(use?.connection ?? 0);
  w.u32(use?.transaction ?? 0);
  w.u16(pathLength + 1);
  w.u16(state?.valueLength ?? 0);
  w.u16(use?.access ?? 0);
  writePerms(w, state?.perms ?? null);
  w.slot(arena, pathRef, pathLength);
  w.u8(0);
  if (state !== null) w.slot(arena, state.valueRef, state.valueLength);
  w.end();
}

export function writeSpecial(w: RecordWriter, name: SpecialWatch, perms: Perms): void {
  w.begin(RECORD_NODE_DATA);
  w.zeros(8);
  w.u16(name.length + 1);
  w.u16(0);
  w.u16(0);
  writePerms(w, perms);
  w.copy(latin1Bytes(`${name}\0`));
  w.end();
}

/** Domids beyond 16 bits never mean anybody: they are cut off, as Xen 4.17 does. */
function writePerms(w: RecordWriter, perms: Perms | null): void {
  const entries = perms?.entries ?? [];
  w.u16(entries.length);
  for (const { access, domain, domid } of entries) {
    w.u8(LETTERS[access & 3] as number);
    w.u8(domain?.alive ? 0 : PERM_STALE);
    w.u16(domid);
  }
}

/** Whether a domain has a ring. The control domain does once its kernel has attached one. */
export function isServed(server: XenstoreServer, domain: Domain): boolean {
  return domain === server.domains.control ? domain.connection !== null : domain.introduced;
}

/** A domain that is being served: its ring, with what waits there if `connection` is given. */
export function writeDomain(w: RecordWriter, domain: Domain, extensions: boolean, connection: Connection | null): void {
  const spec = (): void => {
    w.u16(domain.domid);
    w.u16(domain.target?.domid ?? DOMID_INVALID);
    w.u32(domain.ring?.port ?? 0);
  };
  writeConnection(w, ringId(domain.domid), CONNECTION_RING, spec, connection, extensions);
  if (!extensions) return;
  w.begin(OWN_DOMAIN);
  w.u16(domain.domid);
  w.u16(domain.shutdown ? DOMAIN_SHUTDOWN : 0);
  w.u32(0);
  w.u64(domain.ring?.gfn ?? 0);
  w.end();
  writeRestriction(w, ringId(domain.domid), connection);
  if (connection !== null) writePosition(w, ringId(domain.domid), connection);
}

function writePosition(w: RecordWriter, id: number, { ring, transactions }: Connection): void {
  if (ring === null) return;
  const { consumed, produced } = ring.position;
  w.begin(OWN_RING);
  w.u32(id);
  w.u32(consumed);
  w.u32(produced);
  w.u32(transactions.size);
  for (const transaction of transactions.keys()) w.u32(transaction);
  w.end();
}

export function writeSocket(
  w: RecordWriter,
  id: number,
  fd: number,
  connection: Connection,
  extensions: boolean,
): void {
  const spec = (): void => {
    w.u32(fd);
    w.u32(0);
  };
  writeConnection(w, id, CONNECTION_SOCKET, spec, connection, extensions);
  if (extensions) writeRestriction(w, id, connection);
}

function writeRestriction(w: RecordWriter, id: number, connection: Connection | null): void {
  if (!connection?.restricted) return;
  w.begin(OWN_RESTRICTED);
  w.u32(id);
  w.u16(connection.domain.domid);
  w.u16(0);
  w.end();
}

function writeConnection(
  w: RecordWriter,
  id: number,
  kind: number,
  spec: () => void,
  connection: Connection | null,
  extensions: boolean,
): void {
  const all = connection?.pendingInput ?? new Uint8Array(0);
  const input = all.subarray(0, INPUT_MAX);
  const output = connection?.output() ?? new Uint8Array(0);
  w.begin(RECORD_CONNECTION_DATA);
  w.u32(id);
  w.u16(kind);
  w.u16(0);
  spec();
  w.u16(input.length);
  w.u16(connection?.out.partial ?? 0);
  w.u32(output.length);
  w.copy(input);
  w.copy(output);
  w.end();
  if (all.length === input.length || !extensions) return;
  w.begin(OWN_MORE_INPUT);
  w.u32(id);
  w.u32(all.length - input.length);
  w.copy(all.subarray(INPUT_MAX));
  w.end();
}

export function writeWatch(w: RecordWriter, arena: ByteArena, id: number, watch: Watch, type: WatchType): void {
  const { point, skip, token } = watch;
  w.begin(type);
  w.u32(id);
  w.u16(point.length - skip + 1);
  w.u16(token.length + 1);
  if (type === RECORD_WATCH_DATA_EXTENDED) {
    // No path has as many levels as the field can't hold.
    w.u16(watch.depth === NO_DEPTH_LIMIT ? DEPTH_UNLIMITED : Math.min(watch.depth, DEPTH_UNLIMITED - 1));
    w.u16(0);
  }
  w.slot(arena, point.pathRef, point.length - skip, skip);
  w.u8(0);
  w.copy(token);
  w.u8(0);
  w.end();
}

export type WatchType = typeof RECORD_WATCH_DATA | typeof RECORD_WATCH_DATA_EXTENDED | typeof OWN_UNWATCH;

export function writeGlobalQuotas(w: RecordWriter, server: XenstoreServer): void {
  const { limits, soft } = server.quotas;
  w.begin(RECORD_GLOBAL_QUOTA_DATA);
  w.u16(allQuotaNames().length);
  w.u16(0);
  writeLimits(w, limits, soft);
  w.end();
}

/** Limits and features of a domain, where they aren't those of all. */
export function writeDomainData(w: RecordWriter, server: XenstoreServer, domain: Domain): void {
  const { limits, softLimits, features } = domain;
  if (limits === null && features === null) return;
  w.begin(RECORD_DOMAIN_DATA);
  w.u16(domain.domid);
  w.u16(limits === null ? 0 : allQuotaNames().length);
  w.u32(features ?? server.features);
  if (limits !== null) writeLimits(w, limits, softLimits ?? server.quotas.soft);
  w.end();
}

function writeLimits(w: RecordWriter, limits: Limits, soft: SoftLimits): void {
  const names = allQuotaNames();
  for (const name of names) w.u32(getLimit(name, limits, soft));
  w.copy(latin1Bytes(names.map((name) => `${name}\0`).join('')));
}
