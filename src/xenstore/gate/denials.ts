/**
 * What a gate has granted and refused: counters, and one record a decision for whoever traces.
 *
 * A client can cause any number of refusals: counters have a fixed set of names, records go to the caller and are not kept.
 */

/** Why something was refused: the right that no rule grants, or which limit or check it was. */
export type DenialCode =
  | 'read'
  | 'list'
  | 'write'
  | 'create'
  | 'remove'
  | 'perms'
  | 'watch'
  | 'operation'
  | 'special'
  | 'domain'
  | 'parent'
  | 'permissions'
  | 'watches'
  | 'transactions'
  | 'nodes'
  | 'value'
  | 'connections';

export interface GateRecord {
  /** Milliseconds on the host's clock. */
  readonly time: number;
  readonly domid: number;
  /** Which of the device model's connections, counted from 1. */
  readonly connection: number;
  /** The process, where the transport knows. */
  readonly pid?: number;
  readonly operation: string;
  readonly path?: string;
  readonly verdict: 'granted' | 'denied' | 'hidden' | 'malformed' | 'closed' | 'upstream';
  readonly errno?: string;
  readonly code?: DenialCode;
  readonly reason?: string;
}

export interface GateCounts {
  readonly connections: number;
  readonly granted: number;
  readonly denied: number;
  readonly malformed: number;
  /** Denials by code. */
  readonly denials: Readonly<Record<string, number>>;
  readonly events: number;
  /** Events that were kept from the client. */
  readonly hidden: number;
  /** Times that requests had to wait because there were too many a second. */
  readonly throttled: number;
  /** Upstream connections that were lost. */
  readonly lost: number;
  readonly watches: number;
  readonly transactions: number;
}
