/**
 * The host's side of the connection protocol: it stands for dom0's kernel towards client processes.
 *
 *   connection ──HELLO──▶ a process (answers go here)          ──EOF──▶ its memory and mappings are dropped
 *              ──OPEN───▶ an open file of a device (calls come here) ──EOF──▶ released
 *                     └─▶ or a descriptor that is the file from then on; the connection has no more use
 *              ──else───▶ closed
 *
 * Clients are hostile. A connection that breaks the protocol is closed with its reason in the trace; everything a client
 * can make the host keep is bounded, and given back when its connections end.
 */
import { randomBytes } from 'node:crypto';
import { ERRNO, errnoName } from '../abi/errno.js';
import { type Operation, PREEMPTED, type Preemption } from '../boundary/operation.js';
import { XenError } from '../boundary/xen-error.js';
import type { DeviceFile } from '../dom0/device-file.js';
import { EvtchnFile } from '../dom0/evtchn.js';
import type { Dom0Kernel } from '../dom0/kernel.js';
import { callDomidAt, callName } from './call-names.js';
import { Caller } from './caller.js';
import type { OpenFileRow } from './commands.js';
import type { HandedFiles } from './handed-files.js';
import { HypercallMemory } from './hypercall-memory.js';
import {
  allocateNative,
  checked,
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EPOLLET,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  errno,
  libc,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  MSG_TRUNC,
  SOCK_SEQPACKET,
} from './libc.js';
import { ProcessMappings } from './process-mappings.js';
import {
  MAX_MESSAGE,
  POSTERN_HELLO,
  POSTERN_IOCTL,
  POSTERN_MAGIC,
  POSTERN_MMAP,
  POSTERN_MUNMAP,
  POSTERN_OPEN,
  POSTERN_VERSION,
} from './protocol.js';
import type { Reactor } from './reactor.js';
import { type ReplyExtras, sendReply, sendWelcome } from './reply.js';
import { ProtocolViolation, Request } from './request.js';
import { type CallRecord, type Trace, verdictOf } from './trace.js';
import { acceptUnix, listenUnix, type Peer } from './unix-socket.js';

/** A connection's events: a peer that only stops sending has ended it, too. */
const LISTEN = EPOLLIN | EPOLLRDHUP;
const MAX_CONNECTIONS = 16384;
const MAX_CONNECTIONS_PER_PID = 4096;
/** A call runs this long at a stretch before others get their turn. */
const SLICE_MS = 2;

/** A connection: first nobody knows what it is, then a process's own or an open file. */
interface Connection {
  readonly fd: number;
  readonly peer: Peer;
  process?: ClientProcess;
  file?: OpenFile;
}

interface ClientProcess {
  readonly id: number;
  readonly tokenLow: number;
  readonly tokenHigh: number;
  readonly connection: Connection;
  readonly hypercallMemory: HypercallMemory;
  readonly mappings: ProcessMappings;
}

interface OpenFile {
  readonly device: DeviceFile;
  /** Ports that could not be delivered yet, because the process does not read. */
  readonly undelivered: Set<number>;
  /** eventfds that ring a port of this file without a message. */
  readonly doorbells: Map<number, number>;
  /** A call of it is in progress: nothing more is read from it until that is done. */
  busy: boolean;
  closed: boolean;
}

class Slice implements Preemption {
  private end = 0;
  start(): void {
    this.end = performance.now() + SLICE_MS;
  }
  due(): boolean {
    return performance.now() >= this.end;
  }
}

export class DeviceServer {
  private readonly listener: number;
  private readonly receiveBuffer = allocateNative(MAX_MESSAGE + 8);
  private readonly portBuffer = allocateNative(4096);
  private readonly connections = new Map<number, Connection>();
  private readonly perPid = new Map<number, number>();
  private readonly processes: (ClientProcess | undefined)[] = [undefined]; // id 0 is nobody
  private readonly freeIds: number[] = [];
  private readonly slice = new Slice();
  private request = new Request(this.receiveBuffer.bytes);
  private readonly caller = new Caller();

  constructor(
    private readonly reactor: Reactor,
    private readonly kernel: Dom0Kernel,
    private readonly trace: Trace,
    readonly path: string,
    private readonly handed?: HandedFiles,
  ) {
    this.listener = listenUnix(path, SOCK_SEQPACKET);
    reactor.add(this.listener, EPOLLIN, () => this.accept());
  }

  /** Number of live client connections. */
  get nrConnections(): number {
    return this.connections.size;
  }

  /** The device files that clients hold open. */
  openFiles(): OpenFileRow[] {
    const rows: OpenFileRow[] = [];
    for (const { fd: connection, file, peer } of this.connections.values()) {
      if (!file) continue;
      const { device, restrictedTo } = file.device;
      const doorbells = [...file.doorbells].map(([port, fd]) => ({ port, fd }));
      rows.push({ pid: peer.pid, device, connection, doorbells, ...(restrictedTo !== undefined && { restrictedTo }) });
    }
    for (const { pid, fd } of this.handed?.streams.open() ?? []) {
      rows.push({ pid, device: 'xenbus', connection: fd, doorbells: [] });
    }
    return rows;
  }

  close(): void {
    this.reactor.remove(this.listener);
    libc.close(this.listener);
    for (const connection of [...this.connections.values()]) this.drop(connection);
    this.handed?.close();
  }

  private accept(): void {
    const accepted = acceptUnix(this.listener);
    if (!accepted) return;
    const { fd, peer } = accepted;
    const ofPid = this.perPid.get(peer.pid) ?? 0;
    if (this.connections.size >= MAX_CONNECTIONS || ofPid >= MAX_CONNECTIONS_PER_PID) {
      this.note({ fd, peer }, 'violation', `${ofPid} connections from this process, ${this.connections.size} in all`);
      libc.close(fd);
      return;
    }
    this.perPid.set(peer.pid, ofPid + 1);
    const connection: Connection = { fd, peer };
    this.connections.set(fd, connection);
    this.reactor.add(fd, LISTEN, (events) => this.ready(connection, events));
  }

  private ready(connection: Connection, events: number): void {
    if (events & EPOLLOUT && connection.file) this.deliverPending(connection, connection.file);
    if (!(events & ~EPOLLOUT)) return;
    const { address, view, bytes } = this.receiveBuffer;
    const length = libc.recv(connection.fd, address, bytes.length, MSG_DONTWAIT | MSG_TRUNC);
    if (length < 0 && errno() === ERRNO.EAGAIN) return;
    if (length === 0 && !(events & (EPOLLHUP | EPOLLRDHUP))) return; // an empty packet, which is not the end
    if (length <= 0) return this.drop(connection);
    try {
      if (length > bytes.length) throw new ProtocolViolation(`message of ${length} bytes`);
      if (length >= 4 && view.getUint32(0, true) === POSTERN_MAGIC) this.receive(connection, length);
      else if (connection.file) this.writeData(connection.file, length);
      else throw new ProtocolViolation('data on a connection that is no open file');
    } catch (error) {
      if (!(error instanceof ProtocolViolation)) throw error;
      this.note(connection, 'violation', error.message);
      this.drop(connection);
    }
  }

  /** What the program itself writes to an event channel file; other devices' refusal cannot be told to a plain write. */
  private writeData(file: OpenFile, length: number): void {
    try {
      file.device.write(this.receiveBuffer.bytes.subarray(0, length));
    } catch (error) {
      if (!(error instanceof XenError)) throw error;
    }
  }

  private receive(connection: Connection, length: number): void {
    const { request } = this;
    request.parse(length);
    if (request.kind === POSTERN_HELLO) return this.hello(connection, request);
    const process = this.processes[request.process];
    if (!process || process.tokenLow !== request.tokenLow || process.tokenHigh !== request.tokenHigh) {
      throw new ProtocolViolation('request of a process that has not said hello');
    }
    if (request.kind === POSTERN_MUNMAP) return this.munmap(connection, process, request);
    if (request.kind === POSTERN_OPEN) return this.open(connection, process, request);
    const { file } = connection;
    if (!file) throw new ProtocolViolation(`request kind ${request.kind} on a connection that is no open file`);
    if (request.kind === POSTERN_IOCTL) return this.ioctl(connection, file, process, request);
    if (request.kind === POSTERN_MMAP) return this.mmap(file, process, request);
    throw new ProtocolViolation(`request of unknown kind ${request.kind}`);
  }

  private hello(connection: Connection, request: Request): void {
    if (connection.process || connection.file) throw new ProtocolViolation('a second hello');
    if (request.arg !== POSTERN_VERSION) {
      throw new ProtocolViolation(`client speaks protocol version ${request.arg}, the host ${POSTERN_VERSION}`);
    }
    const id = this.freeIds.pop() ?? this.processes.length;
    const token = randomBytes(8);
    const process: ClientProcess = {
      id,
      tokenLow: token.readUInt32LE(0),
      tokenHigh: token.readUInt32LE(4),
      connection,
      hypercallMemory: new HypercallMemory(),
      mappings: new ProcessMappings(),
    };
    this.processes[id] = process;
    connection.process = process;
    if (!sendWelcome(connection.fd, id, process.tokenLow, process.tokenHigh)) this.drop(connection);
  }

  private open(connection: Connection, process: ClientProcess, request: Request): void {
    if (connection.process || connection.file) throw new ProtocolViolation('open on a connection in use');
    const name = Buffer.from(request.blockBytes(0) ?? []).toString('latin1');
    try {
      const handed = this.handed?.open(name, connection.peer.pid);
      if (handed !== undefined) {
        this.finish(process, request, 0, { device: name, call: 'open' }, { runs: [], files: [handed] });
        libc.close(handed);
        return;
      }
      const file: OpenFile = {
        device: this.kernel.open(name, (port) => this.deliver(connection, file, port)),
        undelivered: new Set(),
        doorbells: new Map(),
        busy: false,
        closed: false,
      };
      connection.file = file;
      this.finish(process, request, 0, { device: name, call: 'open' });
    } catch (error) {
      this.fail(process, request, error, { device: name.slice(0, 32), call: 'open' });
    }
  }

  /** mmap: with 0 pages the client asks what an mmap of this file is; otherwise it is hypercall memory. */
  private mmap(file: OpenFile, process: ClientProcess, request: Request): void {
    const what = { device: file.device.device, call: 'mmap' };
    try {
      const isMemory = file.device.device === 'hypercall';
      if (!isMemory && file.device.device !== 'privcmd') throw new XenError('ENODEV', 'device cannot be mapped');
      if (request.cmd === 0) {
        return this.reply(process, request, isMemory ? 1 : 0);
      }
      if (!isMemory) throw new XenError('EINVAL', 'only /dev/xen/hypercall hands out memory');
      const fd = process.hypercallMemory.map(request.arg, request.cmd);
      const run = { page: 0, nrPages: request.cmd, frame: 0, extent: { fd } as never };
      this.finish(process, request, 0, what, { runs: [run], files: [] });
      libc.close(fd);
    } catch (error) {
      this.fail(process, request, error, what);
    }
  }

  private munmap(connection: Connection, process: ClientProcess, request: Request): void {
    if (connection.process !== process) throw new ProtocolViolation('munmap on a connection of another process');
    process.hypercallMemory.unmap(request.arg, request.cmd);
    process.mappings.unmap(request.arg, request.cmd);
    this.reply(process, request, 0);
  }

  private ioctl(connection: Connection, file: OpenFile, process: ClientProcess, request: Request): void {
    const what = { device: file.device.device, call: callName(request.cmd), domid: this.domidOf(request) };
    let operation: Operation | undefined;
    try {
      const result = file.device.ioctl(
        request.cmd,
        request.arg,
        this.caller.of(connection.peer.pid, process.hypercallMemory, request),
      );
      if (typeof result === 'number') return this.finishIoctl(connection, file, process, request, result, what);
      operation = result;
      this.slice.start();
      const ret = operation.run(this.slice);
      if (ret === PREEMPTED) return this.preempt(connection, file, process, operation, what);
      this.finishIoctl(connection, file, process, request, ret, what, operation.name);
    } catch (error) {
      this.caller.abandon();
      this.fail(process, request, error, what, operation?.name);
    }
  }

  private domidOf(request: Request): number | undefined {
    const at = callDomidAt(request.cmd);
    return at === undefined ? undefined : request.peekU16(at);
  }

  /** The rest of the call runs a slice at a time; meanwhile its file is not read and its message kept aside. */
  private preempt(
    connection: Connection,
    file: OpenFile,
    process: ClientProcess,
    operation: Operation,
    what: CallOf,
  ): void {
    const { request } = this;
    request.detach();
    this.request = new Request(this.receiveBuffer.bytes);
    file.busy = true;
    this.reactor.remove(connection.fd);
    this.reactor.queue(() => {
      try {
        this.slice.start();
        const ret = operation.run(this.slice);
        if (ret === PREEMPTED) return false;
        this.finishIoctl(connection, file, process, request, ret, what, operation.name);
      } catch (error) {
        this.fail(process, request, error, what, operation.name);
      }
      file.busy = false;
      if (this.connections.get(connection.fd) === connection) {
        const events = file.undelivered.size > 0 ? LISTEN | EPOLLOUT : LISTEN;
        this.reactor.add(connection.fd, events, (ready) => this.ready(connection, ready));
      }
      return true;
    });
  }

  private finishIoctl(
    connection: Connection,
    file: OpenFile,
    process: ClientProcess,
    request: Request,
    ret: number,
    what: CallOf,
    operation?: string,
  ): void {
    const runs = this.caller.deliver(process.mappings);
    const doorbell = what.call.startsWith('BIND_') ? this.ringable(connection, file, ret) : undefined;
    this.finish(process, request, ret, what, { runs, files: doorbell === undefined ? [] : [doorbell] }, operation);
    if (what.call === 'UNBIND') this.forgetDoorbells(file);
  }

  /** An eventfd that stands for EVTCHN_NOTIFY of one port: one write that wakes this thread, no message. */
  private ringable(connection: Connection, file: OpenFile, port: number): number | undefined {
    const { device } = file;
    if (!(device instanceof EvtchnFile)) return undefined;
    const bell = libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (bell < 0) return undefined; // out of descriptors: the client sends messages instead
    file.doorbells.set(port, bell);
    // Edge-triggered: every write wakes, and nobody needs to read it. After packets of the same round: a process that
    // unmasks a port and then has it notified finds the port unmasked.
    this.reactor.addLast(bell, EPOLLIN | EPOLLET, () => {
      this.countRing(connection.peer.pid);
      device.notify(port);
    });
    return bell;
  }

  private countRing(pid: number): void {
    if (!this.trace.detailed) return this.trace.countAllowed('NOTIFY');
    const time = performance.timeOrigin + performance.now();
    this.trace.record({ time, pid, device: 'evtchn', call: 'NOTIFY', ret: 0, verdict: 'allowed' });
  }

  private forgetDoorbells(file: OpenFile): void {
    for (const [port, bell] of file.doorbells) {
      if (file.device instanceof EvtchnFile && file.device.owns(port) && !file.closed) continue;
      file.doorbells.delete(port);
      this.reactor.remove(bell);
      libc.close(bell);
    }
  }

  private finish(
    process: ClientProcess,
    request: Request,
    ret: number,
    what: CallOf,
    extras?: ReplyExtras,
    operation?: string,
  ): void {
    if (this.trace.detailed) this.trace.record({ ...this.record(process, what), operation, ret, verdict: 'allowed' });
    else this.trace.countAllowed(what.call, operation);
    this.reply(process, request, ret, extras);
  }

  private fail(process: ClientProcess, request: Request, error: unknown, what: CallOf, operation?: string): void {
    if (!(error instanceof XenError)) throw error;
    this.trace.record({
      ...this.record(process, what),
      operation,
      ret: -error.errno,
      errno: error.code,
      verdict: verdictOf(error.code),
      reason: error.reason,
    });
    this.reply(process, request, -error.errno);
  }

  private record(process: ClientProcess, what: CallOf): Omit<CallRecord, 'ret' | 'verdict'> {
    return { time: performance.timeOrigin + performance.now(), pid: process.connection.peer.pid, ...what };
  }

  /** Answers, unless the process has gone: its descriptor's number may be somebody else's by now. */
  private reply(process: ClientProcess, request: Request, ret: number, extras?: ReplyExtras): void {
    if (this.processes[process.id] !== process) return;
    if (!sendReply(process.connection.fd, request, ret, extras)) this.stuck(process);
  }

  /** A process that asks without reading the answers has only itself to blame. */
  private stuck(process: ClientProcess): void {
    this.note(process.connection, 'violation', `process does not take its answers (${errnoName(errno())})`);
    this.drop(process.connection);
  }

  private deliver(connection: Connection, file: OpenFile, port: number): void {
    if (file.closed) return;
    if (file.undelivered.size === 0) {
      if (this.sendPort(connection.fd, port)) return;
      if (!file.busy) this.reactor.modify(connection.fd, LISTEN | EPOLLOUT);
    }
    file.undelivered.add(port); // a port queued twice is one event: bounded by the file's ports
  }

  private deliverPending(connection: Connection, file: OpenFile): void {
    for (const port of file.undelivered) {
      if (!this.sendPort(connection.fd, port)) return;
      file.undelivered.delete(port);
    }
    this.reactor.modify(connection.fd, LISTEN);
  }

  private sendPort(fd: number, port: number): boolean {
    this.portBuffer.view.setUint32(0, port, true);
    return libc.send(fd, this.portBuffer.address, 4, MSG_DONTWAIT | MSG_NOSIGNAL) === 4;
  }

  private drop(connection: Connection): void {
    if (this.connections.get(connection.fd) !== connection) return;
    this.connections.delete(connection.fd);
    const ofPid = (this.perPid.get(connection.peer.pid) ?? 1) - 1;
    if (ofPid > 0) this.perPid.set(connection.peer.pid, ofPid);
    else this.perPid.delete(connection.peer.pid);
    this.reactor.remove(connection.fd);
    const { process, file } = connection;
    if (process) {
      process.hypercallMemory.release();
      process.mappings.releaseAll();
      this.processes[process.id] = undefined;
      this.freeIds.push(process.id);
    }
    if (file) {
      file.closed = true;
      file.device.release();
      this.forgetDoorbells(file);
    }
    checked('close', libc.close(connection.fd));
  }

  private note(connection: Connection, verdict: CallRecord['verdict'], reason: string): void {
    this.trace.record({
      time: performance.timeOrigin + performance.now(),
      pid: connection.peer.pid,
      device: connection.file?.device.device ?? 'connection',
      call: 'connection',
      ret: -1,
      verdict,
      reason,
    });
  }
}

interface CallOf {
  readonly device: string;
  readonly call: string;
  readonly domid?: number | undefined;
}
