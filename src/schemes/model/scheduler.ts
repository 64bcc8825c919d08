/**
 * When the attacker's second thread runs. Every copy, check and pin of the kernel's or the hypervisor's is a point where
 * another CPU may get in between; a schedule says at which of them the next step of the second thread is taken.
 */
import type { Random } from './random.js';

/** At which points the second thread takes a step: point numbers, ascending. */
export type Schedule = readonly number[];

export class Scheduler {
  /** Points passed while a call was in progress. */
  points = 0;
  /** What happened in order, for `--explain`. */
  readonly events: string[] = [];
  /** Off for measurements: nobody reads the events. */
  isRecording = true;
  private steps: (() => void)[] = [];
  private inCall = false;
  private isStepping = false;

  constructor(private readonly schedule: Schedule) {}

  /** The second thread's program; a step is not interrupted. */
  secondThread(...steps: (() => void)[]): void {
    this.steps.push(...steps);
  }

  /** Runs a call with the second thread at work. */
  during<T>(call: () => T): T {
    this.inCall = true;
    try {
      return call();
    } finally {
      this.inCall = false;
    }
  }

  /** A point between two accesses. */
  point(label: string): void {
    if (!this.inCall || this.isStepping) return;
    const index = this.points++;
    if (this.isRecording) this.events.push(label);
    for (const at of this.schedule) if (at === index) this.step();
  }

  private step(): void {
    const step = this.steps.shift();
    if (!step) return;
    this.events.push('      second thread of the attacker runs');
    this.isStepping = true;
    step();
    this.isStepping = false;
  }
}

/** No interleaving, then the thread's steps all at one point each, then a few at random. */
export function schedules(points: number, random: Random): Schedule[] {
  const all: Schedule[] = [];
  for (let at = 0; at < points; at++) all.push([at, at, at, at]);
  for (let i = 0; i < 4; i++) {
    const picks = Array.from({ length: 4 }, () => random.below(Math.max(points, 1)));
    all.push(picks.sort((a, b) => a - b));
  }
  return all;
}
