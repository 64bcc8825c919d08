/**
 * dom0's xenbus device with unmodified C programs: over it they say the same as over the daemon's socket, whoever the
 * daemon is. And what it cannot do: keep a restriction to the client that asked for it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { nativeLibrary } from '../../dist/host/native-library.js';
import { requires } from '../support/requires.js';
import { CLI, type Ended, postern, program, Run, until } from './harness.js';

const XENBUS = '/dev/xen/xenbus';
const TEST_XENSTORE = '/usr/lib/xen-4.17/bin/test-xenstore';
const C_XENSTORED = '/usr/sbin/xenstored';
const tools = requires({
  commands: ['cc', 'xenstore-ls', TEST_XENSTORE, C_XENSTORED],
  packages: ['gcc', 'libc6-dev', 'xenstore-utils', 'xen-utils-4.17'],
});

const READ = 2;
const TRANSACTION_START = 6;
const TRANSACTION_END = 7;
const IS_INTRODUCED = 17;
const RESTRICT = 20;

/** A host, and perhaps a daemon of its own for it. */
class Dom0 {
  readonly folder = mkdtempSync(join(tmpdir(), 'postern-xenbus-'));
  readonly socket = join(this.folder, 'host');
  /** The daemon's own socket. */
  store = `${this.socket}.xenstored`;
  readonly host: Run;
  daemon: ChildProcess | undefined;
  daemonSaid = '';

  /** @param args the daemon's */
  constructor(
    xenstore: 'embedded' | 'external',
    private readonly args: readonly string[] = [],
  ) {
    this.host = new Run(['host', '--socket', this.socket, '--xenstore', xenstore]);
  }

  async up(): Promise<this> {
    await this.host.says('host is up');
    return this;
  }

  /** Debian's, or ours. */
  async startDaemon(kind: 'c' | 'ours'): Promise<void> {
    rmSync(this.store, { force: true });
    const library = await nativeLibrary();
    const own = kind === 'c' ? this.store : join(this.folder, 'xenstored');
    const [command, args] =
      kind === 'c'
        ? [C_XENSTORED, ['-N', ...this.args]]
        : [process.execPath, [CLI, 'xenstored', '--socket', own, '--host', this.socket, ...this.args]];
    const environment = kind === 'c' ? { LD_PRELOAD: library, POSTERN_HOST: this.socket } : {};
    this.store = own;
    this.daemon = spawn(command, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...process.env,
        ...environment,
        XENSTORED_PATH: own,
        XENSTORED_RUNDIR: this.folder,
        XENSTORED_ROOTDIR: this.folder,
      },
    });
    for (const stream of [this.daemon.stdout, this.daemon.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.daemonSaid += text;
      });
    }
    await until(`the daemon listens (${this.daemonSaid})`, () => existsSync(own), 20_000);
  }

  async endDaemon(signal: NodeJS.Signals): Promise<void> {
    const { daemon } = this;
    this.daemon = undefined;
    if (!daemon || daemon.exitCode !== null || daemon.signalCode !== null) return;
    const ended = new Promise((resolve) => daemon.once('exit', resolve));
    daemon.kill(signal);
    await ended;
  }

  /** A command of dom0's, whose store is at a path. */
  start(path: string, ...command: string[]): Run {
    return new Run(['exec', '--host', this.socket, '--', 'env', `XENSTORED_PATH=${path}`, ...command], {
      limitMs: 60_000,
    });
  }

  async run(path: string, ...command: string[]): Promise<Ended> {
    const run = this.start(path, ...command);
    run.child.stdin?.end();
    try {
      return await run.ended;
    } finally {
      await run.clean();
    }
  }

  async down(): Promise<void> {
    await this.endDaemon('SIGKILL');
    this.host.child.kill('SIGTERM');
    await this.host.ended;
    await this.host.clean();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** What a user does, with everything that comes of it. */
const SESSION = `
xenstore-write /session/a hello /session/b '' && xenstore-read /session/a
xenstore-list /session; xenstore-exists /session/none; echo $?
xenstore-read /session/none
xenstore-chmod /session/a n0 r1 && xenstore-ls -fp /session
(xenstore-watch -n 2 /session/w > w.out) & sleep 0.3; xenstore-write /session/w/x 1; wait; cat w.out
xenstore-rm /session; xenstore-ls /session
`;

function session(dom0: Dom0, path: string): Promise<Ended> {
  return dom0.run(path, 'sh', '-c', `cd ${dom0.folder}; exec 2>&1; ${SESSION}`);
}

const DAEMONS = [
  ["the host's own store", undefined],
  ["Debian's C xenstored", 'c'],
  ['postern xenstored', 'ours'],
] as const;

describe.skipIf(!tools.ok)(tools.named('C programs over /dev/xen/xenbus'), () => {
  describe.each(DAEMONS)('with %s', (_, kind) => {
    let dom0: Dom0;
    beforeAll(async () => {
      dom0 = await new Dom0(kind === undefined ? 'embedded' : 'external').up();
      if (kind) await dom0.startDaemon(kind);
    });
    afterAll(() => dom0.down());

    it('the tools say what they say over the socket', async () => {
      const [overSocket, overXenbus] = [await session(dom0, dom0.store), await session(dom0, XENBUS)];
      expect(overXenbus.stdout).toBe(overSocket.stdout);
      expect(overXenbus.stdout).toContain('hello');
      expect(overXenbus.stdout).toContain('/session/w/x');
    });

    it.each([XENBUS, '/proc/xen/xenbus'])("Debian's test-xenstore passes on %s", async (path) => {
      const ended = await dom0.run(path, TEST_XENSTORE, '-i', '50');
      expect(ended.stdout.trim().split('\n').length, ended.stderr).toBeGreaterThan(10);
      expect(ended.stdout).not.toMatch(/FAIL|error/i);
      expect(ended.status).toBe(0);
    });

    it('many at once get their own answers', async () => {
      const one = `for i in $(seq 20); do
          xenstore-write /many/$1 $i || echo "write $1 $i"
          test "$(xenstore-read /many/$1)" = $i || echo "read $1 $i"
        done`;
      const all = 'for n in 1 2 3 4 5 6; do sh -c "$0" x $n & done; wait';
      const ended = await dom0.run(XENBUS, 'sh', '-c', `exec 2>&1; ${all}`, one);
      expect([ended.stdout, ended.status]).toEqual(['', 0]);
    });

    it('a transaction of another file is none, and ends with its own', async () => {
      const xs = program('xs-raw');
      const first = dom0.start(XENBUS, xs, `${TRANSACTION_START}:|`, 'hold');
      try {
        await until('a transaction has begun', () => first.stdout.includes('|') || first.hasEnded, 20_000);
        const id = /^6 (\d+)\|$/m.exec(first.stdout)?.[1];
        expect(id, first.output).toBeDefined();
        expect((await dom0.run(XENBUS, xs, `${READ}@${id}:/tool|`)).stdout).toBe('16 ENOENT|\n');
        expect((await dom0.run(XENBUS, xs, `${TRANSACTION_END}@${id}:F|`)).stdout).toBe('16 ENOENT|\n');
      } finally {
        first.child.stdin?.end();
        await first.ended;
        await first.clean();
      }
    });
  });
});

describe.skipIf(!tools.ok)(tools.named('a daemon of its own'), () => {
  it.each([
    ['c', 'SIGKILL'],
    ['ours', 'SIGTERM'],
    ['ours', 'SIGKILL'],
  ] as const)('%s, ended by %s, is followed by another on the same ring', async (kind, signal) => {
    const dom0 = await new Dom0('external').up();
    try {
      for (const value of ['first', 'second', 'third']) {
        await dom0.startDaemon(kind);
        expect((await dom0.run(XENBUS, 'xenstore-write', '/which', value)).status).toBe(0);
        expect((await dom0.run(dom0.store, 'xenstore-read', '/which')).stdout).toBe(`${value}\n`);
        await dom0.endDaemon(signal);
      }
    } finally {
      await dom0.down();
    }
  });

  it('is asked to introduce the domains that are made, and hears of their end', async () => {
    const dom0 = await new Dom0('external').up();
    const command = (...args: string[]) => postern(['domain', ...args, '--host', dom0.socket]);
    const ask = async (request: string) => (await dom0.run(XENBUS, program('xs-raw'), request)).stdout.trim();
    try {
      expect((await command('create')).stdout).toBe('1\n'); // before there is a daemon
      await dom0.startDaemon('ours');
      await until('domain 1 is introduced', async () => (await ask(`${IS_INTRODUCED}:1|`)) === '17 T|', 20_000);
      expect((await command('create')).stdout).toBe('2\n');
      await until('domain 2 is introduced', async () => (await ask(`${IS_INTRODUCED}:2|`)) === '17 T|', 20_000);
      expect(await ask(`${READ}:/local/domain/2/domid|`)).toBe('2 2');
      expect((await command('destroy', '1')).status).toBe(0);
      await until('domain 1 is released', async () => (await ask(`${IS_INTRODUCED}:1|`)) === '17 F|', 20_000);
      await until('nothing holds it', async () => !(await command('list')).stdout.includes('dying'), 20_000);
    } finally {
      await dom0.down();
    }
  });

  it('is one: a second is told so', async () => {
    const dom0 = await new Dom0('external').up();
    try {
      await dom0.startDaemon('ours');
      const second = new Run(['xenstored', '--socket', join(dom0.folder, 'second'), '--host', dom0.socket]);
      const { status, stderr } = await second.ended;
      await second.clean();
      expect(stderr).toContain('no other daemon');
      expect(status).not.toBe(0);
    } finally {
      await dom0.down();
    }
  });

  it('keeps watches and transactions of programs behind the kernel over a live update', async () => {
    const dom0 = await new Dom0('external').up();
    const xs = program('xs-raw');
    let watcher: Run | undefined;
    let transaction: Run | undefined;
    try {
      await dom0.startDaemon('ours');
      const run = dom0.start(XENBUS, 'xenstore-watch', '-n', '2', '/kept');
      watcher = run;
      await until('the watch is set', () => run.stdout.includes('/kept'), 20_000);
      const begun = dom0.start(XENBUS, xs, `${TRANSACTION_START}:|`, 'hold');
      transaction = begun;
      await until('a transaction has begun', () => begun.stdout.includes('|'), 20_000);
      dom0.daemon?.kill('SIGHUP');
      await until('it says so', () => dom0.daemonSaid.match(/XenStore is up/g)?.length === 2, 20_000);
      await dom0.run(XENBUS, 'xenstore-write', '/kept/one', 'x');
      await until('it has fired', () => run.stdout.includes('/kept/one'), 20_000);
      begun.child.stdin?.end();
      await begun.ended;
      expect((await dom0.run(XENBUS, xs, `${READ}:/kept/one|`)).stdout).toBe('2 x\n');
    } finally {
      await watcher?.clean();
      await transaction?.clean();
      await dom0.down();
    }
  });

  it('keeps the watches of programs behind the kernel over a kill -9, where it keeps its state', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'postern-xenbus-state-'));
    const dom0 = await new Dom0('external', ['--state', join(folder, 'state')]).up();
    let watcher: Run | undefined;
    try {
      await dom0.startDaemon('ours');
      const run = dom0.start(XENBUS, 'xenstore-watch', '-n', '3', '/kept');
      watcher = run;
      await until('the watch is set', () => run.stdout.includes('/kept'), 20_000);
      await dom0.run(XENBUS, 'xenstore-write', '/kept/one', 'x');
      await until('it has fired', () => run.stdout.includes('/kept/one'), 20_000);
      await dom0.endDaemon('SIGKILL');
      await dom0.startDaemon('ours');
      await dom0.run(XENBUS, 'xenstore-write', '/kept/two', 'x');
      await until('it has fired again', () => run.stdout.includes('/kept/two'), 20_000);
    } finally {
      await watcher?.clean();
      await dom0.down();
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

/**
 * From the minutes: "xs-restrict … does not work through the kernel XenStore driver". The driver passes the request on, as
 * any type it does not know, and the daemon restricts the connection it came over: the kernel's.
 */
describe.skipIf(!tools.ok)(tools.named('RESTRICT, the limitation of the minutes'), () => {
  let dom0: Dom0;
  beforeAll(async () => {
    dom0 = await new Dom0('external', ['--allow-restrict']).up();
  });
  afterAll(() => dom0.down());

  /** One client restricts itself to domain 1 and stays; what it and a second one may read then, and a third after it. */
  async function restrictOne(path: string): Promise<{ one: string[]; two: string; three: string }> {
    const xs = program('xs-raw');
    const lines = (text: string) => text.trimEnd().split('\n');
    expect((await dom0.run(path, 'xenstore-write', '/secret', 'x')).status).toBe(0);
    const one = dom0.start(path, xs, `${READ}:/secret|`, `${RESTRICT}:1|`, `${READ}:/secret|`, 'hold');
    try {
      await until('the first has its answers', () => lines(one.stdout).length === 3 || one.hasEnded, 20_000);
      const two = (await dom0.run(path, xs, `${READ}:/secret|`)).stdout;
      one.child.stdin?.end();
      await one.ended;
      return { one: lines(one.stdout), two, three: (await dom0.run(path, xs, `${READ}:/secret|`)).stdout };
    } finally {
      await one.clean();
    }
  }

  it('over the socket restricts the client that asked, and nobody else', async () => {
    await dom0.startDaemon('ours');
    await new Run(['domain', 'create', '--host', dom0.socket]).ended;
    expect(await restrictOne(dom0.store)).toEqual({
      one: ['2 x', '20 OK|', '16 EACCES|'],
      two: '2 x\n',
      three: '2 x\n',
    });
  });

  it('does not survive the kernel driver: over /dev/xen/xenbus one client restricts everybody in dom0, for good', async () => {
    expect(await restrictOne(XENBUS)).toEqual({
      one: ['2 x', '20 OK|', '16 EACCES|'],
      two: '16 EACCES|\n',
      three: '16 EACCES|\n',
    });
    expect((await dom0.run(XENBUS, 'xenstore-read', '/secret')).stderr).toContain("couldn't read");
    expect((await dom0.run(dom0.store, 'xenstore-read', '/secret')).stdout).toBe('x\n');
  });
});
