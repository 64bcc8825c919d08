/** Every example of docs/io-player.md, played on the built-in devices. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parseScript } from '../../../dist/io-player/parse.js';
import { resultObject, resultText } from '../../../dist/io-player/report.js';
import { type Result, runScript } from '../../../dist/io-player/run.js';
import { machineGuest } from './machine-guest.js';

const text = readFileSync(new URL('../../../docs/io-player.md', import.meta.url), 'utf8');
const EXAMPLE = /```io\n([\s\S]*?)```\n```(output|error|json)\n([\s\S]*?)```/g;
const examples = [...text.matchAll(EXAMPLE)].map(([, script, kind, expected]) => ({
  script: script as string,
  kind: kind as string,
  expected: (expected as string).trimEnd().split('\n'),
}));

async function play(script: string): Promise<{ results: Result[]; serial: string }> {
  const { guest, serial } = machineGuest();
  const results: Result[] = [];
  let now = 0;
  await runScript(parseScript(script), guest, {
    onResult: (result) => results.push(result),
    sleep: async (ms) => {
      now += ms;
    },
    now: () => now,
  });
  return { results, serial: String.fromCharCode(...serial) };
}

describe('docs/io-player.md', () => {
  it('has its examples paired with what they print', () => {
    expect(examples.length).toBeGreaterThanOrEqual(6);
    expect(text.match(/```io\n/g)).toHaveLength(examples.length);
  });

  it.each(examples)('$kind of $script', async ({ script, kind, expected }) => {
    if (kind === 'error') {
      expect(() => parseScript(script)).toThrow(expected[0] as string);
      return;
    }
    const { results } = await play(script);
    const lines =
      kind === 'json'
        ? results.map((result) => JSON.stringify(resultObject(result)))
        : results.map((result) => resultText(result)).filter((line) => line !== undefined);
    expect(lines).toEqual(expected);
  });

  it('the examples reach the serial port', async () => {
    expect((await play(examples[0]?.script as string)).serial).toBe('hello\n');
    const repeated = examples.find((e) => e.script.includes('repeat'))?.script as string;
    expect((await play(repeated)).serial).toBe('xx\nxx\n');
  });
});
