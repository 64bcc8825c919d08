/** A smoke run of the ring's fuzzers; POSTERN_FUZZ_SEED and POSTERN_FUZZ_ITERATIONS as in fuzz.test.ts. */
import { describe, expect, it, vi } from 'vitest';
import type { Connection } from '../../dist/xenstore/connection.js';
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
  it('a domain that is taken for another', () => {
    const become = (world: { server: { domains: { get(domid: number): unknown } }; attacker: { ring: object } }) => {
      const connection = (world.attacker.ring as { connection: Connection }).connection;
      Object.assign(connection, { domain: world.server.domains.get(2) });
    };
    expect(() => fuzzRing(SEED, ringFuzzer.smoke, become as never)).toThrow(/secret|domain|problems|the store/);
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
