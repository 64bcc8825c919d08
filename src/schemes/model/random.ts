/** Pseudo-random numbers from a seed: every choice of a run comes from here, so a seed is the whole run. */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = (seed ^ 0x9e3779b9) >>> 0;
  }

  /** A stream of its own for a named purpose, so that one purpose's use doesn't shift another's. */
  fork(name: string): Random {
    let hash = this.state;
    for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193) >>> 0;
    return new Random(hash);
  }

  u32(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let x = this.state;
    x = Math.imul(x ^ (x >>> 15), x | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return (x ^ (x >>> 14)) >>> 0;
  }

  /** 0 to n-1. */
  below(n: number): number {
    return this.u32() % n;
  }
}
