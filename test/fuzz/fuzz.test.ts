/**
 * A smoke run of every fuzzer, always the same one unless told otherwise:
 *     POSTERN_FUZZ_SEED=12345 POSTERN_FUZZ_ITERATIONS=1000000 npx vitest run test/fuzz
 */
import { describe, expect, it, vi } from 'vitest';

import { Request } from '../../dist/host/request.js';
import { connectionFuzzer } from './connection-fuzzer.js';
import { dmOpFuzzer, fuzzDmOp } from './dm-op-fuzzer.js';
import { evtchnFuzzer } from './evtchn-fuzzer.js';
import type { Fuzzer } from './fuzzer.js';
import { gateFuzzer } from './gate-fuzzer.js';

const FUZZERS: readonly Fuzzer[] = [dmOpFuzzer, evtchnFuzzer, connectionFuzzer, gateFuzzer];

const CI_SEED = 20160830;
const SEED = Number(process.env.POSTERN_FUZZ_SEED ?? CI_SEED);
const ITERATIONS = process.env.POSTERN_FUZZ_ITERATIONS;
/** A long run takes as long as it takes. */
const LIMIT_MS = ITERATIONS === undefined ? 60_000 : 24 * 3_600_000;

describe('fuzzing', () => {
  it.each(FUZZERS)(
    '$name',
    ({ smoke, run }) => {
      run(SEED, ITERATIONS === undefined ? smoke : Number(ITERATIONS));
    },
    LIMIT_MS,
  );
});

describe('the fuzzers find', () => {
  it('a file that forgets its restriction', () => {
    const forget = (file: object) => Object.assign(file, { assertDomain: () => {} });
    expect(() => fuzzDmOp(SEED, dmOpFuzzer.smoke, forget)).toThrow(/outside domain 1 has changed|domain 2/);
  });

  it('a file that fails as only a bug does', () => {
    const fail = (file: object) =>
      Object.assign(file, {
        assertAccess: () => {
          throw new TypeError('undefined is not a function');
        },
      });
    expect(() => fuzzDmOp(SEED, 100, fail)).toThrow(/undefined is not a function\nagain with POSTERN_FUZZ_SEED=/);
  });

  it('a request that is not checked', () => {
    const { parse } = Request.prototype;
    const broken = vi.spyOn(Request.prototype, 'parse').mockImplementation(function (this: Request, length: number) {
      if (length > 40 && length < 56) throw new RangeError('offset is out of bounds');
      parse.call(this, length);
    });
    try {
      const run = () => connectionFuzzer.run(SEED, connectionFuzzer.smoke);
      expect(run).toThrow(/connection, iteration \d+: offset is out of bounds\nagain with POSTERN_FUZZ_SEED=/);
    } finally {
      broken.mockRestore();
    }
  });

  it('every operation, and carries it out', () => {
    const done = new Set<number>();
    fuzzDmOp(CI_SEED, dmOpFuzzer.smoke, undefined, (op, ret) => {
      if (ret === 0) done.add(op);
    });
    // on x86 there is no set_irq_level
    const missing = Array.from({ length: 20 }, (_, i) => i + 1).filter((op) => op !== 19 && !done.has(op));
    expect(missing).toEqual([]);
  });

  it('says the same with the same seed', () => {
    const failure = () => {
      try {
        fuzzDmOp(SEED, dmOpFuzzer.smoke, (file) => Object.assign(file, { assertDomain: () => {} }));
        return 'nothing';
      } catch (error) {
        return (error as Error).message.split('\n')[0];
      }
    };
    const first = failure();
    expect(first).not.toBe('nothing');
    expect(failure()).toBe(first);
  });
});
