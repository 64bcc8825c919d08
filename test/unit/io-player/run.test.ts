/** Playing: order, checks, time, stopping, synchronous and asynchronous guests. */
import { describe, expect, it } from 'vitest';
import { parseScript } from '../../../dist/io-player/parse.js';
import { formatInterrupts, resultText } from '../../../dist/io-player/report.js';
import { type GuestIo, type Result, type RunOptions, runScript, type Summary } from '../../../dist/io-player/run.js';

/** A guest that logs accesses; reads give a counter. */
function logging(isAsync: boolean, read: () => bigint = () => 1n) {
  const log: string[] = [];
  const reply = <T>(value: T): T | Promise<T> => (isAsync ? Promise.resolve(value) : value);
  const guest: GuestIo = {
    access(space, direction, address, size, value) {
      log.push(`${space} ${direction} ${address.toString(16)} ${size} ${value.toString(16)}`);
      return reply(direction === 'read' ? read() : 0n);
    },
    readMemory: (_address, length) => reply(new Uint8Array(length).fill(7)),
    writeMemory(address, bytes) {
      log.push(`memory ${address.toString(16)} ${bytes.join(' ')}`);
      return reply(undefined);
    },
    interrupts: () => reply({ isa: [4], intx: [{ device: 3, pin: 1 }] }),
  };
  return { guest, log };
}

async function play(source: string, guest: GuestIo, options: Partial<RunOptions> = {}) {
  const results: Result[] = [];
  let now = 0;
  const summary: Summary = await runScript(parseScript(source), guest, {
    onResult: (result) => results.push(result),
    sleep: async (ms) => {
      now += ms;
    },
    now: () => now,
    ...options,
  });
  return { results, summary, lines: results.map((r) => resultText(r, true)), elapsed: now };
}

describe.each([
  ['synchronous', false],
  ['asynchronous', true],
] as const)('a %s guest', (_name, isAsync) => {
  it('is played in order', async () => {
    const { guest, log } = logging(isAsync);
    const source =
      'outs 1 "ab"; inb 2; repeat 2 { outw 3 4; repeat 2 { readl 5 } }; cfgread 01:02.3 0x46 2; memwrite 8 x"0102"';
    const { summary } = await play(source, guest);
    expect(log).toEqual([
      'port write 1 1 61',
      'port write 1 1 62',
      'port read 2 1 0',
      ...['port write 3 2 4', 'memory read 5 4 0', 'memory read 5 4 0'],
      ...['port write 3 2 4', 'memory read 5 4 0', 'memory read 5 4 0'],
      'port write cf8 4 80011344',
      'port read cfe 2 0',
      'memory 8 1 2',
    ]);
    expect(summary).toEqual({ nrAccesses: 11, nrChecks: 0, nrFailures: 0, stopped: false });
  });

  it('is checked, and failures do not stop it', async () => {
    const { guest } = logging(isAsync, () => 0x35n);
    const { lines, summary } = await play(
      'inb 1 == 0x35\ninb 1 & 0xf == 0x6\ninb 1 != 0x35\nmemread 0 2 == x"0707"\nmemread 0 1 == x"08"\nirq 4 == 1\nirq 5 == 1',
      guest,
    );
    expect(lines).toEqual([
      'inb 0x1 = 0x35 ok',
      'inb 0x1 = 0x35 FAILED: expected 0x6 in 0xf (line 2)',
      'inb 0x1 = 0x35 FAILED: expected anything but 0x35 (line 3)',
      'memread 0x0 2 = x"0707" ok',
      'memread 0x0 1 = x"07" FAILED: expected x"08" (line 5)',
      'irq 4 = 0x1 ok',
      'irq 5 = 0x0 FAILED: expected 0x1 (line 7)',
    ]);
    expect(summary).toMatchObject({ nrChecks: 7, nrFailures: 4, stopped: false });
  });

  it('stops at the first failure when asked', async () => {
    const { guest, log } = logging(isAsync);
    const { summary } = await play('inb 1 == 2; outb 3 4', guest, { stopAtFailure: true });
    expect(log).toHaveLength(1);
    expect(summary.stopped).toBe(true);
  });

  it('is looked at again within a time', async () => {
    let n = 0n;
    const { guest, log } = logging(isAsync, () => n++);
    const { lines, elapsed } = await play('inb 1 == 3 within 100', guest);
    expect(lines).toEqual(['inb 0x1 = 0x3 ok']);
    expect([log.length, elapsed]).toEqual([4, 3]);
    const late = await play('inb 1 == 0 within 10', guest);
    expect(late.lines[0]).toMatch(/FAILED/);
    expect(late.elapsed).toBe(10);
  });

  it('fails the run when it throws', async () => {
    const { guest } = logging(isAsync);
    guest.writeMemory = () => {
      throw new Error('no memory there');
    };
    await expect(play('memwrite 0 "x"', guest)).rejects.toThrow('no memory there');
  });
});

describe('the player', () => {
  it('does not wait between the accesses of a synchronous guest, but lets others run', async () => {
    const { guest, log } = logging(false);
    let turns = 0;
    const sleep = async (ms: number) => {
      expect(ms).toBe(0);
      turns++;
    };
    await play('repeat 10000 { outb 1 2 }', guest, { sleep });
    expect(log).toHaveLength(10000);
    expect(turns).toBeGreaterThanOrEqual(2);
    expect(turns).toBeLessThanOrEqual(6);
  });

  it.each(['repeat 1000000000 { }', 'repeat 1000000000 { repeat 1000000000 { } }', 'repeat 1000000000 { outb 1 2 }'])(
    '%s can be interrupted',
    async (source) => {
      const signal = { aborted: false };
      let turns = 0;
      const sleep = async () => {
        if (++turns === 3) signal.aborted = true;
      };
      const { summary } = await play(source, logging(false).guest, { signal, sleep });
      // An empty repeat is over at once.
      expect(summary.stopped).toBe(source !== 'repeat 1000000000 { }');
    },
  );

  it('repeats nothing where the count is 0', async () => {
    const { guest, log } = logging(false);
    await play('repeat 0 { outb 1 2 }; repeat 3 { repeat 0 { outb 3 4 } }', guest);
    expect(log).toEqual([]);
  });

  it('sleeps and prints', async () => {
    const { lines, elapsed } = await play('print "a\\tb"\nsleep 250', logging(false).guest);
    expect(lines).toEqual(['a\tb', 'sleep 250']);
    expect(elapsed).toBe(250);
  });

  it.each([
    [{ isa: [], intx: [] }, 'none'],
    [{ isa: [1, 15], intx: [] }, 'ISA 1 15'],
    [{ isa: [4], intx: [{ device: 31, pin: 3 }] }, 'ISA 4, 00:1f INTD'],
  ])('shows interrupt lines %j as %s', (state, text) => {
    expect(formatInterrupts(state)).toBe(text);
  });
});
