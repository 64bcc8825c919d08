/** `postern audit` as a program: its JSON, its exit status, and the attacks on a live host. */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, test } from 'vitest';
import { requires } from '../../support/requires.js';

const CLI = fileURLToPath(new URL('../../../dist/cli/main.js', import.meta.url));

function postern(...args: string[]) {
  return spawnSync(process.execPath, [CLI, 'audit', ...args], {
    encoding: 'utf8',
    timeout: 90_000,
    maxBuffer: 1 << 24,
  });
}

test('the product’s own scheme as JSON', () => {
  const { status, stdout } = postern('--scheme', 'array-shipped', '--json');
  expect(status).toBe(0);
  const { seed, schemes } = JSON.parse(stdout);
  expect(seed).toBe(1);
  expect(schemes).toHaveLength(1);
  const [scheme] = schemes;
  expect(scheme).toMatchObject({ id: 'array-shipped', product: true, blocks: { kernel: 15, hypervisor: 1 } });
  expect(scheme.cost.nsPerCall).toBeGreaterThan(0);
  expect(scheme.attacks.length).toBeGreaterThanOrEqual(40);
  for (const one of scheme.attacks) expect(one).toMatchObject({ blocked: true, reason: expect.stringMatching(/./) });
});

test('a proposal that isn’t the product’s may fail', () => {
  const { status, stdout } = postern('--scheme', 'approved-ranges', '--attack', 'clear-flag', '--json');
  expect(status).toBe(0);
  expect(JSON.parse(stdout).schemes[0].attacks).toMatchObject([{ id: 'clear-flag', blocked: false }]);
});

test('an attack is explained: steps, interleaving, memory hit', () => {
  const { status, stdout } = postern('--explain', 'clear-flag', '--scheme', 'approved-ranges');
  expect(status).toBe(0);
  expect(stdout).toMatch(/gets through/);
  expect(stdout).toMatch(/second thread of the attacker runs/);
  expect(stdout).toMatch(/write 64 bytes, frame \d+ \(kernel canary\)/);
  expect(postern('--explain', 'clear-flag', '--scheme', 'approved-ranges').stdout).toBe(stdout);
});

test.each([
  ['--scheme', 'nonsense'],
  ['--attack', 'nonsense'],
  ['--explain', 'nonsense'],
  ['--seed', 'x'],
])('%s %s is refused with a message', (...args) => {
  const { status, stderr } = postern(...args);
  expect(status).not.toBe(0);
  expect(stderr).toMatch(/there is no (proposal|attack) 'nonsense'; there are|whole number/);
});

const compiler = requires({ commands: ['cc'], packages: ['gcc', 'libc6-dev'] });

describe('live', () => {
  it.skipIf(!compiler.ok)('stops every attack of a restricted program, and the host is unharmed', () => {
    const { status, stdout, stderr } = postern('--live', '--json');
    const { live, harm } = JSON.parse(stdout || '{}');
    expect(harm, stderr).toEqual([]);
    expect(live.filter(({ blocked }: { blocked: boolean }) => !blocked)).toEqual([]);
    expect(live.length).toBeGreaterThanOrEqual(30);
    expect(status).toBe(0);
  });
});
