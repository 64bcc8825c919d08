/**
 * The ways to a XenStore that programs are tested on: each starts what it needs as processes of its own, below a temporary
 * directory, and says what environment leads a C program (or the client) there.
 *
 *     const store = await startTransport('gate');
 *     await store.run(['xenstore-ls', '-f']);
 *     await store.close();
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { nativeLibrary } from '../../dist/host/native-library.js';
import { compileLibrary } from './compile-c.js';
import { type Found, requires } from './requires.js';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
/** Where Debian keeps what belongs to its Xen's version. */
export const XEN_BIN = '/usr/lib/xen-4.17/bin';
const C_XENSTORED = `${XEN_BIN}/xenstored`;
const READY_LIMIT_MS = 60_000;

/** Debian's programs: the daemon, its test, the tools. */
export const xenPrograms = requires({
  commands: ['cc', C_XENSTORED, `${XEN_BIN}/test-xenstore`, 'xenstore-ls', 'xenstore-watch'],
  packages: ['gcc', 'libc6-dev', 'libxen-dev', 'xen-utils-4.17', 'xenstore-utils'],
});

export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A daemon or what else stands between, running. */
class Daemon {
  output = '';
  readonly child: ChildProcess;
  readonly #ended: Promise<void>;

  constructor(command: readonly string[], env: Readonly<Record<string, string>>) {
    this.child = spawn(command[0] as string, command.slice(1), {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, NO_COLOR: '1', ...env },
    });
    for (const stream of [this.child.stdout, this.child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.output = (this.output + text).slice(-20_000);
      });
    }
    this.#ended = new Promise((resolve) => {
      this.child.once('error', () => resolve());
      this.child.once('exit', () => resolve());
    });
  }

  get hasEnded(): boolean {
    return this.child.pid === undefined || this.child.exitCode !== null || this.child.signalCode !== null;
  }

  /** Asks it to end, and makes it end where it doesn't. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.hasEnded) return;
    this.child.kill(signal);
    const force = setTimeout(() => this.child.kill('SIGKILL'), 10_000);
    await this.#ended;
    clearTimeout(force);
  }
}

/** A store that programs can use. */
export class RunningStore {
  readonly home = mkdtempSync(join(tmpdir(), 'postern-store-'));
  /** For C programs and the client alike. */
  env: Record<string, string> = {};
  readonly #daemons: Daemon[] = [];

  /** Starts a process of this store; it ends with it. */
  start(command: readonly string[], env: Readonly<Record<string, string>> = {}): Daemon {
    const daemon = new Daemon(command, { TMPDIR: this.home, ...env });
    this.#daemons.push(daemon);
    return daemon;
  }

  /** Starts the command line of Postern. */
  postern(...args: string[]): Daemon {
    return this.start([process.execPath, CLI, ...args]);
  }

  file(name: string): string {
    return join(this.home, name);
  }

  /** Runs a program to its end, with this store as its XenStore. */
  run(command: readonly string[], limitMs = 60_000): Promise<Outcome> {
    const child = spawn(command[0] as string, command.slice(1), {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:${XEN_BIN}`, NO_COLOR: '1', ...this.env },
    });
    let [stdout, stderr] = ['', ''];
    child.stdout.setEncoding('latin1').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('latin1').on('data', (text: string) => {
      stderr += text;
    });
    const limit = setTimeout(() => child.kill('SIGKILL'), limitMs);
    return new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (status) => {
        clearTimeout(limit);
        resolve({ status, stdout, stderr });
      });
    });
  }

  /** What its processes have said lately, for a failure's message. */
  get output(): string {
    return this.#daemons.map((daemon) => daemon.output).join('\n---\n');
  }

  /** Ends its processes, the last one first. */
  async stopDaemons(): Promise<void> {
    for (const daemon of this.#daemons.splice(0).reverse()) await daemon.stop();
  }

  async close(): Promise<void> {
    await this.stopDaemons();
    rmSync(this.home, { recursive: true, force: true });
  }
}

async function until(what: string, daemon: Daemon, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + READY_LIMIT_MS; !(await holds()); await sleep(20)) {
    if (daemon.hasEnded) throw new Error(`ended before ${what}:\n${daemon.output}`);
    if (Date.now() > deadline) throw new Error(`waited ${READY_LIMIT_MS} ms in vain until ${what}:\n${daemon.output}`);
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

async function listening(path: string, daemon: Daemon): Promise<void> {
  await until(`${path} answers`, daemon, () => answers(path));
}

/** Debian's own daemon where there is no Xen: what it asks of one is answered by a preloaded library. */
async function startC(store: RunningStore): Promise<void> {
  const source = fileURLToPath(new URL('../../test/bench/c/xenstored-alone.c', import.meta.url));
  const { ok, path, messages } = compileLibrary(source, 'xenstored-alone.so');
  if (!ok) throw new Error(messages);
  const args = ['-N', '-I', '--pid-file', store.file('pid')];
  const daemon = store.start([C_XENSTORED, ...args], { LD_PRELOAD: path, XENSTORED_RUNDIR: store.home });
  await listening(store.file('socket'), daemon);
  store.env = { XENSTORED_PATH: store.file('socket') };
}

async function startHost(store: RunningStore, ...args: string[]): Promise<string> {
  const host = store.file('host');
  const daemon = store.postern('host', '--socket', host, ...args);
  await until('the host is up', daemon, () => daemon.output.includes('export XENSTORED_PATH='));
  return host;
}

async function startEmbedded(store: RunningStore): Promise<void> {
  const host = await startHost(store);
  store.env = { XENSTORED_PATH: `${host}.xenstored` };
}

async function startPostern(store: RunningStore, ...args: string[]): Promise<void> {
  const path = store.file('socket');
  await listening(path, store.postern('xenstored', '--socket', path, ...args));
  store.env = { XENSTORED_PATH: path };
}

/** What a program under the host's library sees, whose store is the kernel's device. */
async function useDevice(store: RunningStore, host: string): Promise<void> {
  store.env = { LD_PRELOAD: await nativeLibrary(), POSTERN_HOST: host, XENSTORED_PATH: '/dev/xen/xenbus' };
}

async function startXenbus(store: RunningStore): Promise<void> {
  await useDevice(store, await startHost(store));
}

async function startXenbusC(store: RunningStore): Promise<void> {
  const host = await startHost(store, '--xenstore', 'external');
  const socket = `${host}.xenstored`;
  const env = { LD_PRELOAD: await nativeLibrary(), POSTERN_HOST: host, XENSTORED_PATH: socket };
  await listening(socket, store.start([C_XENSTORED, '-N', '-I', '--pid-file', store.file('pid')], env));
  await useDevice(store, host);
}

async function startXenbusPostern(store: RunningStore): Promise<void> {
  const host = await startHost(store, '--xenstore', 'external');
  await startPostern(store, '--host', host);
  await useDevice(store, host);
}

/** The whole store, with all rights and without limits: what is compared is the gate's way of passing things on. */
const GATE_POLICY = {
  name: 'conformance',
  description: 'all of the store, for programs whose answers are compared with those of a daemon',
  grants: [
    {
      why: 'the programs use what they like',
      paths: ['/', '/**'],
      rights: ['read', 'list', 'write', 'create', 'remove', 'perms', 'watch'],
      permissions: 'any',
    },
  ],
  limits: {
    watches: 0,
    transactions: 0,
    nodes: 0,
    'value-bytes': 0,
    'requests-per-second': 0,
  },
};

async function startGate(store: RunningStore): Promise<void> {
  await startPostern(store);
  const upstream = store.env.XENSTORED_PATH as string;
  await putGate(store, '--upstream', upstream);
}

async function startGateC(store: RunningStore): Promise<void> {
  await startC(store);
  await putGate(store, '--upstream', store.file('socket'));
}

async function startGateXenbus(store: RunningStore): Promise<void> {
  await putGate(store, '--host', await startHost(store));
}

async function putGate(store: RunningStore, ...upstream: string[]): Promise<void> {
  const path = store.file('gate');
  writeFileSync(store.file('policy.json'), JSON.stringify(GATE_POLICY));
  await listening(path, store.postern('gate', '--socket', path, '--policy', store.file('policy.json'), ...upstream));
  store.env = { XENSTORED_PATH: path };
}

interface Transport {
  readonly title: string;
  readonly needs: Found;
  start(store: RunningStore): Promise<void>;
}

const nothing: Found = requires({ packages: [] });
const compiler: Found = requires({ commands: ['cc'], packages: ['gcc', 'libc6-dev'] });

export const TRANSPORTS = {
  c: { title: "C xenstored's socket", needs: xenPrograms, start: startC },
  embedded: { title: "the embedded host's socket", needs: nothing, start: startEmbedded },
  postern: { title: "postern xenstored's socket", needs: nothing, start: (store) => startPostern(store) },
  gate: { title: 'a gate before postern xenstored', needs: nothing, start: startGate },
  xenbus: { title: '/dev/xen/xenbus, embedded store', needs: compiler, start: startXenbus },
  'xenbus-c': { title: '/dev/xen/xenbus, C xenstored', needs: xenPrograms, start: startXenbusC },
  'xenbus-postern': { title: '/dev/xen/xenbus, postern xenstored', needs: compiler, start: startXenbusPostern },
  'gate-c': { title: 'a gate before C xenstored', needs: xenPrograms, start: startGateC },
  'gate-xenbus': { title: 'a gate before /dev/xen/xenbus', needs: nothing, start: startGateXenbus },
} as const satisfies Record<string, Transport>;

export type TransportName = keyof typeof TRANSPORTS;
export const TRANSPORT_NAMES = Object.keys(TRANSPORTS) as TransportName[];

/** Starts a way to a store, empty but for what its daemon has in it. To be closed. */
export async function startTransport(name: TransportName): Promise<RunningStore> {
  const store = new RunningStore();
  try {
    await TRANSPORTS[name].start(store);
    return store;
  } catch (error) {
    await store.close();
    throw error;
  }
}
