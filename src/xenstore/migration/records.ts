/**
 * Xen's migration stream: what a XenStore daemon hands to its successor, as a header and records.
 *
 *     header   "xenstore", version and flags, big-endian
 *     record   type u32, length u32, body, padded to a multiple of 8       (in the byte order that the flags name)
 *     …        END is the last
 *
 * Version 1 is what Xen 4.17 reads and writes. Ours is version 2, with depth of watches, quotas and features; and with
 * records of our own (`OWN_*`), which a foreign reader skips, for what the format has no place for.
 *
 * @spec xen:docs/designs/xenstore-migration.md
 * @deviates where our own records or bits are written (`extensions`): the format reserves them
 */

export const STREAM_IDENT = 'xenstore';
export const STREAM_HEADER_SIZE = 16;
/** The newest version that we read and write; Xen 4.17 has 1. */
export const STREAM_VERSION = 2;
export const RECORD_HEADER_SIZE = 8;

export const RECORD_END = 0;
export const RECORD_GLOBAL_DATA = 1;
export const RECORD_CONNECTION_DATA = 2;
export const RECORD_WATCH_DATA = 3;
export const RECORD_TRANSACTION_DATA = 4;
export const RECORD_NODE_DATA = 5;
export const RECORD_GLOBAL_QUOTA_DATA = 6;
export const RECORD_DOMAIN_DATA = 7;
export const RECORD_WATCH_DATA_EXTENDED = 8;

/** Ours: what a domain is beside its ring. `domid u16, flags u16, pad u32, gfn u64` */
export const OWN_DOMAIN = 0x50530001;
/** Ours: a connection that RESTRICT has made a domain's. `conn-id u32, domid u16, pad u16` */
export const OWN_RESTRICTED = 0x50530002;
/** Ours: input beyond what CONNECTION_DATA can hold. `conn-id u32, length u32, bytes` */
export const OWN_MORE_INPUT = 0x50530003;
/** Ours: `journal u32` (the journal that follows, 0 for none), `pad u32, clock u64` */
export const OWN_STATE = 0x50530004;
/** Ours: how exactly a transaction has used its nodes; see `transactions.ts`. */
export const OWN_TRANSACTION = 0x50530005;
/** Ours, in journals only: a watch is no more. As WATCH_DATA. */
export const OWN_UNWATCH = 0x50530006;
/** Ours, in journals only: a domain is no more. `domid u16, pad` */
export const OWN_DOMAIN_ENDED = 0x50530007;

/**
 * Ours: where a ring stands. Its input ends at `consumed`; its output begins at `produced`. Which transactions it has open.
 * `conn-id u32, consumed u32, produced u32, count u32, count × tx-id u32`
 */
export const OWN_RING = 0x50530008;

export const CONNECTION_RING = 0;
export const CONNECTION_SOCKET = 1;
export const DOMID_INVALID = 0x7ff4;

export const ACCESS_READ = 1;
export const ACCESS_WRITTEN = 2;
/** A permission that no longer means anybody. */
export const PERM_STALE = 1;
/** `depth` of a watch that has no limit. */
export const DEPTH_UNLIMITED = 0xffff;

/** In `OWN_DOMAIN`. */
export const DOMAIN_SHUTDOWN = 1;
/** A name in the stream means nobody's socket. */
export const NO_FD = -1;

export interface GlobalRecord {
  readonly type: typeof RECORD_GLOBAL_DATA;
  readonly socketFd: number;
  readonly eventChannelFd: number;
}

export interface ConnectionRecord {
  readonly type: typeof RECORD_CONNECTION_DATA;
  readonly id: number;
  readonly spec:
    | { readonly kind: 'ring'; readonly domid: number; readonly target: number; readonly port: number }
    | { readonly kind: 'socket'; readonly fd: number };
  readonly input: Uint8Array;
  /** Bytes of `output` that are the rest of a message sent in part. */
  readonly partial: number;
  readonly output: Uint8Array;
}

export interface WatchRecord {
  readonly type: typeof RECORD_WATCH_DATA_EXTENDED | typeof OWN_UNWATCH;
  readonly connection: number;
  readonly path: Uint8Array;
  readonly token: Uint8Array;
  /** `DEPTH_UNLIMITED` or a number of levels. */
  readonly depth: number;
}

export interface TransactionRecord {
  readonly type: typeof RECORD_TRANSACTION_DATA;
  readonly connection: number;
  readonly transaction: number;
}

export interface PermRecord {
  readonly access: number;
  readonly stale: boolean;
  readonly domid: number;
}

export interface NodeRecord {
  readonly type: typeof RECORD_NODE_DATA;
  /** 0 for a node of the store, else whose transaction this belongs to. */
  readonly connection: number;
  readonly transaction: number;
  readonly access: number;
  /** None for a node that was deleted. */
  readonly perms: readonly PermRecord[];
  readonly path: Uint8Array;
  readonly value: Uint8Array;
}

export interface QuotaRecord {
  readonly type: typeof RECORD_GLOBAL_QUOTA_DATA | typeof RECORD_DOMAIN_DATA;
  /** -1 for the global ones. */
  readonly domid: number;
  readonly features: number;
  readonly limits: ReadonlyMap<string, number>;
}

export interface OwnDomainRecord {
  readonly type: typeof OWN_DOMAIN | typeof OWN_DOMAIN_ENDED;
  readonly domid: number;
  readonly flags: number;
  readonly gfn: number;
}

export interface RestrictedRecord {
  readonly type: typeof OWN_RESTRICTED;
  readonly connection: number;
  readonly domid: number;
}

export interface MoreInputRecord {
  readonly type: typeof OWN_MORE_INPUT;
  readonly connection: number;
  readonly input: Uint8Array;
}

export interface RingRecord {
  readonly type: typeof OWN_RING;
  readonly connection: number;
  readonly consumed: number;
  readonly produced: number;
  readonly transactions: readonly number[];
}

export interface StateRecord {
  readonly type: typeof OWN_STATE;
  readonly journal: number;
  readonly clock: number;
}

/** How a transaction has used a node: bits of `depends`, what it fires, and what became of it. */
export interface UseRecord {
  readonly depends: number;
  readonly fires: number;
  readonly bits: number;
}

export interface OwnTransactionRecord {
  readonly type: typeof OWN_TRANSACTION;
  readonly connection: number;
  readonly transaction: number;
  readonly flags: number;
  /** In the order of the transaction's NODE_DATA records. */
  readonly uses: readonly UseRecord[];
  /** Which of them were created, in order. */
  readonly created: readonly number[];
}

export type StreamRecord =
  | GlobalRecord
  | ConnectionRecord
  | WatchRecord
  | TransactionRecord
  | NodeRecord
  | QuotaRecord
  | OwnDomainRecord
  | RestrictedRecord
  | MoreInputRecord
  | StateRecord
  | RingRecord
  | OwnTransactionRecord;

/** A stream that can't be taken, and why. Nothing of it has had any effect. */
export class StreamError extends Error {
  override readonly name = 'StreamError';
}
