/**
 * Reads records. Trusts nobody: each length is held against what is there and against the limits below, before anything is
 * made of it. What a record refers to is `restore.ts`'s business. Byte strings are views of the stream: not to be kept.
 */
import { XENSTORE_PAYLOAD_MAX, XS_HEADER_SIZE } from '../../abi/xen/xs-wire.js';
import { latin1 } from '../arena.js';
import {
  CONNECTION_RING,
  CONNECTION_SOCKET,
  DEPTH_UNLIMITED,
  OWN_DOMAIN,
  OWN_DOMAIN_ENDED,
  OWN_MORE_INPUT,
  OWN_RESTRICTED,
  OWN_RING,
  OWN_STATE,
  OWN_TRANSACTION,
  OWN_UNWATCH,
  type PermRecord,
  RECORD_CONNECTION_DATA,
  RECORD_DOMAIN_DATA,
  RECORD_END,
  RECORD_GLOBAL_DATA,
  RECORD_GLOBAL_QUOTA_DATA,
  RECORD_HEADER_SIZE,
  RECORD_NODE_DATA,
  RECORD_TRANSACTION_DATA,
  RECORD_WATCH_DATA,
  RECORD_WATCH_DATA_EXTENDED,
  STREAM_HEADER_SIZE,
  STREAM_IDENT,
  STREAM_VERSION,
  StreamError,
  type StreamRecord,
  type UseRecord,
} from './records.js';

/** As many permissions as one SET_PERMS could set. */
const PERMS_MAX = XENSTORE_PAYLOAD_MAX / 3;
/** Numbers stay well below 2^53, so that counting on from them stays exact. */
const HIGH_MAX = 0xfffff;

/** The records of a whole stream, END excluded. @throws StreamError on the way */
export function* readStream(bytes: Uint8Array): Generator<StreamRecord> {
  if (bytes.length < STREAM_HEADER_SIZE) throw new StreamError('the stream has no header');
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (latin1(bytes, 0, 8) !== STREAM_IDENT) throw new StreamError('not a XenStore stream');
  const version = view.getUint32(8);
  const flags = view.getUint32(12);
  if (version < 1 || version > STREAM_VERSION) throw new StreamError(`version ${version} of the stream is not known`);
  // Xen 4.17 writes the flags in its own byte order: as they are 0 for little-endian, that can't be told apart.
  if (flags !== 0) throw new StreamError(`flags ${flags.toString(16)}: only little-endian streams are taken`);
  const rest = yield* readRecords(bytes, STREAM_HEADER_SIZE);
  if (rest < 0) throw new StreamError('the stream ends without an END record');
}

/** The records of a frame of a journal, which has no header and no END. */
export function* readFrame(bytes: Uint8Array): Generator<StreamRecord> {
  if ((yield* readRecords(bytes, 0)) >= 0) throw new StreamError('an END record within a journal');
}

/** @returns the offset behind the END record, or -1 where the bytes end without one */
function* readRecords(bytes: Uint8Array, from: number): Generator<StreamRecord, number> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = from; at < bytes.length; ) {
    if (bytes.length - at < RECORD_HEADER_SIZE) throw new StreamError(`offset ${at}: half a record header`);
    const type = view.getUint32(at, true);
    const length = view.getUint32(at + 4, true);
    const start = at + RECORD_HEADER_SIZE;
    if (length > bytes.length - start) throw new StreamError(`offset ${at}: a record longer than the stream`);
    if (type === RECORD_END) {
      if (length !== 0) throw new StreamError(`offset ${at}: an END record with a body`);
      return start;
    }
    const body = new Body(bytes, start, start + length, type);
    const record = decode(body, type);
    if (record !== null) yield record;
    at = start + Math.ceil(length / 8) * 8;
  }
  return -1;
}

/** A record's body, read from front to back. */
class Body {
  readonly #view: DataView;
  readonly #end: number;
  readonly #type: number;
  #at: number;

  constructor(
    readonly bytes: Uint8Array,
    start: number,
    end: number,
    type: number,
  ) {
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#at = start;
    this.#end = end;
    this.#type = type;
  }

  get left(): number {
    return this.#end - this.#at;
  }

  fail(why: string): never {
    throw new StreamError(`record of type 0x${this.#type.toString(16)} at offset ${this.#at}: ${why}`);
  }

  u8(): number {
    return this.#view.getUint8(this.#step(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#step(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#step(4), true);
  }

  i32(): number {
    return this.#view.getInt32(this.#step(4), true);
  }

  u64(): number {
    const low = this.u32();
    const high = this.u32();
    if (high > HIGH_MAX) this.fail('a number that is too large');
    return high * 0x100000000 + low;
  }

  take(length: number): Uint8Array {
    const at = this.#step(length);
    return this.bytes.subarray(at, at + length);
  }

  /** `length` bytes with a nul as the last and nowhere else; without that nul. */
  string(length: number): Uint8Array {
    const bytes = this.take(length);
    if (length === 0 || bytes.indexOf(0) !== length - 1) this.fail('a string without its end');
    return bytes.subarray(0, length - 1);
  }

  #step(count: number): number {
    const at = this.#at;
    if (count > this.#end - at) this.fail(`${this.left} bytes where ${count} are needed`);
    this.#at = at + count;
    return at;
  }
}

type Decoder = (body: Body) => StreamRecord;

const DECODERS = new Map<number, Decoder>([
  [RECORD_GLOBAL_DATA, (b) => ({ type: RECORD_GLOBAL_DATA, socketFd: b.i32(), eventChannelFd: b.i32() })],
  [RECORD_CONNECTION_DATA, connection],
  [RECORD_WATCH_DATA, (b) => watch(b, RECORD_WATCH_DATA_EXTENDED, false)],
  [RECORD_WATCH_DATA_EXTENDED, (b) => watch(b, RECORD_WATCH_DATA_EXTENDED, true)],
  [OWN_UNWATCH, (b) => watch(b, OWN_UNWATCH, false)],
  [RECORD_TRANSACTION_DATA, (b) => ({ type: RECORD_TRANSACTION_DATA, connection: b.u32(), transaction: b.u32() })],
  [RECORD_NODE_DATA, node],
  [RECORD_GLOBAL_QUOTA_DATA, globalQuotas],
  [RECORD_DOMAIN_DATA, domainData],
  [OWN_DOMAIN, ownDomain],
  [OWN_DOMAIN_ENDED, (b) => ({ type: OWN_DOMAIN_ENDED, domid: b.u16(), flags: 0, gfn: 0 })],
  [OWN_RESTRICTED, (b) => ({ type: OWN_RESTRICTED, connection: b.u32(), domid: b.u16() })],
  [OWN_MORE_INPUT, (b) => ({ type: OWN_MORE_INPUT, connection: b.u32(), input: b.take(b.u32()) })],
  [OWN_STATE, state],
  [OWN_RING, ring],
  [OWN_TRANSACTION, ownTransaction],
]);

/** Null for a type that isn't known: a later version's, or another implementation's. */
function decode(body: Body, type: number): StreamRecord | null {
  return DECODERS.get(type)?.(body) ?? null;
}

function connection(b: Body): StreamRecord {
  const id = b.u32();
  const kind = b.u16();
  b.u16();
  if (id === 0) b.fail('connection 0');
  if (kind !== CONNECTION_RING && kind !== CONNECTION_SOCKET) b.fail(`a connection of kind ${kind}`);
  const spec =
    kind === CONNECTION_RING
      ? ({ kind: 'ring', domid: b.u16(), target: b.u16(), port: b.u32() } as const)
      : ({ kind: 'socket', fd: b.i32() } as const);
  if (spec.kind === 'socket') b.u32();
  const inputLength = b.u16();
  const partial = b.u16();
  const outputLength = b.u32();
  const input = b.take(inputLength);
  const output = b.take(outputLength);
  if (!wellFormed(output, partial)) b.fail('output that is no sequence of messages');
  return { type: RECORD_CONNECTION_DATA, id, spec, input, partial, output };
}

function wellFormed(output: Uint8Array, partial: number): boolean {
  const view = new DataView(output.buffer, output.byteOffset, output.length);
  let at = partial;
  while (output.length - at >= XS_HEADER_SIZE) {
    const length = view.getUint32(at + 12, true);
    if (length > XENSTORE_PAYLOAD_MAX) return false;
    at += XS_HEADER_SIZE + length;
  }
  return at === output.length;
}

function watch(b: Body, type: typeof RECORD_WATCH_DATA_EXTENDED | typeof OWN_UNWATCH, extended: boolean): StreamRecord {
  const connectionId = b.u32();
  const pathLength = b.u16();
  const tokenLength = b.u16();
  const depth = extended ? b.u16() : DEPTH_UNLIMITED;
  if (extended) b.u16();
  return { type, connection: connectionId, path: b.string(pathLength), token: b.string(tokenLength), depth };
}

function node(b: Body): StreamRecord {
  const connectionId = b.u32();
  const transaction = b.u32();
  const pathLength = b.u16();
  const valueLength = b.u16();
  const access = b.u16();
  const count = b.u16();
  if (count > PERMS_MAX) b.fail(`${count} permissions`);
  if (valueLength > XENSTORE_PAYLOAD_MAX) b.fail(`a value of ${valueLength} bytes`);
  const perms: PermRecord[] = [];
  for (let i = 0; i < count; i++) perms.push(permission(b));
  return {
    type: RECORD_NODE_DATA,
    connection: connectionId,
    transaction: connectionId === 0 ? 0 : transaction,
    access: connectionId === 0 ? 0 : access,
    perms,
    path: b.string(pathLength),
    value: b.take(valueLength),
  };
}

function permission(b: Body): PermRecord {
  const letter = String.fromCharCode(b.u8());
  const flags = b.u8();
  const access = 'nrwb'.indexOf(letter);
  if (access < 0) b.fail('a permission that is none of n, r, w, b');
  return { access, stale: (flags & 1) !== 0, domid: b.u16() };
}

function globalQuotas(b: Body): StreamRecord {
  const count = b.u16() + b.u16();
  return { type: RECORD_GLOBAL_QUOTA_DATA, domid: -1, features: 0, limits: limits(b, count) };
}

function domainData(b: Body): StreamRecord {
  const domid = b.u16();
  const count = b.u16();
  const features = b.u32();
  return { type: RECORD_DOMAIN_DATA, domid, features, limits: limits(b, count) };
}

function limits(b: Body, count: number): Map<string, number> {
  const values = Array.from({ length: count }, () => b.u32());
  const names = latin1Strings(b.take(b.left));
  if (names.length < count) b.fail(`${count} limits and ${names.length} names`);
  return new Map(values.map((value, i) => [names[i] as string, value]));
}

function latin1Strings(bytes: Uint8Array): string[] {
  return latin1(bytes, 0, bytes.length).split('\0').slice(0, -1);
}

function ownDomain(b: Body): StreamRecord {
  const domid = b.u16();
  const flags = b.u16();
  b.u32();
  return { type: OWN_DOMAIN, domid, flags, gfn: b.u64() };
}

function state(b: Body): StreamRecord {
  const journal = b.u32();
  b.u32();
  return { type: OWN_STATE, journal, clock: b.u64() };
}

function ring(b: Body): StreamRecord {
  const [connectionId, consumed, produced, count] = [b.u32(), b.u32(), b.u32(), b.u32()];
  if (count * 4 > b.left) b.fail(`${count} transactions in ${b.left} bytes`);
  const transactions = Array.from({ length: count }, () => b.u32());
  return { type: OWN_RING, connection: connectionId, consumed, produced, transactions };
}

function ownTransaction(b: Body): StreamRecord {
  const connectionId = b.u32();
  const transaction = b.u32();
  const flags = b.u32();
  const nrUses = b.u32();
  const nrCreated = b.u32();
  if (nrUses * 4 + nrCreated * 4 > b.left) b.fail(`${nrUses} nodes, ${nrCreated} created, in ${b.left} bytes`);
  const uses: UseRecord[] = [];
  for (let i = 0; i < nrUses; i++) {
    uses.push({ depends: b.u8(), fires: b.u8(), bits: b.u16() });
  }
  const created = Array.from({ length: nrCreated }, () => b.u32());
  return { type: OWN_TRANSACTION, connection: connectionId, transaction, flags, uses, created };
}
