/**
 * What a DM operation's file declares. The table of them is the dispatch table and the support matrix at once.
 */
import type { ErrnoName } from '../../../abi/errno.js';
import type { Layout } from '../../../abi/layout.js';
import type { DmOpCall, DmOpResult } from './dm-op-call.js';

/**
 * Whether the operation's struct is copied back to the caller, as in Xen:
 * - never
 * - progress: when preempted, with how far it got
 * - result: when preempted and when it succeeds
 * After a failure nothing is.
 */
export type CopyOut = 'never' | 'progress' | 'result';

export type DmOpSupport =
  | { readonly status: 'supported' }
  | { readonly status: 'partial'; readonly note: string }
  | { readonly status: 'refused'; readonly errno: ErrnoName; readonly note: string };

export interface DmOperation {
  /** XEN_DMOP_*. */
  readonly op: number;
  readonly name: string;
  /** The struct after the header. */
  readonly layout: Layout<unknown>;
  readonly copyOut: CopyOut;
  readonly support: DmOpSupport;
  /** Checks the arguments as Xen does, then does the work. @throws XenError */
  run(call: DmOpCall): DmOpResult;
}
