// Streams exchanged with Debian's C xenstored: its dump restored here, ours restored there.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { libc, SOCK_STREAM } from '../../dist/host/libc.js';
import { acceptUnix, connectUnix, listenUnix } from '../../dist/host/unix-socket.js';
import { dump } from '../../dist/xenstore/migration/dump.js';
import { Restorer } from '../../dist/xenstore/migration/restore.js';
import { message, T, WireClient } from '../integration/xenstored-client.js';
import { compileLibrary } from '../support/compile-c.js';
import { requires } from '../support/requires.js';
import { Client, show, World } from '../unit/xenstore/harness.js';

const C_XENSTORED = '/usr/lib/xen-4.17/bin/xenstored';
const XENSTORE_LS = '/usr/bin/xenstore-ls';
const NEEDS = requires({
  commands: ['cc', C_XENSTORED, XENSTORE_LS],
  files: ['/usr/include/xenctrl.h'],
  packages: ['gcc', 'libc6-dev', 'libxen-dev', 'xenstore-utils', 'xen-utils-4.17'],
});

/** The tree as `xenstore-ls -f -p` shows it, sorted. */
function listing(path: string): string[] {
  const ran = spawnSync(XENSTORE_LS, ['-f', '-p'], {
    env: { ...process.env, XENSTORED_PATH: path },
    encoding: 'utf8',
  });
  expect(ran.stderr).toBe('');
  return ran.stdout.trim().split('\n').sort();
}

/** Likewise, of a server in this process. */
function listingOf({ server }: World): string[] {
  const { arena, store } = server;
  const rows = [...store.table].filter((node) => node.death === 0 && node !== store.root);
  return rows
    .map((n) => {
      const perms = String.fromCharCode(...n.perms.text)
        .split('\0')
        .slice(0, -1)
        .join(',');
      return `${arena.text(n.pathRef, n.pathLength)} = "${arena.text(n.valueRef, n.valueLength)}"   (${perms})`;
    })
    .sort();
}

function plain(row: string): string {
  return row.replace(/\s*\.*\s*\(/, ' (').replace(/" +\(/, '" (');
}

describe.skipIf(!NEEDS.ok)(NEEDS.named('with C xenstored 4.17'), () => {
  let home: string;
  let socketPath: string;
  let child: ChildProcess | null = null;
  const clients: WireClient[] = [];

  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), 'postern-stream-'));
    socketPath = join(home, 'socket');
  });
  afterEach(async () => {
    for (const client of clients.splice(0)) client.close();
    if (child !== null && child.exitCode === null && child.signalCode === null) {
      const closed = once(child, 'close');
      child.kill('SIGKILL');
      await closed;
    }
    child = null;
    rmSync(home, { recursive: true });
  });

  /** @param inherit descriptors it finds from 3 on */
  function startC(args: readonly string[], inherit: readonly number[] = []): () => string {
    const source = fileURLToPath(new URL('../../test/bench/c/xenstored-alone.c', import.meta.url));
    const { ok, path, messages } = compileLibrary(source, 'xenstored-alone.so');
    expect(ok, messages).toBe(true);
    let output = '';
    const started = spawn(C_XENSTORED, ['-N', '-I', '--pid-file', join(home, 'pid'), ...args], {
      stdio: ['ignore', 'pipe', 'pipe', ...inherit],
      env: { ...process.env, LD_PRELOAD: path, XENSTORED_RUNDIR: home, XENSTORED_ROOTDIR: home },
    });
    for (const stream of [started.stdout, started.stderr]) {
      stream?.on('data', (text: Buffer) => {
        output += text.toString();
      });
    }
    child = started;
    return () => output;
  }

  async function client(): Promise<WireClient> {
    for (;;) {
      const socket = connect(socketPath);
      const open = await once(socket, 'connect').then(
        () => true,
        () => false,
      );
      if (!open) {
        await sleep(20);
        continue;
      }
      const made = new WireClient(socket);
      clients.push(made);
      return made;
    }
  }

  it('its dump is taken: tree, permissions, watches, half a request', async () => {
    startC([]);
    const admin = await client();
    const half = await client();
    await admin.ask(T.WRITE, '/a/b\0value');
    await admin.ask(14, '/a/b\0n0\0r5\0b7\0');
    await admin.ask(T.WRITE, '/a/c\0');
    await admin.ask(14, '@releaseDomain\0n0\0r0\0');
    await admin.ask(T.WATCH, '/a\0token 1\0');
    await admin.ask(T.WATCH, 'relative\0token 2\0');
    half.socket.write(message(T.WRITE, '/half\0done', 9, 0).subarray(0, 20));
    await sleep(50);
    const before = listing(socketPath).map(plain);
    const copy = join(home, 'copy');
    writeFileSync(copy, `#!/bin/sh\ncp ${home}/state_dump ${home}/taken.part\nmv ${home}/taken.part ${home}/taken\n`, {
      mode: 0o755,
    });
    expect(await admin.ask(T.CONTROL, `live-update\0-f\0${copy}\0`)).toBe('OK\0');
    void admin.ask(T.CONTROL, 'live-update\0-s\0').catch(() => {});
    while (!existsSync(join(home, 'taken'))) await sleep(10);
    // Whom `xenstore-ls` was has gone before; domids 5 and 7 don't exist there.
    const world = new World({ domainExists: (domid) => domid === 0 });
    world.tool.connection.close();
    const restorer = new Restorer(world.server);
    restorer.stream(readFileSync(join(home, 'taken')));
    const restored: Client[] = [];
    restorer.finish({
      socket: () => {
        const made = new Client(world.server, { domid: 0 });
        restored.push(made);
        return made.connection;
      },
    });
    expect(world.server.check()).toEqual([]);
    expect(listingOf(world).map(plain)).toEqual(before);
    expect(restorer.global?.socketFd).toBeGreaterThan(2);
    const [first, second] = restored as [Client, Client];
    // Watches are handed over, and so is the OK for the one who asked.
    expect(first.take().map(show)).toEqual(['CONTROL OK|']);
    second.connection.receive(message(T.WRITE, '/half\0done', 9, 0).subarray(20));
    expect(second.take().map(show)).toEqual(['WRITE OK|']);
    second.ask('WRITE', '/a/d|x');
    second.ask('WRITE', 'relative/e|x');
    expect(first.events()).toEqual(['/a/d token 1', 'relative/e token 2']);
    expect(second.ask('GET_PERMS', '@releaseDomain|')).toBe('EINVAL');
  });

  it('ours is taken: tree, permissions, watches, half a request, what was not sent', async () => {
    const world = new World();
    // C xenstored makes its store with the first ring: dom0's.
    world.client(0, { kind: 'ring' });
    const { tool, server } = world;
    tool.ask('WRITE', '/a/b|value');
    tool.ask('SET_PERMS', '/a/b|n0|r5|b7|');
    tool.ask('WRITE', '/a/deep/er/still|x');
    const watcher = world.client(0);
    watcher.all('WATCH', '/a|token 1|');
    watcher.all('WATCH', 'relative|token 2|');
    tool.ask('WRITE', '/a/c|not taken yet');
    watcher.connection.sent(5);
    watcher.connection.receive(message(T.WRITE, '/half\0done', 9, 0).subarray(0, 20));
    const rest = watcher.connection.output().slice();
    const path = join(home, 'socket');
    const listener = listenUnix(path, SOCK_STREAM);
    const ours = connectUnix(path, SOCK_STREAM);
    const theirs = acceptUnix(listener)?.fd as number;
    const stream = dump(server, {
      version: 1,
      global: { socketFd: 3, eventChannelFd: -1 },
      fdOf: (connection) => (connection === watcher.connection ? 4 : -1),
    });
    writeFileSync(join(home, 'state_dump'), stream);
    const output = startC(['-U'], [listener, theirs]);
    libc.close(listener);
    libc.close(theirs);
    const socket = new Socket({ fd: ours });
    const received: Buffer[] = [];
    socket.on('data', (data: Buffer) => received.push(data));
    const all = () => Buffer.concat(received);
    while (all().length < rest.length) {
      expect(child?.exitCode, output()).toBe(null);
      await sleep(10);
    }
    expect(all().subarray(0, rest.length).equals(Buffer.from(rest))).toBe(true);
    received.length = 0;
    const before = listingOf(world).map(plain);
    const after = listing(socketPath).map(plain);
    expect(after.filter((row) => !row.startsWith('/half'))).toEqual(before);
    socket.write(message(T.WRITE, '/half\0done', 9, 0).subarray(20));
    const other = await client();
    expect(await other.ask(T.WRITE, '/a/d\0x')).toBe('OK\0');
    expect(await other.ask(T.WRITE, '/local/domain/0/relative/e\0x')).toBe('OK\0');
    expect(await other.ask(T.CONTROL, 'check\0')).toBe('OK\0');
    while (all().length < 19 + 16 + 12 + 16 + 16) await sleep(10);
    const text = all().toString('latin1');
    expect(text).toContain('OK\0');
    expect(text).toContain('/a/d\0token 1\0');
    expect(text).toContain('relative/e\0token 2\0');
    expect(await other.ask(T.READ, '/half\0')).toBe('done');
    socket.destroy();
  });
});
