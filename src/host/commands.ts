/** What can be asked of a running host from outside its clients' devices: by the thread that started it, or the CLI. */
import type { GatePlan, GateStatus } from './gate-embedded.js';
import type { LatencySummary } from './latency.js';
import type { CallCounts } from './trace.js';

/** Who serves the XenStore: the host itself, or a daemon of its own that attaches to it as to a dom0's kernel. */
export type XenstoreMode = 'embedded' | 'external';

export interface DomainPlan {
  readonly kind: 'hvm' | 'pv';
  readonly memoryMiB: number;
  readonly vcpus: number;
  /** Room for memory that a device model will populate. */
  readonly deviceMiB?: number;
  /** An HVM domain as libxl leaves it: with a ring to XenStore, its home there, introduced. */
  readonly introduced?: boolean;
}

export interface DomainRow {
  readonly domid: number;
  readonly kind: string;
  readonly memoryMiB: number;
  readonly vcpus: number;
  readonly state: 'running' | 'paused' | 'shutdown' | 'dying';
}

/** A device file that a client holds open. */
export interface OpenFileRow {
  readonly pid: number;
  readonly device: string;
  /** The domain it is restricted to. */
  readonly restrictedTo?: number;
  /** The host's own descriptors for it, for whoever measures: its connection, and eventfds that stand for its ports. */
  readonly connection: number;
  readonly doorbells: readonly { readonly port: number; readonly fd: number }[];
}

export interface HostStatus extends CallCounts {
  readonly requests: LatencySummary;
  readonly connections: number;
  readonly domains: number;
  /** The gates that device models have before XenStore. */
  readonly gates: readonly GateStatus[];
}

export interface IoScript {
  readonly domid: number;
  readonly vcpu: number;
  readonly script: string;
}

export interface Played {
  readonly lines: readonly string[];
  /** Checks that failed. */
  readonly failures: number;
  /** The requests that a device model served, and how long each took. */
  readonly requests: LatencySummary;
  /** Why it ended early, if it did. */
  readonly error?: string;
}

export interface CommandMap {
  createDomain: { argument: DomainPlan; result: { domid: number } };
  listDomains: { argument: null; result: DomainRow[] };
  pauseDomain: { argument: { domid: number }; result: null };
  unpauseDomain: { argument: { domid: number }; result: null };
  destroyDomain: { argument: { domid: number }; result: null };
  /** Plays an I/O script on a vCPU of the domain; what it prints comes back when it is done. */
  io: {
    argument: IoScript & { json: boolean };
    result: Played;
  };
  /** Plays an I/O script over and over in the background, until the domain or the host ends. */
  startGuest: { argument: IoScript; result: null };
  /** Makes a device model's own way into XenStore. */
  openGate: { argument: GatePlan; result: null };
  openFiles: { argument: null; result: OpenFileRow[] };
  status: { argument: null; result: HostStatus };
}

export type CommandName = keyof CommandMap;
