/**
 * The load on a XenStore daemon: a generator in C (c/xenstore-load.c) that carries out one command after the other, and
 * where it and the daemon run.
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { buildProgram, cpus, setCpus } from './programs.js';

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

const children = new Set<ChildProcess>();
process.once('exit', () => {
  for (const child of children) child.kill('SIGKILL');
});

/** Has a process end with this one. */
export function endsWithUs(child: ChildProcess): void {
  children.add(child);
  child.once('exit', () => children.delete(child));
}

async function endProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 3000);
  await ended;
  clearTimeout(timer);
}

let generator: Promise<string> | undefined;

export class XenstoreLoad {
  private readonly answers: AsyncIterator<string>;

  private constructor(
    /** The daemon's. */
    readonly name: string,
    /** The daemon's. */
    readonly pid: number,
    /** Where the generator connects. */
    readonly path: string,
    private readonly process: ChildProcess,
    private readonly daemon: ChildProcess | undefined,
  ) {
    if (process.stdout === null) throw new Error('the generator has no output');
    this.answers = createInterface({ input: process.stdout })[Symbol.asyncIterator]();
  }

  /** @param daemon ends with the load, where given; else it is somebody else's */
  static async on(
    name: string,
    daemon: ChildProcess | number,
    path: string,
    variables: Readonly<Record<string, string>> = {},
  ): Promise<XenstoreLoad> {
    generator ??= buildProgram('xenstore-load');
    const pid = typeof daemon === 'number' ? daemon : (daemon.pid as number);
    const env = { ...process.env, ...variables };
    const load = spawn(await generator, [path, String(pid)], { stdio: ['pipe', 'pipe', 'inherit'], env });
    endsWithUs(load);
    return new XenstoreLoad(name, pid, path, load, typeof daemon === 'number' ? undefined : daemon);
  }

  /** Has the generator carry out a command. */
  async run(command: string): Promise<Answer> {
    this.process.stdin?.write(`${command}\n`);
    const { value, done } = await this.answers.next();
    if (done) throw new Error(`the load on ${this.name} has ended at ${command}`);
    return JSON.parse(value) as Answer;
  }

  /** On a core each, the generator stays awake while it waits: the daemon is measured, not how long a core takes to wake. */
  async place(placement: Placement): Promise<void> {
    const [first, second] = twoCpus();
    setCpus(this.pid, first);
    setCpus(this.process.pid as number, placement === 'one core' ? first : second);
    await this.run(placement === 'one core' ? 'sleep' : 'spin');
  }

  /**
   * From now on nothing else comes before the daemon's serving thread and the load, and the daemon's other threads are
   * free to run where there is room: what is measured is theirs.
   * @returns false where this isn't allowed
   */
  async goFirst(): Promise<boolean> {
    const threads = await readdir(`/proc/${this.pid}/task`);
    const used = await Promise.all(threads.map((id) => processorTime(`/proc/${this.pid}/task/${id}/stat`)));
    const serving = threads[used.indexOf(Math.max(...used))] as string;
    try {
      for (const id of [serving, String(this.process.pid)])
        execFileSync('chrt', ['-f', '-p', '1', id], { stdio: 'ignore' });
    } catch {
      return false;
    }
    for (const id of threads) if (id !== serving) execFileSync('taskset', ['-cp', cpus(), id], { stdio: 'ignore' });
    return true;
  }

  /** Memory that is the daemon's own, in bytes. */
  async anonymousBytes(): Promise<number> {
    const status = await readFile(`/proc/${this.pid}/status`, 'utf8');
    return Number(/^RssAnon:\s+(\d+) kB/m.exec(status)?.[1] ?? Number.NaN) * 1024;
  }

  async stop(): Promise<void> {
    await endProcess(this.process);
    if (this.daemon !== undefined) await endProcess(this.daemon);
  }
}

/** User and system time of a thread, in ticks. */
async function processorTime(path: string): Promise<number> {
  const fields = (await readFile(path, 'utf8')).replace(/.*\) /s, '').split(' ');
  return Number(fields[11]) + Number(fields[12]);
}

/** The first two CPUs that this process may use; one and the same where there is only one. */
function twoCpus(): [string, string] {
  const all = cpus()
    .split(',')
    .flatMap((part) => {
      const [from, to] = part.split('-').map(Number) as [number, number?];
      return Array.from({ length: (to ?? from) - from + 1 }, (_, i) => String(from + i));
    });
  return [all[0] as string, all[1] ?? (all[0] as string)];
}
