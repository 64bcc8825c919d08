/** Percentiles of latencies: near the exact ones for any input, at fixed size. */
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { LatencyHistogram } from '../../../dist/host/latency.js';

const of = (...us: number[]) => {
  const histogram = new LatencyHistogram();
  for (const one of us) histogram.add(one);
  return histogram;
};

test('percentiles are within 2 % of the exact ones', () => {
  const samples = fc.array(fc.double({ min: 5, max: 1e7, noNaN: true }), { minLength: 1, maxLength: 200 });
  fc.assert(
    fc.property(samples, fc.constantFrom(0.01, 0.5, 0.9, 0.99, 1), (us, share) => {
      const exact = [...us].sort((a, b) => a - b)[Math.ceil(us.length * share) - 1] as number;
      expect(Math.abs(of(...us).percentile(share) / exact - 1)).toBeLessThan(0.02);
    }),
    { numRuns: 200 },
  );
});

describe('a histogram', () => {
  it('of nothing is all zeros', () => expect(of().summary()).toEqual({ served: 0, p50Us: 0, p99Us: 0 }));

  it('tells the median from the slowest', () => {
    const { served, p50Us, p99Us } = of(...new Array(97).fill(20), 5000, 5000, 5000).summary();
    expect(served).toBe(100);
    expect([p50Us, p99Us].map((us) => Math.round(us / 10) * 10)).toEqual([20, expect.closeTo(5000, -2)]);
  });

  it.each([0, -1, 0.05])('counts %d as the shortest time there is', (us) => {
    expect(of(us).summary()).toEqual({ served: 1, p50Us: 0.1, p99Us: 0.1 });
  });

  it.each([1e9, Infinity])('counts %d as the longest', (us) => {
    const { served, p50Us } = of(us).summary();
    expect([served, p50Us > 60e6, p50Us < 70e6]).toEqual([1, true, true]);
  });
});
