/**
 * The XenStore daemon: the store, its socket, its state file, and what else it serves, in one thread.
 *
 * Begins with what a predecessor hands over, else with its state file, else fresh. Trusts whoever may connect to the socket
 * as dom0, as Xen's daemons do: the socket is the user's own (0600).
 */
import { randomInt } from 'node:crypto';
import { chmodSync, rmSync, statSync } from 'node:fs';
import { XS_CONTROL } from '../../abi/xs-wire.js';
import { UserError } from '../../host/native-library.js';
import type { Reactor } from '../../host/reactor.js';
import type { ReactorService } from '../../host/reactor-worker.js';
import { writeReport } from '../../host/xenstore-report.js';
import { XenstoreService } from '../../host/xenstore-service.js';
import { XenstoreSocket } from '../../host/xenstore-socket.js';
import type { UpdateSession } from '../../xenstore/live-update.js';
import { dump } from '../../xenstore/migration/dump.js';
import { StreamError } from '../../xenstore/migration/records.js';
import { Restorer } from '../../xenstore/migration/restore.js';
import { XenstoreServer } from '../../xenstore/server.js';
import type { Attachment } from './attachment.js';
import { writeFirstNodes } from './first-nodes.js';
import { Journal } from './journal.js';
import { becomeNext, checkProgram, commandFor, isSocket, takeHandover } from './live-update.js';
import { MessageTrace } from './message-trace.js';
import type { XenstoredInfo, XenstoredOptions } from './options.js';
import { clearSocketPath } from './socket-path.js';
import { StateFile } from './state-file.js';

interface Pending {
  readonly session: UpdateSession;
  readonly requestId: number;
}

export class Xenstored implements ReactorService {
  readonly info: XenstoredInfo;
  readonly #options: XenstoredOptions;
  readonly #reactor: Reactor;
  /** Takes what an administrator should see. */
  readonly #log: (line: string) => void;
  readonly #server: XenstoreServer;
  readonly #service: XenstoreService;
  readonly #socket: XenstoreSocket;
  readonly #trace: MessageTrace | null;
  readonly #files: StateFile | null;
  readonly #attachment: Attachment | null;
  #journal: Journal | null = null;
  #update: Pending | null = null;

  constructor(options: XenstoredOptions, reactor: Reactor, log: (line: string) => void, attachment: Attachment | null) {
    this.#log = log;
    this.#options = options;
    this.#reactor = reactor;
    this.#attachment = attachment;
    this.#files = options.statePath === undefined ? null : new StateFile(options.statePath);
    this.#files?.lock();
    this.#trace = options.tracePath === undefined ? null : new MessageTrace(options.tracePath);
    this.#server = this.#makeServer();
    this.#service = new XenstoreService(reactor, this.#server, { beforeReplies: () => this.#beforeReplies() });
    reactor.onIdle = () => this.#trace?.flush();
    if (options.handover !== undefined) {
      [this.#socket, this.info] = this.#takeOver(options.handover);
    } else {
      clearSocketPath(options.socketPath);
      this.info = this.#load();
      this.#socket = new XenstoreSocket(this.#service, options.socketPath);
      chmodSync(options.socketPath, 0o600);
    }
    attachment?.start(this.#service);
    this.#service.settle();
  }

  command(name: string): void {
    if (name !== 'live-update') throw new UserError(`there is no command ${name}`);
    throw new UserError(this.#becomeNext(null, null));
  }

  close(): void {
    this.#journal?.stop(true);
    rmSync(this.#options.socketPath, { force: true });
    this.#socket.close();
    this.#service.close();
    this.#attachment?.close();
    this.#files?.unlock();
    this.#trace?.close();
  }

  #makeServer(): XenstoreServer {
    const attachment = this.#attachment;
    const trace = this.#trace;
    return new XenstoreServer(
      {
        now: () => performance.now(),
        log: this.#log,
        report: (text, file) => writeReport(text, file, this.#log),
        ...(attachment !== null && {
          domainExists: (domid) => attachment.domainExists(domid),
          introduce: (domid, gfn, port) => attachment.introduce(domid, gfn, port),
          released: (domid) => attachment.released(domid),
        }),
        ...(trace !== null && {
          trace: (message) => trace.message(message),
          onDenial: (denial) => trace.denial(denial),
        }),
        update: {
          check: checkProgram,
          start: (session, requestId) => {
            this.#update = { session, requestId };
          },
        },
      },
      { hashSeed: randomInt(2 ** 32), allowRestrict: this.#options.allowRestrict === true },
    );
  }

  /** From the state file, or fresh. */
  #load(): XenstoredInfo {
    const { hostSocket } = this.#options;
    if (hostSocket !== undefined) this.#files?.claimFor(runOf(hostSocket));
    const restorer = new Restorer(this.#server);
    const loaded = this.#files?.load(restorer) ?? null;
    const notes: string[] = [];
    if (loaded !== null && loaded.dropped > 0) {
      notes.push(`dropped ${loaded.dropped} bytes of an unfinished write: nobody had been told of it`);
    }
    if (loaded === null) writeFirstNodes(this.#server);
    else this.#attachRings(restorer, undefined);
    this.#startJournal(loaded?.journal ?? 0, loaded === null);
    return { ...this.#counts(), from: loaded === null ? 'nothing' : 'state', notes };
  }

  #takeOver(handover: number): [XenstoreSocket, XenstoredInfo] {
    const restorer = new Restorer(this.#server);
    try {
      restorer.stream(takeHandover(handover));
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      throw new UserError(`what the former daemon handed over can't be used: ${error.message}`);
    }
    const listener = restorer.global?.socketFd ?? -1;
    if (!isSocket(listener)) throw new UserError('the former daemon has handed over no socket');
    const socket = new XenstoreSocket(this.#service, this.#options.socketPath, listener);
    this.#attachRings(restorer, (fd) => (isSocket(fd) ? socket.adopt(fd) : null));
    this.#startJournal(restorer.journal, false);
    return [socket, { ...this.#counts(), from: 'handover', notes: [] }];
  }

  #attachRings(
    restorer: Restorer,
    socket: ((fd: number) => ReturnType<XenstoreSocket['adopt']> | null) | undefined,
  ): void {
    const attachment = this.#attachment;
    const service = this.#service;
    restorer.finish({
      ...(socket !== undefined && { socket }),
      ...(attachment !== null && { ring: (domid, gfn, port) => attachment.ring(service, domid, gfn, port) }),
    });
  }

  #startJournal(last: number, atOnce: boolean): void {
    if (this.#files === null) return;
    this.#journal = new Journal(this.#server, this.#files, this.#reactor, last, this.#options.sync === true);
    this.#journal.start(atOnce);
  }

  #counts(): { nodes: number; connections: number } {
    const nodes = [...this.#server.domains].reduce((sum, domain) => sum + domain.nodes, 0);
    return { nodes, connections: this.#server.connections.size };
  }

  #beforeReplies(): void {
    this.#journal?.write();
    if (this.#update !== null) this.#updateNow(this.#update);
  }

  /** The OK goes into the dump: the next daemon sends it. */
  #updateNow({ session, requestId }: Pending): void {
    this.#update = null;
    this.#server.updateSession = null;
    const { connection, file, commandLine } = session;
    if (!connection.open) return;
    const reply = connection.lateReply(XS_CONTROL, requestId, 'OK');
    const error = this.#becomeNext(file, commandLine);
    connection.out.withdraw(reply);
    connection.lateReply(XS_CONTROL, requestId, error);
  }

  /** @returns why it didn't */
  #becomeNext(file: string | null, commandLine: string | null): string {
    this.#trace?.flush();
    const descriptors = this.#socket.descriptors();
    const stream = dump(this.#server, {
      extensions: true,
      global: { socketFd: this.#socket.listener, eventChannelFd: -1 },
      fdOf: (connection) => descriptors.get(connection) ?? -1,
      journal: this.#journal?.number ?? 0,
    });
    const command = commandFor(this.#options.program, file, commandLine);
    return becomeNext(command, stream, [this.#socket.listener, ...descriptors.values()]).message;
  }
}

/** Tells one run of a host from the next at the same place. */
function runOf(hostSocket: string): string {
  const { dev, ino, mtimeNs } = statSync(hostSocket, { bigint: true });
  return `${dev} ${ino} ${mtimeNs}\n`;
}
