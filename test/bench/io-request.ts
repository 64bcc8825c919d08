/**
 * One I/O request to QEMU and back. The TypeScript host brings QEMU up restricted, as `run` does; then the very same
 * QEMU is asked by the host's own thread and, while that process is stopped, by a host in C that holds the same pages,
 * connection and doorbell (c/io-host.c), by turns.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import type { Duplex } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { type BenchOptions, type Figure, fromRounds, type Group, NotMeasured, type Round } from './figure.js';
import type { Order, Report } from './io-request-host.js';
import { buildProgram, cpus, firstCpu, setCpus } from './programs.js';

const TARGET = 1.25;
/** Counted by hand: strace slows one side down, so that it finds the other's answer without waiting. */
const SYSTEM_CALLS =
  'system calls a request: host and its likeness in C 4 to 5 (send; wait and receive the unmasking; wait for the ' +
  'doorbell), QEMU 5 to 6; the fewest a process could make: 4, with one wake-up on either side';
const COUNT = 1000;
/** Far more than a turn or a start can take. */
const DEADLINE_MS = 60_000;
const HOST = fileURLToPath(new URL('io-request-host.js', import.meta.url));

type Percentiles = readonly [p50: number, p99: number];

class Stage {
  private constructor(
    private readonly child: ChildProcess,
    private readonly answers: AsyncIterator<string>,
    private readonly channel: Duplex,
    /** Everybody who takes part. */
    readonly pids: readonly number[],
  ) {}

  static async open(): Promise<Stage> {
    const program = await buildProgram('io-host');
    const child = spawn(process.execPath, [HOST, program], { stdio: ['ignore', 'inherit', 'inherit', 'ipc', 'pipe'] });
    const ready = await inTime('the start', nextReport(child));
    if (ready.kind !== 'ready') throw new NotMeasured(ready.kind === 'failed' ? ready.message : 'not ready');
    const channel = child.stdio[4] as Duplex;
    const lines: Interface = createInterface({ input: channel });
    const pids = [child.pid as number, ready.qemu, ready.cHost];
    return new Stage(child, lines[Symbol.asyncIterator](), channel, pids);
  }

  /** The host's own thread asks. */
  async host(): Promise<Percentiles> {
    const reply = nextReport(this.child);
    this.child.send({ play: COUNT } satisfies Order);
    const played = await inTime('the host', reply);
    if (played.kind !== 'played') throw new Error(played.kind === 'failed' ? played.message : played.kind);
    return [played.p50, played.p99];
  }

  /** The C host asks, and nobody else is there. */
  async c(mode: 'same' | 'least'): Promise<Percentiles> {
    this.child.kill('SIGSTOP');
    try {
      this.channel.write(`${mode} ${COUNT}\n`);
      const { value, done } = await inTime('the C host', this.answers.next());
      if (done) throw new Error('the C host has ended');
      return (JSON.parse(value) as { io: Percentiles }).io;
    } finally {
      this.child.kill('SIGCONT');
    }
  }

  async close(): Promise<void> {
    const ended = once(this.child, 'exit');
    this.child.disconnect();
    await inTime('the end', ended);
  }
}

async function inTime<T>(what: string, promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} took over ${DEADLINE_MS / 1000} s`)), DEADLINE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What the host says next; that it ended, where it does. */
async function nextReport(child: ChildProcess): Promise<Report> {
  const over = new AbortController();
  const { signal } = over;
  const ended = once(child, 'exit', { signal }).then(() => [{ kind: 'failed', message: 'the host has ended' }]);
  ended.catch(() => {});
  try {
    const [report] = await Promise.race([once(child, 'message', { signal }), ended]);
    return report as Report;
  } finally {
    over.abort();
  }
}

async function measure(stage: Stage, suffix: string, { quick }: BenchOptions): Promise<Figure[]> {
  const same: Round[] = [];
  const least: Round[] = [];
  for (let round = -2; round < (quick ? 8 : 40); round++) {
    const value = await stage.host();
    const [baseline, floor] = [await stage.c('same'), await stage.c('least')];
    if (round < 0) continue;
    same.push({ value, baseline });
    least.push({ value, baseline: floor });
  }
  return [
    fromRounds(same, {
      name: `io-request.qemu${suffix}`,
      unit: 'us',
      target: TARGET,
      against: 'the same from a C host',
      ...(suffix === '' && { note: SYSTEM_CALLS }),
    }),
    fromRounds(least, { name: `io-request.qemu-floor${suffix}`, unit: 'us', against: 'C host, fewest calls' }),
  ];
}

export const ioRequest: Group = {
  name: 'io-request',
  async measure(options) {
    const stage = await Stage.open();
    try {
      const figures = await measure(stage, '', options);
      const cpu = firstCpu();
      const everywhere = cpus();
      for (const pid of stage.pids) setCpus(pid, cpu);
      figures.push(...(await measure(stage, '.one-core', options)));
      for (const pid of stage.pids) setCpus(pid, everywhere);
      return figures;
    } finally {
      await stage.close();
    }
  },
};
