/**
 * The XenStore daemons of the bench: ours, Debian's C xenstored and the least a daemon could do; each with a load
 * generator of its own (c/xenstore-load.c), so that a round of one can follow a round of the other at once.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { createInterface, type Interface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { NotMeasured } from './figure.js';
import { buildProgram, cpus, POSTERN, setCpus, temporary } from './programs.js';

const START_TIMEOUT_MS = 10_000;
/** Debian keeps one a Xen version; `/usr/sbin/xenstored` is a script that wants Xen to be running. */
const XEN_FOLDERS = '/usr/lib';

/** Where daemon and load run. */
export type Placement = 'one core' | 'a core each';

/** What a command of the generator may answer. */
export interface Answer {
  readonly ns: number;
  readonly cpu: number;
  readonly us: readonly number[];
  readonly again: number;
  readonly set: number;
  readonly count: number;
}

let generator: Promise<string> | undefined;

const children = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

function endsWithUs(child: ChildProcess): void {
  children.add(child);
  child.once('exit', () => children.delete(child));
}

export class XenstoreDaemon {
  private readonly answers: AsyncIterator<string>;

  private constructor(
    readonly name: string,
    readonly socketPath: string,
    private readonly process: ChildProcess,
    private readonly load: ChildProcess,
  ) {
    this.answers = (createInterface({ input: load.stdout! }) as Interface)[Symbol.asyncIterator]();
  }

  static async start(
    name: string,
    command: readonly string[],
    socketPath: string,
    variables: Readonly<Record<string, string>> = {},
    loadPath = socketPath,
  ): Promise<XenstoreDaemon> {
    const [program, ...args] = command as [string, ...string[]];
    generator ??= buildProgram('xenstore-load');
    const generatorPath = await generator;
    const daemon = spawn(program, args, {
      stdio: ['ignore', 'ignore', 'inherit'],
      env: { ...process.env, ...variables },
    });
    endsWithUs(daemon);
    await listening(name, daemon, socketPath);
    const load = spawn(generatorPath, [loadPath, String(daemon.pid)], { stdio: ['pipe', 'pipe', 'inherit'] });
    endsWithUs(load);
    return new XenstoreDaemon(name, loadPath, daemon, load);
  }

  get pid(): number {
    return this.process.pid as number;
  }

  /** Has the generator carry out a command. */
  async run(command: string): Promise<Answer> {
    this.load.stdin?.write(`${command}\n`);
    const { value, done } = await this.answers.next();
    if (done) throw new Error(`the load on ${this.name} has ended at ${command}`);
    return JSON.parse(value) as Answer;
  }

  /** On a core each, the generator stays awake while it waits: the daemon is measured, not how long a core takes to wake. */
  async place(placement: Placement): Promise<void> {
    const [first, second] = twoCpus();
    setCpus(this.pid, first);
    setCpus(this.load.pid as number, placement === 'one core' ? first : second);
    await this.run(placement === 'one core' ? 'sleep' : 'spin');
  }

  /**
   * From now on nothing else comes before the daemon's serving thread and the load: what is measured is theirs.
   * @returns false where this isn't allowed
   */
  async goFirst(): Promise<boolean> {
    const threads = await readdir(`/proc/${this.pid}/task`);
    const used = await Promise.all(threads.map((id) => processorTime(`/proc/${this.pid}/task/${id}/stat`)));
    const serving = threads[used.indexOf(Math.max(...used))] as string;
    try {
      for (const id of [serving, String(this.load.pid)])
        execFileSync('chrt', ['-f', '-p', '1', id], { stdio: 'ignore' });
      return true;
    } catch {
      return false;
    }
  }

  /** Memory that is the process's own, in bytes. */
  async anonymousBytes(): Promise<number> {
    const status = await readFile(`/proc/${this.pid}/status`, 'utf8');
    return Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1] ?? Number.NaN) * 1024;
  }

  async stop(): Promise<void> {
    for (const child of [this.load, this.process]) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), 3000);
      await ended;
      clearTimeout(timer);
    }
  }
}

/** User and system time of a thread, in ticks. */
async function processorTime(path: string): Promise<number> {
  const fields = (await readFile(path, 'utf8')).replace(/.*\) /s, '').split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

async function listening(name: string, daemon: ChildProcess, path: string): Promise<void> {
  const end = Date.now() + START_TIMEOUT_MS;
  while (Date.now() < end && daemon.exitCode === null && daemon.signalCode === null) {
    const connected = await new Promise<boolean>((resolve) => {
      const socket = connect(path, () => {
        socket.destroy();
        resolve(true);
      }).on('error', () => resolve(false));
    });
    if (connected) return;
    await sleep(20);
  }
  daemon.kill('SIGKILL');
  throw new NotMeasured(`${name} has not come up`);
}

/** The first two CPUs that this process may use; one and the same where there is only one. */
export function twoCpus(): [string, string] {
  const all = cpus()
    .split(',')
    .flatMap((part) => {
      const [from, to] = part.split('-').map(Number) as [number, number?];
      return Array.from({ length: (to ?? from) - from + 1 }, (_, i) => String(from + i));
    });
  return [all[0] as string, all[1] ?? (all[0] as string)];
}

let started = 0;
const fresh = (name: string): string => temporary(`${name}-${started++}`);

export function startOurs(...options: string[]): Promise<XenstoreDaemon> {
  const path = fresh('ours');
  return XenstoreDaemon.start(
    'postern xenstored',
    [process.execPath, POSTERN, 'xenstored', '--socket', path, ...options],
    path,
  );
}

/** Debian's own binary; what it asks of Xen before it serves is answered by c/xenstored-alone.c. */
export async function startC(): Promise<XenstoreDaemon> {
  const program = await findC();
  const library = await buildProgram('xenstored-alone', ['-shared', '-fPIC', '-ldl']);
  const folder = fresh('c');
  mkdirSync(folder);
  const path = `${folder}/socket`;
  // No quota is lifted: they bind guests, and clients of the socket are dom0.
  const command = [program, '-N', '--pid-file', `${folder}/pid`];
  return XenstoreDaemon.start('C xenstored', command, path, {
    LD_PRELOAD: library,
    XENSTORED_RUNDIR: folder,
    XENSTORED_ROOTDIR: folder,
    XENSTORED_PATH: path,
  });
}

async function findC(): Promise<string> {
  for (const name of await readdir(XEN_FOLDERS)) {
    const program = `${XEN_FOLDERS}/${name}/bin/xenstored`;
    if (name.startsWith('xen-') && existsSync(program)) return program;
  }
  throw new NotMeasured('there is no C xenstored (Debian: apt-get install xen-utils)');
}

export async function startLeast(): Promise<XenstoreDaemon> {
  const program = await buildProgram('xenstore-least');
  const path = fresh('least');
  return XenstoreDaemon.start('the least in C', [program, path], path);
}
