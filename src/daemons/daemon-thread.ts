/**
 * Starts a daemon in a thread of its own (daemon-worker.ts) and speaks to it. The starting thread keeps what Node does
 * better: signals, the command line, progress.
 */
import { once } from 'node:events';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import { allocateNative, libc } from '../host/libc.js';
import { UserError } from '../host/native-library.js';
import { type FromDaemon, STOP, type ToDaemon } from './daemon-worker.js';

/**
 * Short pauses: a daemon's requests leave little behind, and the collector stops it for as long as it takes to go through
 * what is young. One thread is enough for that little; helpers that are not given a processor at once would hold it up.
 */
const YOUNG_MIB = 3;
setFlagsFromString('--no-parallel-scavenge');

const one = allocateNative(4096);
one.view.setBigUint64(0, 1n, true);

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class DaemonThread<Info> {
  /** Settles with the thread: undefined after `stop`, or what ended it. */
  readonly ended: Promise<Error | undefined>;
  private readonly pending = new Map<number, Waiting>();
  private nextId = 1;
  private stopping = false;
  private over = false;

  private constructor(
    private readonly worker: Worker,
    private readonly wakeFd: number,
    /** What the daemon says of itself. */
    readonly info: Info,
  ) {
    worker.on('message', (message: FromDaemon) => this.receive(message));
    this.ended = new Promise((resolve) => {
      worker.on('error', (error) => resolve(error));
      worker.on('exit', () => resolve(this.stopping ? undefined : new Error('the daemon has ended')));
    });
    void this.ended.then((error) => this.fail(error ?? new Error('the daemon has ended')));
  }

  /**
   * @param module calls `serveDaemon` @param data its argument, something that can be sent between threads
   * @throws UserError where the daemon does not come up for a reason outside of it
   */
  static async start<Info>(module: URL, data: unknown): Promise<DaemonThread<Info>> {
    const worker = new Worker(module, { workerData: data, resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MIB } });
    const [ready] = (await once(worker, 'message')) as [FromDaemon];
    if (ready.kind === 'ready') return new DaemonThread(worker, ready.wakeFd, ready.info as Info);
    await worker.terminate();
    throw new UserError(ready.kind === 'failed' ? ready.message : 'the daemon did not start');
  }

  /** @throws UserError where the daemon refuses */
  command(name: string, argument: unknown = null): Promise<unknown> {
    if (this.over) return Promise.reject(new Error('the daemon has ended'));
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve, reject });
      this.worker.postMessage({ id, name, argument } satisfies ToDaemon);
      libc.write(this.wakeFd, one.address, 8);
    });
  }

  /** Ends it; resolves when its thread is gone. */
  async stop(): Promise<void> {
    if (this.over) return;
    this.stopping = true;
    await this.command(STOP).catch(() => {}); // it may be gone already
    await this.ended;
  }

  private receive(message: FromDaemon): void {
    if (message.kind !== 'result') return;
    const waiting = this.pending.get(message.id);
    this.pending.delete(message.id);
    if (message.error !== undefined) waiting?.reject(new UserError(message.error));
    else waiting?.resolve(message.result);
  }

  private fail(error: Error): void {
    this.over = true;
    for (const waiting of this.pending.values()) waiting.reject(error);
    this.pending.clear();
  }
}
