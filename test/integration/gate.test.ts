/**
 * The gate as it runs: `postern gate` as a process of its own before a daemon's socket and before /dev/xen/xenbus, with
 * unmodified C programs and with a hostile client behind it; and QEMU in `postern run`, which is behind one by default.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';

import { Host } from '../../dist/host/host.js';
import { nativeLibrary } from '../../dist/host/native-library.js';
import { findQemu, startQemu, VIDEO_MIB } from '../../dist/toolstack/qemu.js';
import { requires } from '../support/requires.js';
import { GateClient } from './gate-client.js';
import { StoreDaemon } from './gate-store.js';
import { postern, QEMU, Run, traceRecords, until } from './harness.js';

const C_TOOLS = requires({ commands: ['xenstore-ls', 'xenstore-watch'], packages: ['xenstore-utils'] });
const TEST_XENSTORE = requires({ commands: ['/usr/lib/xen-4.17/bin/test-xenstore'], packages: ['xen-utils-4.17'] });

const cleanUps: (() => void | Promise<void>)[] = [];
afterEach(async () => {
  for (const clean of cleanUps.splice(0).reverse()) await clean();
});

function directory(): string {
  const path = mkdtempSync(join(tmpdir(), 'postern-test-gate-'));
  cleanUps.push(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

async function daemon(path: string): Promise<StoreDaemon> {
  const store = await StoreDaemon.start(path);
  cleanUps.push(() => store.stop());
  return store;
}

/** A gate that is up. */
async function gate(args: readonly string[]): Promise<Run> {
  const run = new Run(['gate', ...args, '--json']);
  cleanUps.push(() => run.clean());
  await run.says('"socket"');
  return run;
}

async function client(path: string): Promise<GateClient> {
  const connected = await GateClient.connect(path);
  cleanUps.push(() => connected.close());
  return connected;
}

/** Runs a C program of XenStore's. */
async function run(
  xenstored: string,
  command: string,
  ...args: string[]
): Promise<{ status: number | null; out: string }> {
  const child = spawn(command, args, { env: { ...process.env, XENSTORED_PATH: xenstored } });
  let out = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      out += text;
    });
  }
  const limit = setTimeout(() => child.kill('SIGKILL'), 60_000);
  const [status] = (await once(child, 'close')) as [number | null];
  clearTimeout(limit);
  return { status, out };
}

/** Everything that is not the device model's. */
const FORBIDDEN: [string, string][] = [
  ['READ', '/local/domain/2/name|'],
  ['READ', '/local/domain/1/name|'],
  ['WRITE', '/local/domain/2/name|x'],
  ['WRITE', '/tool/x|x'],
  ['MKDIR', 'device-model/2/backends/console|'],
  ['RM', '/local|'],
  ['DIRECTORY', '/local/domain|'],
  ['GET_PERMS', '/tool|'],
  ['SET_PERMS', 'device-model/1/backends/console|b1|'],
  ['SET_PERMS', '@releaseDomain|r1|'],
  ['WATCH', '/|t|'],
  ['WATCH', '@releaseDomain|t|'],
  ['WATCH', '@introduceDomain|t|'],
  ['WATCH', 'backend/console/2|t|'],
  ['IS_DOMAIN_INTRODUCED', '2|'],
  ['INTRODUCE', '2|1|1|'],
  ['RELEASE', '2|'],
  ['RESUME', '2|'],
  ['SET_TARGET', '1|2|'],
  ['RESTRICT', '2|'],
  ['CONTROL', 'check|'],
  ['GET_QUOTA', '|'],
  ['SET_QUOTA', 'nodes|0|'],
  ['GET_FEATURE', '|'],
  ['SET_FEATURE', '1|1|'],
];

async function expectConfined(path: string, trace: string): Promise<void> {
  const hostile = await client(path);
  for (const [type, payload] of FORBIDDEN)
    expect(await hostile.ask(type, payload), `${type} ${payload}`).toBe('EACCES');
  await until('the trace is written', () => denials(trace).length >= FORBIDDEN.length);
  expect(denials(trace).map(({ operation }) => operation)).toEqual(FORBIDDEN.map(([type]) => type));
  for (const { errno, reason } of denials(trace)) {
    expect(errno).toBe('EACCES');
    expect(reason).toMatch(/(^|: )no rule |is not for clients of a gate$|are not for clients$/);
  }
  expect(await hostile.ask('READ', 'domid|')).toBe('ENOENT'); // it goes on being served
}

function denials(trace: string): Record<string, unknown>[] {
  return traceRecords(trace).filter(({ verdict }) => verdict === 'denied' || verdict === 'refused');
}

describe('postern gate', () => {
  it('confines its client, before the socket of a daemon', async () => {
    const home = directory();
    const store = await daemon(join(home, 'store'));
    store.write('/local/domain/2/name', 'secret');
    const path = join(home, 'gate');
    const trace = join(home, 'trace');
    const running = await gate(['--domid', '1', '--socket', path, '--upstream', store.path, '--trace', trace]);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await expectConfined(path, trace);
    running.child.kill('SIGTERM');
    const { status, stdout } = await running.ended;
    expect(status).toBe(0);
    const counts = JSON.parse(stdout.trim().split('\n').at(-1) as string) as { denied: number; granted: number };
    expect(counts).toMatchObject({ denied: FORBIDDEN.length, granted: 1 });
    expect(() => statSync(path)).toThrow();
  });

  it('confines its client, before /dev/xen/xenbus', async () => {
    const home = directory();
    const host = new Run(['host', '--socket', join(home, 'host')]);
    cleanUps.push(() => host.clean());
    await host.says('host is up');
    const path = join(home, 'gate');
    const trace = join(home, 'trace');
    await gate(['--domid', '1', '--socket', path, '--host', join(home, 'host'), '--trace', trace]);
    await expectConfined(path, trace);
    const allowed = await client(path);
    expect(await allowed.ask('WATCH', 'backend/console/1|t|')).toBe('OK|');
    expect(await allowed.nextEvent()).toBe('backend/console/1|t|');
    // the node above is the toolstack's to make
    expect(await allowed.ask('MKDIR', 'device-model/1/backends/vkbd|')).toBe('EACCES');
  });

  it.skipIf(!C_TOOLS.ok)(C_TOOLS.named('takes C programs for what they are'), async () => {
    const home = directory();
    const store = await daemon(join(home, 'store'));
    const all = join(home, 'all');
    const confined = join(home, 'confined');
    await gate(['--socket', all, '--upstream', store.path, '--policy', 'every-path']);
    await gate(['--socket', confined, '--upstream', store.path]);
    expect(await run(all, 'xenstore-write', 'a/b', 'hello', '/x', 'y')).toEqual({ status: 0, out: '' });
    expect(await run(all, 'xenstore-read', '/local/domain/0/a/b')).toEqual({ status: 0, out: 'hello\n' });
    expect(await run(all, 'xenstore-chmod', '/x', 'n0', 'r1')).toEqual({ status: 0, out: '' });
    expect((await run(all, 'xenstore-ls', '-p', '/x')).status).toBe(0);
    for (const path of ['/', '/local']) {
      expect(await run(all, 'xenstore-ls', '-f', '-p', path)).toEqual(
        await run(store.path, 'xenstore-ls', '-f', '-p', path),
      );
    }
    expect(await run(all, 'xenstore-watch', '-n', '1', '/x')).toEqual({ status: 0, out: '/x\n' });
    expect(await run(all, 'xenstore-rm', '/x')).toEqual({ status: 0, out: '' });
    const refused = await run(confined, 'xenstore-ls');
    expect(refused.status).not.toBe(0);
    expect(refused.out).toContain('Permission denied');
    expect((await run(confined, 'xenstore-read', '/local/domain/0/a/b')).status).not.toBe(0);
  });

  it.skipIf(!TEST_XENSTORE.ok)(TEST_XENSTORE.named('passes test-xenstore'), async () => {
    const home = directory();
    const store = await daemon(join(home, 'store'));
    const path = join(home, 'gate');
    await gate(['--socket', path, '--upstream', store.path, '--policy', 'every-path']);
    const { status, out } = await run(path, '/usr/lib/xen-4.17/bin/test-xenstore', '-i', '20');
    expect(out).not.toMatch(/fail|error [^:]/i);
    expect(out.split('\n').filter((line) => line.includes('avg:')).length).toBeGreaterThanOrEqual(12);
    expect(status).toBe(0);
    expect(store.check()).toEqual([]);
  });

  it('leaves nothing upstream when its client is killed, and when it is killed itself', async () => {
    const home = directory();
    const store = await daemon(join(home, 'store'));
    store.write('/local/domain/0/device-model/1', '');
    const path = join(home, 'gate');
    const running = await gate(['--socket', path, '--upstream', store.path]);
    const before = store.counts();
    const first = await client(path);
    const second = await client(path);
    for (const each of [first, second]) {
      expect(await each.ask('WATCH', 'backend/console/1|t|')).toBe('OK|');
      expect(await each.ask('TRANSACTION_START', '|')).toMatch(/^\d+\|$/);
    }
    expect(store.counts()).toEqual({ ...before, connections: 2, watches: 2, transactions: 2 });
    first.close();
    await until('the first is gone', () => store.counts().watches === 1);
    expect(store.counts()).toEqual({ ...before, connections: 1, watches: 1, transactions: 1 });
    running.child.kill('SIGKILL');
    await until('the gate is gone', () => store.counts().connections === 0);
    expect(store.counts()).toEqual(before);
    expect(store.check()).toEqual([]);
    // another one takes the socket over that the killed one has left
    await gate(['--socket', path, '--upstream', store.path]);
    expect(await (await client(path)).ask('READ', 'domid|')).toBe('ENOENT');
  });

  it('survives the end of the daemon: watches are set again, requests wait, transactions fail at their end', async () => {
    const home = directory();
    const path = join(home, 'gate');
    const before = await StoreDaemon.start(join(home, 'store'));
    cleanUps.push(() => before.stop());
    const running = await gate(['--socket', path, '--upstream', before.path, '--policy', 'every-path']);
    const watcher = await client(path);
    expect(await watcher.ask('WATCH', '/x|token|')).toBe('OK|');
    expect(await watcher.nextEvent()).toBe('/x|token|');
    const id = Number.parseInt(await watcher.ask('TRANSACTION_START', '|'), 10);
    expect(await watcher.ask('WRITE', '/x|lost', id)).toBe('OK|');
    await before.stop();
    const waiting = watcher.ask('READ', '/x|');
    const after = await daemon(join(home, 'store'));
    after.write('/x', 'new');
    expect(['new', 'ENOENT']).toContain(await waiting);
    expect(await watcher.nextEvent()).toBe('/x|token|');
    expect(await watcher.ask('WRITE', '/x|again', id)).toBe('OK|');
    expect(await watcher.ask('TRANSACTION_END', 'T|', id)).toBe('EAGAIN');
    expect(await watcher.ask('READ', '/x|')).toBe('new');
    after.write('/x', '2');
    expect(await watcher.nextEvent()).toBe('/x|token|');
    expect(running.hasEnded).toBe(false);
  });

  it('is not held up by a client that does not read', async () => {
    const home = directory();
    const store = await daemon(join(home, 'store'));
    store.write('/big', 'x'.repeat(4000));
    const path = join(home, 'gate');
    await gate(['--socket', path, '--upstream', store.path, '--policy', 'every-path']);
    const lazy = await client(path);
    lazy.pause();
    for (let i = 0; i < 2000; i++) lazy.send('READ', '/big|');
    const other = await client(path);
    for (let i = 0; i < 20; i++) expect(await other.ask('READ', '/big|')).toHaveLength(4000);
    lazy.close();
    await until('it is gone upstream', () => store.counts().connections === 1);
  });

  it('says what is wrong', async () => {
    const home = directory();
    const bad = join(home, 'bad.json');
    writeFileSync(bad, '{"name": "x", "grants": [{"paths": ["/a"], "rights": ["raed"]}]}');
    writeFileSync(join(home, 'file'), '');
    const cases: [string[], RegExp][] = [
      [
        ['--socket', join(home, 'g'), '--upstream', join(home, 'nobody')],
        /there is no XenStore at .*nobody .*--upstream PATH/,
      ],
      [['--socket', join(home, 'g'), '--policy', bad], /bad\.json: grants\[0\]\.rights\[0\]: there is no right "raed"/],
      [['--socket', join(home, 'g'), '--policy', 'nothing'], /no policy nothing: none of device-model, every-path/],
      [['--domid', '1'], /--socket is needed/],
      [['--explain', '//x'], /"\/\/x" is no path/],
    ];
    for (const [args, message] of cases) {
      const { status, stderr } = await postern(['gate', ...args]);
      expect(stderr).toMatch(message);
      expect(stderr).not.toMatch(/^ +at /m);
      expect(status).toBe(1);
    }
  });

  it('explains, lists and shows policies', async () => {
    const list = await postern(['gate', '--list', '--json']);
    expect((JSON.parse(list.stdout) as { name: string }[]).map(({ name }) => name)).toEqual([
      'device-model',
      'every-path',
    ]);
    const shown = await postern(['gate', '--show']);
    const home = directory();
    const copy = join(home, 'copy.json');
    writeFileSync(copy, shown.stdout);
    const [by, from] = await Promise.all(
      [['--policy', copy], []].map((policy) =>
        postern(['gate', '--explain', 'backend/vkbd/7', '--domid', '7', '--json', ...policy]),
      ),
    );
    expect(from?.stdout).toBe(by?.stdout);
    const { path, rights } = JSON.parse(from?.stdout as string) as {
      path: string;
      rights: { right: string; by: object[] }[];
    };
    expect(path).toBe('/local/domain/0/backend/vkbd/7');
    expect(rights.filter(({ by: rules }) => rules.length > 0).map(({ right }) => right)).toEqual(['list', 'watch']);
    const text = await postern(['gate', '--explain', '/tool']);
    expect(text.stdout).toContain('EACCES: no rule grants it');
    expect(text.stdout).toContain('never, by any policy: CONTROL');
  });
});

describe.skipIf(!QEMU.ok)(QEMU.named('QEMU in postern run'), () => {
  /** What QEMU asks, by the notes of its traffic: nothing else may be granted, and nothing may be refused. */
  const ASKED = [
    'READ /local/domain/0/domid',
    'WATCH /local/domain/0/backend/qdisk/1',
    ...['console', 'vkbd', '9pfs', 'qusb'].flatMap((kind) => [
      `MKDIR /local/domain/0/device-model/1/backends/${kind}`,
      `SET_PERMS /local/domain/0/device-model/1/backends/${kind}`,
      `WATCH /local/domain/0/backend/${kind}/1`,
      `DIRECTORY /local/domain/0/backend/${kind}/1`,
    ]),
  ];

  it('comes up behind the gate, with only what it needs', async () => {
    const home = directory();
    const trace = join(home, 'trace');
    const { status, stdout, stderr } = await postern(['run', '--seconds', '1', '--json', '--trace', trace]);
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const report = JSON.parse(stdout) as { restricted: boolean; gate: Record<string, unknown> };
    expect(report.restricted).toBe(true);
    expect(report.gate).toMatchObject({
      policy: 'device-model',
      granted: ASKED.length,
      denied: 0,
      connections: 0,
      watches: 0,
    });
    const granted = traceRecords(trace).filter(({ device }) => device === 'gate');
    expect(granted.map(({ operation, reason }) => `${operation} ${reason}`).sort()).toEqual([...ASKED].sort());
  });

  it('shares the socket with nobody who could do more', async () => {
    const running = new Run(['run', '--trace', 'HOME/trace']);
    cleanUps.push(() => running.clean());
    await running.says('running');
    expect(running.stdout).toMatch(/xenstore +behind a gate, policy device-model: 18 requests granted, 0 denied/);
    const socket = /serves \/dev\/xen at (\S+)\/host/.exec(running.stdout)?.[1] as string;
    const trace = join(running.home, 'trace');
    await expectConfined(join(socket, 'xenstore-1'), trace);
    expect(readFileSync(trace, 'utf8')).toContain('no rule grants read');
    running.child.kill('SIGINT');
    const { stdout } = await running.ended;
    expect(stdout).toMatch(/XenStore: 19 requests granted, 25 denied/);
    expect(running.remains()).toEqual([]);
  });

  it.each(['the socket of a daemon', '/dev/xen/xenbus'])(
    'comes up behind a gate of its own before %s',
    async (upstream) => {
      const home = directory();
      const host = await Host.start({
        domains: [{ kind: 'hvm', memoryMiB: 48, vcpus: 1, deviceMiB: VIDEO_MIB, introduced: true }],
      });
      cleanUps.push(() => host.close());
      const tool = await client(host.xenstorePath);
      expect(await tool.ask('MKDIR', 'device-model/1|')).toBe('OK|');
      expect(await tool.ask('WRITE', '/local/domain/2/name|secret')).toBe('OK|');
      const path = join(home, 'gate');
      const trace = join(home, 'trace');
      const way = upstream.startsWith('/dev') ? ['--host', host.socketPath] : ['--upstream', host.xenstorePath];
      const running = await gate(['--domid', '1', '--socket', path, '--trace', trace, ...way]);
      const qemu = await startQemu({
        binary: (await findQemu()) as string,
        domid: 1,
        name: 'gated',
        memoryMiB: 48,
        directory: host.directory,
        environment: { ...host.environment(await nativeLibrary()), XENSTORED_PATH: path },
        onMessage: () => {},
      });
      cleanUps.push(() => qemu.stop());
      const asked = () => traceRecords(trace).filter(({ verdict }) => verdict === 'granted');
      await until('QEMU has asked for everything', () => asked().length >= ASKED.length);
      expect(
        asked()
          .map(({ operation, path: what }) => `${operation} ${what}`)
          .sort(),
      ).toEqual([...ASKED].sort());
      expect(denials(trace)).toEqual([]);
      expect(await tool.ask('DIRECTORY', 'device-model/1/backends|')).toBe('console|vkbd|9pfs|qusb|');
      await expectConfined(path, trace);
      running.child.kill('SIGTERM');
      expect((await running.ended).status).toBe(0);
    },
  );

  it('has all of XenStore where that is asked for', async () => {
    const { stdout, status } = await postern(['run', '--seconds', '1', '--json', '--no-gate']);
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ restricted: true, gate: null });
  });
});
