/**
 * One DM operation in progress: what the operation's code gets to see.
 */

import { NEVER_PREEMPT, type PREEMPTED, type Preemption } from '../../../boundary/operation.js';
import type { Domain, HvmState } from '../../domain.js';
import type { DmOpBuffers } from './dm-op-buffers.js';

export class DmOpCall {
  preemption: Preemption = NEVER_PREEMPT;
  /** Progress beyond what the operation's own struct holds. Undefined on the first run. */
  progress: unknown;

  constructor(
    /** The device model's domain. */
    readonly caller: Domain,
    /** The domain operated on, which isn't the caller. */
    readonly target: Domain,
    readonly hvm: HvmState,
    readonly buffers: DmOpBuffers,
    /** The working copy of the first buffer; the operation's struct is at PAYLOAD. */
    readonly view: DataView,
  ) {}
}

/** What an operation's code returns: 0, or PREEMPTED to be run again with its progress kept. */
export type DmOpResult = 0 | typeof PREEMPTED;
