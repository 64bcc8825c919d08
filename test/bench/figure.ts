/** What the bench reports: figures, each a ratio to something measured in the same run or to a bound. */

export interface Figure {
  /** `group.case`, with `.one-core` where client and server share a CPU. */
  readonly name: string;
  /** Smaller is better, in every figure. */
  readonly value: number;
  readonly unit: 'ns' | 'us' | 'B' | 'MiB';
  /** What it is measured against, in the same unit. */
  readonly baseline: number;
  /** value / baseline; where both were measured, the median of their ratios round by round. */
  readonly ratio: number;
  /** The highest ratio that is good enough; undefined for figures that explain others. */
  readonly target?: number;
  /** What the baseline is. */
  readonly against: string;
  readonly p99?: number;
  readonly baselineP99?: number;
  readonly note?: string;
}

/** Why a group could not be measured here. */
export class NotMeasured extends Error {
  override readonly name = 'NotMeasured';
}

export interface Group {
  readonly name: string;
  measure(options: BenchOptions): Promise<Figure[]>;
}

export interface BenchOptions {
  /** Few rounds: to see that it works, not to believe the figures. */
  readonly quick: boolean;
}

export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] as number;
}

export const median = (values: readonly number[]): number => percentile(values, 0.5);

/** What one round has measured on both sides: medians and 99th percentiles. */
export interface Round {
  readonly value: readonly [p50: number, p99: number];
  readonly baseline: readonly [p50: number, p99: number];
}

/** A figure from rounds that measured both sides one right after the other. */
export function fromRounds(
  rounds: readonly Round[],
  rest: Pick<Figure, 'name' | 'unit' | 'against'> & Partial<Figure>,
): Figure {
  return {
    ...rest,
    value: median(rounds.map(({ value }) => value[0])),
    baseline: median(rounds.map(({ baseline }) => baseline[0])),
    ratio: median(rounds.map(({ value, baseline }) => value[0] / baseline[0])),
    p99: median(rounds.map(({ value }) => value[1])),
    baselineP99: median(rounds.map(({ baseline }) => baseline[1])),
  };
}
