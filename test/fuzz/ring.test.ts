/** A smoke run of the ring's fuzzers; POSTERN_FUZZ_SEED and POSTERN_FUZZ_ITERATIONS as in fuzz.test.ts. */
import { describe, expect, it, vi } from 'vitest';
import { StoreRing } from '../../dist/xenstore/ring.js';
import { fuzzRing, ringFuzzer } from './ring-fuzzer.js';
import { xenbusFuzzer } from './xenbus-fuzzer.js';

const SEED = Number(process.env.POSTERN_FUZZ_SEED ?? 20160830);
const ITERATIONS = process.env.POSTERN_FUZZ_ITERATIONS;
const LIMIT_MS = ITERATIONS === undefined ? 60_000 : 24 * 3_600_000;

describe('fuzzing', () => {
  it.each([ringFuzzer, xenbusFuzzer])(
    '$name',
    ({ smoke, run }) => run(SEED, ITERATIONS === undefined ? smoke : Number(ITERATIONS)),
    LIMIT_MS,
  );
});

describe('the fuzzers find', () => {
  it('a secret that is not kept', () => {
    expect(() =>
      fuzzRing(SEED, ringFuzzer.smoke, (world) => void world.local.ask('SET_PERMS', '/local/domain/2/s|n2|r1|')),
    ).toThrow("the victim's secret is in the page");
  });

  it('a ring that writes after its end', () => {
    const close = vi.spyOn(StoreRing.prototype, 'close').mockImplementation(() => {});
    try {
      expect(() => ringFuzzer.run(SEED, ringFuzzer.smoke)).toThrow(/given back|are left|domain/);
    } finally {
      close.mockRestore();
    }
  });
});
