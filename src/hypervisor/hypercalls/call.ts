/**
 * One hypercall in progress. A short operation returns its result at once; a long one is a generator that yields where
 * it may be preempted, and so keeps its progress in its own variables.
 */

import type { GuestMemory } from '../../boundary/guest-buffer.js';
import { NEVER_PREEMPT, type Operation, PREEMPTED, type Preemption } from '../../boundary/operation.js';
import type { Domain } from '../domain.js';
import type { Hypervisor } from '../hypervisor.js';

/** Steps of a long operation: it yields after `call.preemption.due()`, and returns the hypercall's result. */
export type Steps = Generator<void, number, void>;

export type Outcome = number | Steps;

export class Call {
  /** What the current slice allows. Changes whenever the operation is run again. */
  preemption: Preemption = NEVER_PREEMPT;
  /** For the trace: the hypercall and operation, as soon as they are known. */
  name: string | undefined;
  /** Whether this is a call of a multicall, where no other is allowed. */
  inMulticall = false;

  constructor(
    readonly hypervisor: Hypervisor,
    readonly caller: Domain,
    readonly memory: GuestMemory,
  ) {}
}

/** A hypercall as the host runs it: decoded on its first run, continued on the next ones. */
export class HypercallOperation implements Operation {
  private steps: Steps | undefined;

  constructor(
    private readonly call: Call,
    private readonly start: (call: Call) => Outcome,
  ) {}

  get name(): string | undefined {
    return this.call.name;
  }

  run(preemption: Preemption): number | typeof PREEMPTED {
    this.call.preemption = preemption;
    if (!this.steps) {
      const outcome = this.start(this.call);
      if (typeof outcome === 'number') return outcome;
      this.steps = outcome;
    }
    const { done, value } = this.steps.next();
    return done ? value : PREEMPTED;
  }
}
