/**
 * Starts a thread that lives in a reactor (reactor-worker.ts) and speaks to it. The starting thread keeps what Node does
 * better: signals, the command line, progress.
 */
import { once } from 'node:events';
import { setFlagsFromString } from 'node:v8';
import { Worker } from 'node:worker_threads';
import { allocateNative, libc } from './libc.js';
import { UserError } from './native-library.js';
import { type FromReactor, STOP, type ToReactor } from './reactor-worker.js';

const one = allocateNative(4096);
one.view.setBigUint64(0, 1n, true);

/**
 * For short pauses: the collector stops a thread for as long as it takes to go through what is young. One thread is enough
 * for that little; helpers that are not given a processor at once would hold it up. Going through all that is old, which
 * may take 10 ms, begins only when there is this much of it: 100,000 nodes of a store are half as much.
 */
const SHORT_PAUSES = { maxYoungGenerationSizeMb: 3 };
const COLLECTOR = '--no-parallel-scavenge --initial-old-space-size=64';

export interface ReactorThreadOptions {
  /** For a service whose requests leave little behind. Holds for the process: it should have no other work. */
  readonly shortPauses?: boolean;
  /** Takes the service's lines for people. */
  readonly onLog?: ((line: string) => void) | undefined;
}

interface Waiting {
  resolve(value: unknown): void;
  reject(error: Error): void;
}

export class ReactorThread<Info> {
  /** Settles with the thread: undefined after `stop`, or what ended it. */
  readonly ended: Promise<Error | undefined>;
  private readonly pending = new Map<number, Waiting>();
  private nextId = 1;
  private stopping = false;
  private over = false;
  /** The thread's own word for why it ends. */
  private reason: UserError | undefined;

  private constructor(
    private readonly worker: Worker,
    private readonly wakeFd: number,
    /** What the service says of itself. */
    readonly info: Info,
    private readonly onLog: (line: string) => void,
  ) {
    worker.on('message', (message: FromReactor) => this.receive(message));
    this.ended = new Promise((resolve) => {
      worker.on('error', (error) => resolve(error));
      worker.on('exit', () => resolve(this.stopping ? undefined : (this.reason ?? new Error('the thread has ended'))));
    });
    void this.ended.then((error) => this.fail(error ?? new Error('the thread has ended')));
  }

  /**
   * @param module calls `serveReactor` @param data its argument, something that can be sent between threads
   * @throws UserError where it does not come up for a reason outside of it
   */
  static async start<Info>(
    module: URL,
    data: unknown,
    { shortPauses = false, onLog = () => {} }: ReactorThreadOptions = {},
  ): Promise<ReactorThread<Info>> {
    if (shortPauses) setFlagsFromString(COLLECTOR);
    const worker = new Worker(module, { workerData: data, ...(shortPauses && { resourceLimits: SHORT_PAUSES }) });
    const [ready] = (await once(worker, 'message')) as [FromReactor];
    if (ready.kind === 'ready') return new ReactorThread(worker, ready.wakeFd, ready.info as Info, onLog);
    await worker.terminate();
    throw new UserError(ready.kind === 'failed' ? ready.message : 'the thread did not start');
  }

  /** @throws UserError where the service refuses */
  command(name: string, argument: unknown = null): Promise<unknown> {
    if (this.over) return Promise.reject(new Error('the thread has ended'));
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve, reject });
      this.worker.postMessage({ id, name, argument } satisfies ToReactor);
      libc.write(this.wakeFd, one.address, 8);
    });
  }

  /** Ends it; resolves when the thread is gone. */
  async stop(): Promise<void> {
    if (this.over) return;
    this.stopping = true;
    await this.command(STOP).catch(() => {}); // it may be gone already
    await this.ended;
  }

  private receive(message: FromReactor): void {
    if (message.kind === 'failed') this.reason = new UserError(message.message);
    if (message.kind === 'log') this.onLog(message.line);
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
