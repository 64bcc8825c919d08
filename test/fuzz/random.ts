/** Random numbers that a seed brings back, and the kinds of values that find bugs. */

/** Values at the edges of what fields hold. */
const EDGES: readonly bigint[] = [
  0n,
  1n,
  2n,
  3n,
  7n,
  8n,
  15n,
  16n,
  63n,
  64n,
  255n,
  256n,
  4095n,
  4096n,
  0x7fffn,
  0x8000n,
]
  .concat([0xfeff0n, 0xfefffn, 0xff000n, 0x10_0000n, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn, 1n << 32n])
  .concat([(1n << 47n) - 4096n, 1n << 52n, (1n << 53n) - 1n, 1n << 63n, (1n << 64n) - 4096n, (1n << 64n) - 1n]);

export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0;
  }

  /** 32 random bits. @spec mulberry32 */
  bits(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }

  /** 0 … limit-1. */
  below(limit: number): number {
    return this.bits() % limit;
  }

  /** True once in `n`. */
  oneIn(n: number): boolean {
    return this.below(n) === 0;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.below(from.length)] as T;
  }

  /** Mostly small, often an edge, sometimes anything. */
  number(): bigint {
    const kind = this.below(10);
    if (kind < 4) return BigInt(this.below(32));
    if (kind < 6) return BigInt(this.below(4096));
    if (kind < 9) return this.pick(EDGES);
    return (BigInt(this.bits()) << 32n) | BigInt(this.bits());
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.bits());
  }
}
