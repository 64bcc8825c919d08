/**
 * `postern xenstore …` prints what the C tools print and ends as they end: their recorded script, with the tools' names
 * standing for ours. Messages on standard error are our own. And what the C tools don't have.
 */
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { readScript, runStep } from '../conformance/xenstore-script.js';
import { requires } from '../support/requires.js';
import { type Outcome, type RunningStore, startTransport } from '../support/xenstore-transports.js';
import { CLI, until } from './harness.js';

const TOOLS = ['chmod', 'exists', 'list', 'ls', 'read', 'rm', 'watch', 'write'];

/** Commands that answer otherwise on purpose. */
const DIFFERENT: Readonly<Record<string, string>> = {
  'xenstore-ls -x /t/c': 'an option that does not exist is refused, not passed over',
};

const terminal = requires({
  commands: ['script', 'stty', '/usr/bin/xenstore-ls'],
  packages: ['bsdutils', 'coreutils', 'xenstore-utils'],
});

/** Puts commands of the C tools' names in front of the PATH, which are ours. */
function standIn(store: RunningStore): void {
  const folder = store.file('bin');
  mkdirSync(folder);
  for (const name of ['xenstore', ...TOOLS.map((tool) => `xenstore-${tool}`)]) {
    const path = `${folder}/${name}`;
    writeFileSync(path, `#!/bin/sh\nexec '${process.execPath}' '${CLI}' ${name.replace('-', ' ')} "$@"\n`);
    chmodSync(path, 0o755);
  }
  store.env.PATH = `${folder}:${process.env.PATH}`;
}

/** Without what was said on standard error. */
const printed = (command: string, answer: readonly string[]): string =>
  [`$ ${command}`, ...answer.filter((line) => !line.startsWith('!'))].join('\n');

describe('postern xenstore', () => {
  let store: RunningStore;

  beforeAll(async () => {
    store = await startTransport('postern');
    standIn(store);
  });

  afterAll(async () => {
    await store?.close();
  });

  const postern = (...args: string[]): Promise<Outcome> => store.run(['xenstore', ...args]);
  const json = async (...args: string[]): Promise<unknown[]> => {
    const { stdout } = await postern(...args, '--json');
    const lines = Buffer.from(stdout, 'latin1').toString().split('\n').filter(Boolean);
    return lines.map((line) => JSON.parse(line) as unknown);
  };

  it('answers as the C tools do', async () => {
    const steps = readScript().filter(({ command }) => DIFFERENT[command] === undefined);
    const ours: string[] = [];
    for (const { command } of steps) ours.push(printed(command, await runStep(store, command)));
    expect(ours).toEqual(steps.map(({ command, answer }) => printed(command, answer)));
    expect(steps.length).toBeGreaterThan(50);
  }, 400_000); // a hundred processes, one after the other

  it('differs on purpose only where it still does', async () => {
    for (const command of Object.keys(DIFFERENT)) {
      const step = readScript().find((each) => each.command === command);
      expect(printed(command, await runStep(store, command))).not.toBe(printed(command, step?.answer ?? []));
    }
  });

  it.skipIf(!terminal.ok)(terminal.named('cuts off what is wider than the terminal, as xenstore-ls does'), async () => {
    const deep = Array.from({ length: 12 }, (_, i) => `a-name-of-level-${i}`).join('/');
    await store.run([
      'xenstore-write',
      `/w/${deep}`,
      'x'.repeat(90),
      '/w/long',
      '0123456789'.repeat(9),
      '/w/short',
      '1',
    ]);
    for (const columns of [14, 33, 70, 150]) {
      // Not -f: there we cut off nothing, as the tool's manual says it, while the tool does on a terminal.
      for (const options of ['', '-p']) {
        const looks = ['/usr/bin/xenstore-ls', 'xenstore-ls'].map((tool) =>
          store.run(['script', '-qec', `stty cols ${columns}; exec ${tool} ${options} /w`, '/dev/null']),
        );
        const [theirs, ours] = await Promise.all(looks);
        expect(ours, `${columns} columns, ${options}`).toEqual(theirs);
      }
    }
  });

  it('prints JSON', async () => {
    expect(await json('write', '/j/a', 'x', '/j/b', '\\xff')).toEqual([{ written: ['/j/a', '/j/b'] }]);
    expect(await json('mkdir', '/j/ü', '/j/c')).toEqual([]);
    expect(await json('mkdir', '/j/c')).toEqual([{ made: ['/j/c'] }]);
    expect(await json('read', '/j/a', '/j/b')).toEqual([
      { path: '/j/a', value: 'x' },
      { path: '/j/b', base64: '/w==' },
    ]);
    expect(await json('list', '/j')).toEqual([{ path: '/j', children: ['a', 'b', 'c'] }]);
    expect(await json('exists', '/j/a', '/j/z')).toEqual([
      { path: '/j/a', exists: true },
      { path: '/j/z', exists: false },
    ]);
    expect(await json('chmod', '/j/c', 'r0', 'b1')).toEqual([{ path: '/j/c', permissions: ['r0', 'b1'] }]);
    expect(await json('ls', '/j')).toEqual([
      {
        path: '/j',
        value: '',
        permissions: ['n0'],
        children: [
          { path: '/j/a', value: 'x', permissions: ['n0'], children: [] },
          { path: '/j/b', base64: '/w==', permissions: ['n0'], children: [] },
          { path: '/j/c', value: '', permissions: ['r0', 'b1'], children: [] },
        ],
      },
    ]);
    expect(await json('watch', '-n', '1', '/j')).toEqual([{ watched: '/j', path: '/j' }]);
    expect(await json('control', 'help')).toEqual([{ reply: expect.stringContaining('quota') }]);
    expect(await json('rm', '/j')).toEqual([{ removed: ['/j'] }]);
  });

  it('gives the administrator his commands', async () => {
    expect(await postern('control', 'quota', 'set', 'nodes', '900')).toMatchObject({ status: 0, stdout: 'OK\n' });
    expect((await postern('control', 'quota')).stdout).toMatch(/nodes +: +900 Nodes per domain/);
    const refused = await postern('control', 'no-such-command');
    expect([refused.status, refused.stdout]).toEqual([3, '']);
    expect(refused.stderr).toContain('quota-soft');
  });

  it('says what to do where there is no daemon', async () => {
    const { status, stdout, stderr } = await postern('ls', '--socket', store.file('nobody'));
    expect([status, stdout]).toEqual([1, '']);
    expect(stderr).toContain(`${store.file('nobody')}: not there`);
    expect(stderr).toContain('postern xenstored --socket');
    expect((await postern('ls', '--socket', '/a', '--host', '/b')).stderr).toContain('--socket or --host, not both');
  });

  it('says what is wrong with a command line', async () => {
    const cases: [string[], string][] = [
      [['write', '/a'], 'no value for /a'],
      [['chmod', '/a', 'q1'], "'q1': a mode is n, r, w or b and a domid"],
      [['watch', '-n', 'many', '/a'], 'a whole number from'],
      [['read'], "missing required argument 'key'"],
      [['read', '/no/such/node'], 'read /no/such/node: ENOENT (there is no such node)'],
    ];
    for (const [args, message] of cases) {
      const { status, stderr } = await postern(...args);
      expect([status, stderr]).toEqual([1, expect.stringContaining(message)]);
    }
  });

  it('ends with the daemon, and says so', async () => {
    const file = store.file('watched');
    const watching = store.run(['sh', '-c', `exec xenstore watch /t > ${file}`]);
    await until('the watch has fired', () => existsSync(file) && readFileSync(file, 'utf8') === '/t\n', 60_000);
    await store.stopDaemons();
    const { status, stderr } = await watching;
    expect(status).toBe(1);
    expect(stderr).toContain('the connection to');
  });
});
