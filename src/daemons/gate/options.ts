/** What the gate's thread is started with, and what it says. Can be sent between threads. */
import type { GateCounts } from '../../xenstore/gate/denials.js';

export interface GateDaemonOptions {
  readonly domid: number;
  /** The domain that the client runs in. */
  readonly dm: number;
  /** Of the gate's socket. */
  readonly path: string;
  readonly mode: number;
  readonly uid?: number;
  readonly gid?: number;
  /** A daemon's socket, or a device such as /dev/xen/xenbus. */
  readonly upstream: string;
  /** The embedded host whose /dev/xen/xenbus is upstream, instead. */
  readonly host?: string;
  /** A checked policy, as JSON. */
  readonly policy: unknown;
  /** File for the trace, one JSON object a line. */
  readonly trace?: string;
}

export interface GateDaemonInfo {
  readonly path: string;
}

/** The thread's one command. */
export const COUNTS = 'counts';
export type { GateCounts };
