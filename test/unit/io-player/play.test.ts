/** The player proper: a guest of callbacks, which may answer at once, later, twice or never. */
import { describe, expect, it } from 'vitest';
import { parseScript } from '../../../dist/io-player/parse.js';
import { type CallbackGuest, type Ended, playScript, type Result } from '../../../dist/io-player/play.js';

function setUp(source: string, access: CallbackGuest['access']) {
  const guest: CallbackGuest = {
    access,
    readMemory: () => {
      throw new Error('no memory there');
    },
    writeMemory: (_address, _bytes, answer) => answer(),
    interrupts: (answer) => answer({ isa: [], intx: [] }),
  };
  const results: Result[] = [];
  const outcomes: Parameters<Ended>[0][] = [];
  const timers: (() => void)[] = [];
  const playing = playScript(
    parseScript(source),
    guest,
    {
      onResult: (result) => results.push(result),
      sleep: (_ms, then) => timers.push(then),
      now: () => 0,
    },
    (outcome) => outcomes.push(outcome),
  );
  return { playing, results, outcomes, timers };
}

describe('playScript', () => {
  it('is over when it returns, where every answer comes at once', () => {
    const { results, outcomes } = setUp('inb 1; outb 2 3; outs 4 "ab"', (_s, _d, _a, _z, _v, answer) => answer(5n));
    expect(results.map((r) => r.kind)).toEqual(['value', 'done', 'done']);
    expect(outcomes).toEqual([{ summary: { nrAccesses: 4, nrChecks: 0, nrFailures: 0, stopped: false } }]);
  });

  it('makes the next access when the answer to the one before has come', () => {
    const answers: ((value: bigint) => void)[] = [];
    const { outcomes } = setUp('cfgread 00:00.0 0 4; inb 1', (_s, _d, _a, _z, _v, answer) => answers.push(answer));
    for (let n = 1; n <= 3; n++) {
      expect(answers).toHaveLength(n);
      expect(outcomes).toEqual([]);
      answers[n - 1]?.(0n);
    }
    expect(outcomes).toHaveLength(1);
  });

  it('a long string does not pile up calls', () => {
    let n = 0;
    const source = `outs 1 "${'x'.repeat(4000)}"`;
    const { outcomes } = setUp(source, (_s, _d, _a, _z, _v, answer) => {
      n++;
      answer(0n);
    });
    expect(n).toBe(4000);
    expect(outcomes).toHaveLength(1);
  });

  it('lets others run now and then', () => {
    const { outcomes, timers } = setUp('repeat 5000 { outb 1 2 }', (_s, _d, _a, _z, _v, answer) => answer(0n));
    expect(outcomes).toEqual([]);
    let turns = 0;
    for (let then = timers.shift(); then; then = timers.shift()) {
      turns++;
      then();
    }
    expect(turns).toBe(2); // 5000 accesses and 5000 ends of a round
    expect(outcomes).toHaveLength(1);
  });

  it('ends with what the guest throws', () => {
    const { outcomes, results } = setUp('memread 0 1; inb 1', () => expect.fail('not reached'));
    expect(outcomes).toEqual([{ error: new Error('no memory there') }]);
    expect(results).toEqual([]);
  });

  it('ends once when it is made to fail, and ignores the answer that is still to come', () => {
    let late: ((value: bigint) => void) | undefined;
    let nrAccesses = 0;
    const { playing, outcomes, results } = setUp('cfgread 00:00.0 0 4; inb 1 == 1', (_s, _d, _a, _z, _v, answer) => {
      nrAccesses++;
      late = answer;
    });
    const gone = new Error('the domain is gone');
    playing.fail(gone);
    playing.fail(new Error('again'));
    late?.(0n);
    expect(outcomes).toEqual([{ error: gone }]);
    expect([results.length, nrAccesses]).toEqual([0, 1]);
  });
});
