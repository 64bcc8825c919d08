/** What the starting thread tells a XenStore daemon, and what it tells back. */

/** How the process was started: what a live update starts again. */
export interface Program {
  readonly node: string;
  readonly nodeArguments: readonly string[];
  readonly script: string;
  readonly arguments: readonly string[];
}

export interface XenstoredOptions {
  readonly socketPath: string;
  /** Where the state is kept; without, it ends with the daemon. */
  readonly statePath?: string;
  /** Survive the end of the machine too. */
  readonly sync?: boolean;
  readonly allowRestrict?: boolean;
  readonly tracePath?: string;
  /** The socket of a host whose dom0 kernel and domains are served too. */
  readonly hostSocket?: string;
  /** The descriptor of what a predecessor hands over. */
  readonly handover?: number;
  readonly program: Program;
}

export interface XenstoredInfo {
  readonly nodes: number;
  readonly connections: number;
  /** Where the store came from. */
  readonly from: 'nothing' | 'state' | 'handover';
  /** What the user should know. */
  readonly notes: readonly string[];
}

/** How a process finds what its predecessor hands over: the number of a descriptor. */
export const HANDOVER_VARIABLE = 'POSTERN_XENSTORED_HANDOVER';
