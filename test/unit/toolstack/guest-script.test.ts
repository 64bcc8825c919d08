/** The scripts that `postern run` plays: correct, bounded, and worth something to a device model. */
import { describe, expect, it } from 'vitest';
import { parseScript } from '../../../dist/io-player/parse.js';
import { type GuestIo, runScript } from '../../../dist/io-player/run.js';
import { LOOP_SCRIPT, START_SCRIPT } from '../../../dist/toolstack/guest-script.js';

async function accesses(source: string): Promise<string[]> {
  const log: string[] = [];
  const guest: GuestIo = {
    access(space, direction, address, size) {
      log.push(`${space} ${direction} ${address.toString(16)} ${size}`);
      return 0x5an; // what the scratch register gives back
    },
    readMemory: (_address, length) => new Uint8Array(length),
    writeMemory() {},
    interrupts: () => ({ isa: [], intx: [] }),
  };
  const summary = await runScript(parseScript(source), guest, { onResult() {}, sleep: async () => {}, now: () => 0 });
  expect(summary.nrFailures).toBe(0);
  return log;
}

describe.each([
  ['START_SCRIPT', START_SCRIPT],
  ['LOOP_SCRIPT', LOOP_SCRIPT],
])('%s', (_name, source) => {
  it('parses, and ends after a few accesses, without waiting', async () => {
    const log = await accesses(source);
    expect(log.length).toBeGreaterThan(4);
    expect(log.length).toBeLessThan(100);
  });

  it('reads as well as writes', async () => {
    const log = await accesses(source);
    for (const direction of ['read', 'write']) expect(log.some((line) => line.includes(direction))).toBe(true);
  });
});

it('the start sets the serial port up as firmware does', async () => {
  const uart = (await accesses(START_SCRIPT)).filter((line) => /write 3f[89ab] 1$/.test(line));
  expect(uart.map((line) => line.split(' ')[2])).toEqual(['3fb', '3f8', '3f9', '3fb', '3fa']);
});
