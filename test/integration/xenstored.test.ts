// `postern xenstored` as a process: what it keeps when it is killed, and what its clients notice of a live update.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { nativeLibrary } from '../../dist/host/native-library.js';
import { requires } from '../support/requires.js';
import { CLI, Run } from './harness.js';
import { Gone, T, TestDaemon, type WireClient } from './xenstored-client.js';

const XENSTORE_WATCH = '/usr/bin/xenstore-watch';
const TEST_XENSTORE = '/usr/lib/xen-4.17/bin/test-xenstore';
const TOOLS = requires({
  commands: [XENSTORE_WATCH, TEST_XENSTORE, '/usr/lib/xen-4.17/bin/xenstore-control'],
  packages: ['xenstore-utils', 'xen-utils-4.17'],
});

const RESTRICT = 20;

let daemon: TestDaemon;
beforeEach(() => {
  daemon = new TestDaemon();
});
afterEach(() => daemon.remove());

it('says whom it denies what: in its messages, in the trace and in the report', async () => {
  const trace = join(daemon.home, 'trace');
  await daemon.start('--allow-restrict', '--trace', trace);
  const [admin, client] = [await daemon.client(), await daemon.client()];
  await admin.ask(T.CONTROL, 'quota\0set\0nodes\x003\0');
  await admin.ask(T.WRITE, '/own\0');
  expect(await admin.ask(T.SET_PERMS, '/own\0n7\0')).toBe('OK\0');
  expect(await client.ask(RESTRICT, '7\0')).toBe('OK\0');
  const answers: string[] = [];
  for (let i = 0; i < 5; i++) answers.push(await client.ask(T.WRITE, `/own/${i}\0`));
  expect(answers).toEqual(['OK\0', 'OK\0', '!ENOSPC', '!ENOSPC', '!ENOSPC']);
  expect(await client.ask(T.CONTROL, 'memreport\0')).toBe('!EACCES');
  await admin.ask(T.CONTROL, 'memreport\0');
  await daemon.saying(/denied by nodes: 3/);
  expect(daemon.output.match(/Domain 7 denied by nodes/g)).toHaveLength(1);
  await daemon.end('SIGTERM');
  const denials = readFileSync(trace, 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as { denied?: string; errno?: string; domid: number })
    .filter(({ denied }) => denied === 'nodes');
  expect(denials).toHaveLength(3);
  expect(denials[0]).toMatchObject({ domid: 7, errno: 'ENOSPC' });
});

/** What a writer may say of the store: what it was told is there, and how far what it wasn't told may have come. */
interface Knowledge {
  acknowledged: number;
  sent: number;
}

/** Writes rising numbers: one node by itself; or three nodes together, with one new and one gone each time. */
class Writer {
  readonly single: Knowledge = { acknowledged: 0, sent: 0 };
  readonly together: Knowledge = { acknowledged: 0, sent: 0 };
  readonly #home: string;
  readonly #padding: string;

  constructor(n: number) {
    this.#home = `/k/${n}`;
    // Enough to let journals grow beyond their limit: snapshots are written meanwhile.
    this.#padding = '.'.repeat(1500);
  }

  async run(client: WireClient): Promise<void> {
    try {
      await Promise.all([this.#singles(client), this.#transactions(client)]);
    } catch (error) {
      if (!(error instanceof Gone)) throw error;
    }
  }

  async #singles(client: WireClient): Promise<void> {
    const { single } = this;
    for (;;) {
      const batch = Array.from({ length: 4 }, async () => {
        const n = ++single.sent;
        expect(await client.ask(T.WRITE, `${this.#home}/single\0${n} ${this.#padding}`)).toBe('OK\0');
        single.acknowledged = n;
      });
      await Promise.all(batch);
    }
  }

  async #transactions(client: WireClient): Promise<void> {
    const { together } = this;
    for (;;) {
      const tx = await client.begin();
      const n = together.acknowledged + 1;
      const home = this.#home;
      await client.ask(T.WRITE, `${home}/a\0${n}`, tx);
      await client.ask(T.WRITE, `${home}/in/${n}\0${n}`, tx);
      if (n > 1) expect(await client.ask(T.RM, `${home}/in/${n - 1}\0`, tx)).toBe('OK\0');
      await client.ask(T.WRITE, `${home}/b\0${n}`, tx);
      together.sent = n;
      const outcome = await client.ask(T.TRANSACTION_END, 'T\0', tx);
      if (outcome === 'OK\0') together.acknowledged = n;
      else expect(outcome).toBe('!EAGAIN');
    }
  }

  /** Looks at what the restarted daemon has, and goes on from there. */
  async verify(client: WireClient): Promise<void> {
    const home = this.#home;
    const read = async (path: string) =>
      Number.parseInt((await client.ask(T.READ, `${home}/${path}\0`)).replace('!ENOENT', '0'), 10);
    const single = await read('single');
    expect(single).toBeGreaterThanOrEqual(this.single.acknowledged);
    expect(single).toBeLessThanOrEqual(this.single.sent);
    const a = await read('a');
    expect(await read('b')).toBe(a);
    expect(a).toBeGreaterThanOrEqual(this.together.acknowledged);
    expect(a).toBeLessThanOrEqual(this.together.sent);
    const names = await client.ask(T.DIRECTORY, `${home}/in\0`);
    expect(names).toBe(a === 0 ? '!ENOENT' : `${a}\0`);
    this.single.acknowledged = this.single.sent = single;
    this.together.acknowledged = this.together.sent = a;
  }
}

async function verifyAll(writers: readonly Writer[]): Promise<void> {
  const client = await daemon.client();
  for (const writer of writers) await writer.verify(client);
  expect(await client.ask(T.CONTROL, 'check\0')).toBe('OK\0');
  client.close();
}

describe('what is acknowledged is kept', () => {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));

  it(`by kill -9 at random moments (SEED=${seed})`, async () => {
    let state = seed;
    const random = (n: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
      return (state >>> 8) % n;
    };
    const writers = Array.from({ length: 4 }, (_, n) => new Writer(n));
    const total = () => writers.reduce((n, w) => n + w.single.acknowledged + w.together.acknowledged, 0);
    for (let round = 0; round < 8; round++) {
      await daemon.start('--state', daemon.state);
      await verifyAll(writers);
      const before = total();
      const clients = await Promise.all(writers.map(() => daemon.client()));
      const running = writers.map((writer, i) => writer.run(clients[i] as WireClient));
      while (total() < before + 20) await new Promise((resolve) => setTimeout(resolve, 1));
      await new Promise((resolve) => setTimeout(resolve, random(300)));
      expect(await daemon.end('SIGKILL')).toBe('SIGKILL');
      await Promise.all(running);
    }
    await daemon.start('--state', daemon.state);
    await verifyAll(writers);
    expect(total()).toBeGreaterThan(500);
    // More journals than starts: some rounds were killed beside or after a snapshot that was written while they ran.
    const journals = readdirSync(daemon.home).map((name) => Number(/journal-(\d+)$/.exec(name)?.[1] ?? 0));
    expect(Math.max(...journals)).toBeGreaterThan(9);
  });

  it('by SIGTERM, which leaves one file that holds all', async () => {
    const writers = Array.from({ length: 3 }, (_, n) => new Writer(n));
    await daemon.start('--state', daemon.state);
    const clients = await Promise.all(writers.map(() => daemon.client()));
    const running = writers.map((writer, i) => writer.run(clients[i] as WireClient));
    await new Promise((resolve) => setTimeout(resolve, 150));
    expect(await daemon.end('SIGTERM')).toBe(0);
    await Promise.all(running);
    expect(existsSync(daemon.socket)).toBe(false);
    expect(readFileSync(daemon.state).subarray(0, 8).toString()).toBe('xenstore');
    const [journal] = readdirSync(daemon.home).filter((name) => name.includes('.journal-')) as [string];
    expect(statSync(join(daemon.home, journal)).size).toBe(16);
    await daemon.start('--state', daemon.state, '--sync');
    expect(daemon.output).toContain('restored');
    await verifyAll(writers);
  });

  it('and what is damaged is refused, not guessed at', async () => {
    await daemon.start('--state', daemon.state);
    const client = await daemon.client();
    for (const n of [1, 2, 3]) await client.ask(T.WRITE, `/n/${n}\0value`);
    await daemon.end('SIGKILL');
    const journal = `${daemon.state}.journal-1`;
    const whole = readFileSync(journal);
    // The last frame unfinished: dropped, and said.
    writeFileSync(journal, whole.subarray(0, whole.length - 5));
    await daemon.start('--state', daemon.state);
    expect(daemon.output).toMatch(/note: dropped \d+ bytes of an unfinished write/);
    const again = await daemon.client();
    expect(await again.ask(T.DIRECTORY, '/n\0')).toBe('1\x002\0');
    await daemon.end('SIGKILL');
    // A byte in the middle: refused.
    const [name] = readdirSync(daemon.home).filter((entry) => entry.includes('.journal-')) as [string];
    const damaged = Buffer.from(whole);
    damaged.writeUInt8(damaged.readUInt8(60) ^ 1, 60);
    writeFileSync(join(daemon.home, name), damaged);
    const error: Error = await daemon.start('--state', daemon.state).then(
      () => new Error('it has started'),
      (e: Error) => e,
    );
    expect(error.message).toMatch(
      /the store's state can't be taken from .*: it is (damaged at offset \d+|not the journal)/,
    );
    expect(readFileSync(join(daemon.home, name)).equals(damaged)).toBe(true);
  });

  it('by one daemon at a time', async () => {
    await daemon.start('--state', daemon.state);
    const start = async (...args: string[]): Promise<string> => {
      const child = spawn(process.execPath, [CLI, 'xenstored', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
      let messages = '';
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        messages += text;
      });
      expect((await once(child, 'close'))[0]).toBe(1);
      return messages;
    };
    expect(await start('--socket', daemon.socket)).toContain('a XenStore daemon is running at');
    const other = join(daemon.home, 'other');
    expect(await start('--socket', other, '--state', daemon.state)).toContain('another daemon keeps its state in');
    expect(await start('--socket', daemon.state)).toContain('is no socket');
    const client = await daemon.client();
    expect(await client.ask(T.READ, '/local/domain/0/domid\0')).toBe('0');
    expect(await client.ask(T.DIRECTORY, '/\0')).toBe('tool\0local\0');
    expect(await client.ask(T.DIRECTORY, '/tool\0')).toBe('xenstored\0');
  });
});

describe('a live update', () => {
  /** Until the process is the new daemon. */
  async function updated(from: string): Promise<void> {
    while (!daemon.output.slice(from.length).includes('taken over')) await new Promise((r) => setTimeout(r, 5));
  }

  it('keeps connections, watches, transactions and half requests; every request is answered once', async () => {
    await daemon.start('--state', daemon.state);
    const { pid } = daemon;
    const busy = await Promise.all(Array.from({ length: 3 }, () => daemon.client()));
    const watcher = await daemon.client();
    expect(await watcher.ask(T.WATCH, '/w\0token\0')).toBe('OK\0');
    const halves = await daemon.client();
    let stopped = false;
    let answered = 0;
    const running = busy.map(async (client, i) => {
      for (let n = 0; !stopped; n += 10) {
        const batch = Array.from({ length: 10 }, async (_, k) => {
          expect(await client.ask(T.WRITE, `/busy/${i}\0${n + k}`)).toBe('OK\0');
          expect(await client.ask(T.READ, `/busy/${i}\0`)).toMatch(/^\d+$/);
          answered++;
        });
        await Promise.all(batch);
      }
    });
    for (let round = 0; round < 4; round++) {
      const tx = await halves.begin();
      expect(await halves.ask(T.WRITE, `/tx/${round}\0before`, tx)).toBe('OK\0');
      const half = halves.prepare(T.WRITE, `/tx/${round}/more\0after`, tx);
      halves.socket.write(half.bytes.subarray(0, 3 + 11 * round));
      await new Promise((resolve) => setTimeout(resolve, 30));
      const before = daemon.output;
      const answeredBefore = answered;
      daemon.signal('SIGHUP');
      await updated(before);
      halves.socket.write(half.bytes.subarray(3 + 11 * round));
      expect(await half.reply).toBe('OK\0');
      expect(await halves.ask(T.READ, `/tx/${round}\0`)).toBe('!ENOENT');
      expect(await halves.ask(T.TRANSACTION_END, 'T\0', tx)).toBe('OK\0');
      expect(await halves.ask(T.READ, `/tx/${round}/more\0`)).toBe('after');
      await halves.ask(T.WRITE, `/w/${round}\0x`);
      while (watcher.events.length < round + 2) await new Promise((resolve) => setTimeout(resolve, 5));
      while (answered === answeredBefore) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    stopped = true;
    await Promise.all(running);
    expect(watcher.events).toEqual(['/w token', '/w/0 token', '/w/1 token', '/w/2 token', '/w/3 token']);
    expect(daemon.pid).toBe(pid);
    expect(await halves.ask(T.CONTROL, 'check\0')).toBe('OK\0');
    // What was taken over is kept like everything else.
    expect(await daemon.end('SIGKILL')).toBe('SIGKILL');
    await daemon.start('--state', daemon.state);
    expect(await (await daemon.client()).ask(T.READ, '/tx/3/more\0')).toBe('after');
  });

  it("lets a transaction that can't commit any more say so, and a restricted client stay restricted", async () => {
    await daemon.start('--allow-restrict');
    const [a, b] = [await daemon.client(), await daemon.client()];
    await a.ask(T.WRITE, '/n\0 0');
    const tx = await a.begin();
    expect(await a.ask(T.READ, '/n\0', tx)).toBe(' 0');
    await a.ask(T.WRITE, '/n\0mine', tx);
    await b.ask(T.WRITE, '/n\0other');
    expect(await b.ask(20, '5\0')).toBe('OK\0');
    expect(await b.ask(T.WRITE, '/n\0no')).toBe('!EACCES');
    const before = daemon.output;
    daemon.signal('SIGHUP');
    await updated(before);
    expect(await a.ask(T.READ, '/n\0', tx)).toBe('mine');
    expect(await a.ask(T.TRANSACTION_END, 'T\0', tx)).toBe('!EAGAIN');
    expect(await b.ask(T.WRITE, '/n\0no')).toBe('!EACCES');
    expect(await a.ask(T.READ, '/n\0')).toBe('other');
  });

  it('that fails changes nothing, and says why', async () => {
    await daemon.start();
    const client = await daemon.client();
    const control = (...words: string[]) =>
      client.ask(T.CONTROL, `live-update\0${words.map((w) => `${w}\0`).join('')}`);
    expect(await control('-s')).toContain('Not in a live update');
    expect(await control('-f', '/nonexistent')).toContain('ENOENT');
    expect(await control('-f', daemon.home)).toContain('is not a file');
    const script = join(daemon.home, 'program');
    writeFileSync(script, '#!/nonexistent/interpreter\n', { mode: 0o755 });
    expect(await control('-f', script)).toBe('OK\0');
    expect(await control('-s', '-t', '5', '-F')).toContain('execve failed: ENOENT');
    expect(await control('-s', '-x')).toBe('!EINVAL');
    expect(await client.ask(T.READ, '/local/domain/0/name\0')).toBe('Domain-0');
  });

  describe.skipIf(!TOOLS.ok)(TOOLS.named("of libxenstore's own programs"), () => {
    it('is started by xenstore-control and not noticed by xenstore-watch', async () => {
      await daemon.start();
      const env = { ...process.env, XENSTORED_PATH: daemon.socket };
      const watch = spawn(XENSTORE_WATCH, ['-n', '3', '/w'], { env, stdio: ['ignore', 'pipe', 'inherit'] });
      let seen = '';
      watch.stdout.setEncoding('utf8').on('data', (text: string) => {
        seen += text;
      });
      while (!seen.includes('/w\n')) await new Promise((resolve) => setTimeout(resolve, 5));
      const ended = once(watch, 'close');
      const before = daemon.output;
      const program = '/usr/lib/xen-4.17/bin/xenstore-control';
      const control = spawn(program, ['live-update', CLI], { env, stdio: 'inherit' });
      expect((await once(control, 'close'))[0]).toBe(0);
      await updated(before);
      const client = await daemon.client();
      await client.ask(T.WRITE, '/w/a\0');
      await client.ask(T.WRITE, '/w/b\0');
      expect((await ended)[0]).toBe(0);
      expect(seen).toBe('/w\n/w/a\n/w/b\n');
    });
  });
});

describe('a state file of a host', () => {
  it('is refused by the next run of the host, whose domains are others', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'postern-host-'));
    const socket = join(folder, 'host');
    const args = ['--state', daemon.state, '--host', socket];
    const hosts: Run[] = [];
    const startHost = async (): Promise<Run> => {
      const host = new Run(['host', '--socket', socket, '--xenstore', 'external']);
      hosts.push(host);
      await host.says('host is up');
      return host;
    };
    try {
      const first = await startHost();
      await daemon.start(...args);
      const client = await daemon.client();
      expect(await client.ask(T.WRITE, '/a\x001')).toBe('OK\0');
      client.close();
      await daemon.end('SIGKILL');
      await daemon.start(...args); // the same host: it goes on
      await daemon.end('SIGTERM');
      first.child.kill('SIGTERM');
      await first.ended;
      await startHost();
      await expect(daemon.start(...args)).rejects.toThrow(/earlier run of the host.* move .* away/);
      await daemon.start('--state', daemon.state); // nothing was changed
      const again = await daemon.client();
      expect(await again.ask(T.READ, '/a\0')).toBe('1');
      again.close();
    } finally {
      for (const host of hosts) {
        host.child.kill('SIGTERM');
        await host.ended;
        await host.clean();
      }
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

describe.skipIf(!TOOLS.ok)(TOOLS.named('a kernel with programs behind it'), () => {
  it('notices nothing of kills and live updates: each request is done once and answered once', async () => {
    const host = new Run(['host', '--socket', 'HOME/host', '--xenstore', 'external']);
    const socket = join(host.home, 'host');
    const args = ['--state', daemon.state, '--host', socket];
    try {
      await host.says('host is up');
      await daemon.start(...args);
      const env = {
        ...process.env,
        LD_PRELOAD: await nativeLibrary(),
        POSTERN_HOST: socket,
        XENSTORED_PATH: '/dev/xen/xenbus',
      };
      // Debian's own test of a XenStore: random requests, transactions among them, and it knows what must come of each.
      const random = spawn(TEST_XENSTORE, ['-r', '6'], { env, stdio: ['ignore', 'pipe', 'pipe'] });
      let said = '';
      for (const stream of [random.stdout, random.stderr]) {
        stream.on('data', (text: Buffer) => {
          said += text.toString();
        });
      }
      const ended = once(random, 'close');
      for (let round = 0; round < 4; round++) {
        await new Promise((resolve) => setTimeout(resolve, 300 + Math.random() * 300));
        if (round % 2 === 0) {
          await daemon.end('SIGKILL');
          await daemon.start(...args);
        } else {
          const before = daemon.output;
          daemon.signal('SIGHUP');
          while (!daemon.output.slice(before.length).includes('taken over')) await new Promise((r) => setTimeout(r, 5));
        }
      }
      expect((await ended)[0], said).toBe(0);
      const client = await daemon.client();
      expect(await client.ask(T.CONTROL, 'check\0')).toBe('OK\0');
      client.close();
      await daemon.end('SIGTERM');
    } finally {
      host.child.kill('SIGTERM');
      await host.ended;
    }
  });
});
