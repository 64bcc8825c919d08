/**
 * The embedded host as the rest of Node sees it: its own thread (core-thread.ts), so that neither waits for the other.
 * This side owns the files it leaves behind and answers the control socket.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import type { Server } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { CommandMap, CommandName, DomainPlan, XenstoreMode } from './commands.js';
import { serveControl } from './control.js';
import type { CoreOptions } from './core-thread.js';
import { ReactorThread } from './reactor-thread.js';

export interface HostOptions {
  /** Where clients connect; without one a directory of this run's own is made, and removed at the end. */
  readonly socketPath?: string;
  /** File for the trace, one JSON object a line. */
  readonly tracePath?: string;
  readonly domains?: readonly DomainPlan[];
  /** Default: embedded. With 'external' nobody serves the store until a daemon has attached itself. */
  readonly xenstore?: XenstoreMode;
  /** Takes what an administrator should see, such as a domain at its quota. */
  readonly onLog?: (line: string) => void;
}

export class Host {
  private control: Server | undefined;
  private closing: Promise<void> | undefined;

  private constructor(
    private readonly thread: ReactorThread<null>,
    /** Clients' POSTERN_HOST. */
    readonly socketPath: string,
    /** Clients' XENSTORED_PATH. */
    readonly xenstorePath: string,
    /** A directory for files of this run. */
    readonly directory: string,
    private readonly ownsDirectory: boolean,
  ) {}

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
    let thread: ReactorThread<null> | undefined;
    try {
      thread = await ReactorThread.start<null>(new URL('./core-thread.js', import.meta.url), workerData, {
        onLog: options.onLog,
      });
      const host = new Host(thread, socketPath, xenstorePath, directory, ownsDirectory);
      host.control = await serveControl(`${socketPath}.control`, (name, argument) => host.command(name, argument));
      return host;
    } catch (error) {
      await thread?.stop();
      if (ownsDirectory) await rm(directory, { recursive: true, force: true });
      throw error;
    }
  }

  /** Environment for an unmodified program. @param library from nativeLibrary() */
  environment(library: string): Record<string, string> {
    return { LD_PRELOAD: library, POSTERN_HOST: this.socketPath, XENSTORED_PATH: this.xenstorePath };
  }

  async command<N extends CommandName>(name: N, argument: CommandMap[N]['argument']): Promise<CommandMap[N]['result']> {
    return (await this.thread.command(name, argument)) as CommandMap[N]['result'];
  }

  /** Ends everything and removes what it left behind. */
  close(): Promise<void> {
    this.closing ??= this.end();
    return this.closing;
  }

  private async end(): Promise<void> {
    this.control?.close();
    await this.thread.stop();
    const left = [this.socketPath, this.xenstorePath, `${this.socketPath}.control`];
    if (this.ownsDirectory) await rm(this.directory, { recursive: true, force: true });
    else for (const path of left) await rm(path, { force: true });
  }
}
