/** Latencies in a histogram of fixed size: buckets grow by about 2 %, so percentiles are that exact at any count. */
const BUCKETS = 1024;
const GROWTH = Math.log(1.02);

export interface LatencySummary {
  readonly served: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

export class LatencyHistogram {
  private readonly counts = new Uint32Array(BUCKETS);
  served = 0;

  /** @param us microseconds */
  add(us: number): void {
    const bucket = us <= 0.1 ? 0 : Math.min(BUCKETS - 1, Math.round(Math.log(us / 0.1) / GROWTH));
    this.counts[bucket] = (this.counts[bucket] as number) + 1;
    this.served++;
  }

  /** @param share 0.5 for the median @returns microseconds, 0 where nothing was measured */
  percentile(share: number): number {
    let left = Math.ceil(this.served * share);
    for (let bucket = 0; bucket < BUCKETS && left > 0; bucket++) {
      left -= this.counts[bucket] as number;
      if (left <= 0) return Number((0.1 * Math.exp(bucket * GROWTH)).toFixed(1));
    }
    return 0;
  }

  summary(): LatencySummary {
    return { served: this.served, p50Us: this.percentile(0.5), p99Us: this.percentile(0.99) };
  }
}
