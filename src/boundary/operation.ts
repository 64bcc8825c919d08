/**
 * Operations in progress and their preemption. Xen checks for pending work inside its loops and turns the rest into a
 * continuation; here an operation asks `due()` every few iterations and, when told so, keeps its progress and returns
 * PREEMPTED. The host runs whatever else waits and calls it again.
 */
export interface Preemption {
  /** True once the current slice is used up. Cheap enough to ask every 16 iterations. */
  due(): boolean;
}

/** Returned instead of a result by an operation that has work left. */
export const PREEMPTED = Symbol('preempted');

/** An operation in progress. `run` is called again for as long as it returns PREEMPTED; it keeps its own progress. */
export interface Operation {
  /** The operation's name for the trace, once it has been decoded. */
  readonly name?: string | undefined;
  /** @returns the call's return value (0 or positive; failures are thrown as XenError), or PREEMPTED */
  run(preemption: Preemption): number | typeof PREEMPTED;
}

/** For callers that want the whole operation at once. */
export const NEVER_PREEMPT: Preemption = { due: () => false };
