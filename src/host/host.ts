/**
 * The embedded host as the rest of Node sees it: its own thread (core-thread.ts), so that neither waits for the other.
 * This side owns the files it leaves behind and answers the control socket.
 */
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import type { Server } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Worker } from 'node:worker_threads';
import type { CommandMap, CommandName, DomainPlan, XenstoreMode } from './commands.js';
import { serveControl } from './control.js';
import type { CoreOptions, FromCore } from './core-thread.js';
import { allocateNative, libc } from './libc.js';
import { UserError } from './native-library.js';

export interface HostOptions {
  /** Where clients connect; without one a directory of this run's own is made, and removed at the end. */
  readonly socketPath?: string;
  /** File for the trace, one JSON object a line. */
  readonly tracePath?: string;
  readonly domains?: readonly DomainPlan[];
  /** Default: embedded. With 'external' nobody serves the store until a daemon has attached itself. */
  readonly xenstore?: XenstoreMode;
}

const one = allocateNative(4096);
one.view.setBigUint64(0, 1n, true);

export class Host {
  private readonly pending = new Map<number, { resolve(value: never): void; reject(error: Error): void }>();
  private nextId = 1;
  private control: Server | undefined;
  private closed = false;

  private constructor(
    private readonly worker: Worker,
    private readonly wakeFd: number,
    /** Clients' POSTERN_HOST. */
    readonly socketPath: string,
    /** Clients' XENSTORED_PATH. */
    readonly xenstorePath: string,
    /** A directory for files of this run. */
    readonly directory: string,
    private readonly ownsDirectory: boolean,
  ) {
    worker.on('message', (message: FromCore) => this.receive(message));
    worker.on('error', (error) => this.fail(error));
    worker.on('exit', () => this.fail(new Error('the host has ended')));
  }

  /** Starts a host and makes its first domains, with domids 1, 2, … */
  static async start(options: HostOptions = {}): Promise<Host> {
    const ownsDirectory = options.socketPath === undefined;
    const directory = ownsDirectory ? await mkdtemp(join(tmpdir(), 'postern-')) : dirname(options.socketPath as string);
    if (ownsDirectory) await chmod(directory, 0o711);
    const socketPath = options.socketPath ?? join(directory, 'host');
    const xenstorePath = `${socketPath}.xenstored`;
    const workerData: CoreOptions = {
      socketPath,
      xenstorePath,
      xenstore: options.xenstore ?? 'embedded',
      tracePath: options.tracePath,
      domains: options.domains ?? [],
    };
    const worker = new Worker(new URL('./core-thread.js', import.meta.url), { workerData });
    try {
      const [ready] = (await once(worker, 'message')) as [FromCore];
      if (ready.kind !== 'ready')
        throw new UserError(ready.kind === 'failed' ? ready.message : 'the host did not start');
      const host = new Host(worker, ready.wakeFd, socketPath, xenstorePath, directory, ownsDirectory);
      host.control = await serveControl(`${socketPath}.control`, (name, argument) => host.command(name, argument));
      return host;
    } catch (error) {
      await worker.terminate();
      if (ownsDirectory) await rm(directory, { recursive: true, force: true });
      throw error;
    }
  }

  /** Environment for an unmodified program. @param library from nativeLibrary() */
  environment(library: string): Record<string, string> {
    return { LD_PRELOAD: library, POSTERN_HOST: this.socketPath, XENSTORED_PATH: this.xenstorePath };
  }

  command<N extends CommandName>(name: N, argument: CommandMap[N]['argument']): Promise<CommandMap[N]['result']> {
    if (this.closed) return Promise.reject(new Error('the host has ended'));
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      this.pending.set(id, { resolve: resolve as (value: never) => void, reject });
      this.worker.postMessage({ id, name, argument });
      libc.write(this.wakeFd, one.address, 8);
    });
  }

  /** Ends everything and removes what it left behind. */
  async close(): Promise<void> {
    if (this.closed) return;
    this.control?.close();
    const exited = once(this.worker, 'exit');
    await this.command('stop', null).catch(() => {});
    await exited;
    const left = [this.socketPath, this.xenstorePath, `${this.socketPath}.control`];
    if (this.ownsDirectory) await rm(this.directory, { recursive: true, force: true });
    else for (const path of left) await rm(path, { force: true });
  }

  private receive(message: FromCore): void {
    if (message.kind !== 'result') return;
    const waiting = this.pending.get(message.id);
    this.pending.delete(message.id);
    if (message.error !== undefined) waiting?.reject(new UserError(message.error));
    else waiting?.resolve(message.result as never);
  }

  private fail(error: Error): void {
    this.closed = true;
    for (const waiting of this.pending.values()) waiting.reject(error);
    this.pending.clear();
  }
}
