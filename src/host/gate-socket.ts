/**
 * A gate's Unix socket on a reactor: whoever may connect is the gate's device model. Each connection gets a session of the
 * gate and a way upstream of its own.
 */
import { chmodSync, chownSync } from 'node:fs';
import { ERRNO } from '../abi/errno.js';
import type { Gate } from '../xenstore/gate/gate.js';
import type { GateSession } from '../xenstore/gate/session.js';
import { allocateNative, EPOLLIN, EPOLLOUT, errno, libc, MSG_DONTWAIT, MSG_NOSIGNAL, SOCK_STREAM } from './libc.js';
import type { Reactor } from './reactor.js';
import { acceptUnix, listenUnix } from './unix-socket.js';

const BUFFER_BYTES = 1 << 16;
const BACKLOG = 16;

/** The way from a session to XenStore. It calls the connection's `settle` when something has come back. */
export interface GateUpstream {
  /** Sends what the session has for it, as far as it goes; gives up a connection that the session finds broken. */
  flush(): void;
  close(): void;
}

export interface GateSocketOptions {
  readonly path: string;
  /** Default: 0600. */
  readonly mode?: number;
  /** Default: ours. */
  readonly uid?: number;
  readonly gid?: number;
  readonly connect: (connection: GateConnection) => GateUpstream;
}

export class GateSocket {
  readonly buffer = allocateNative(BUFFER_BYTES);
  private readonly listener: number;
  private readonly connections = new Set<GateConnection>();

  constructor(
    readonly reactor: Reactor,
    readonly gate: Gate,
    readonly options: GateSocketOptions,
  ) {
    const { path, mode = 0o600, uid, gid } = options;
    this.listener = listenUnix(path, SOCK_STREAM, BACKLOG, mode);
    if (uid !== undefined || gid !== undefined) chownSync(path, uid ?? -1, gid ?? -1);
    chmodSync(path, mode);
    reactor.add(this.listener, EPOLLIN, () => this.accept());
  }

  close(): void {
    this.reactor.remove(this.listener);
    libc.close(this.listener);
    for (const connection of [...this.connections]) connection.close();
  }

  forget(connection: GateConnection): void {
    this.connections.delete(connection);
  }

  private accept(): void {
    const accepted = acceptUnix(this.listener);
    if (accepted === undefined) return;
    const session = this.gate.open(accepted.peer.pid);
    if (session === null) {
      libc.close(accepted.fd);
      return;
    }
    this.connections.add(new GateConnection(this, session, accepted.fd));
  }
}

export class GateConnection {
  private readonly upstream: GateUpstream;
  private events = EPOLLIN;
  private isOpen = true;
  private isFull = false;
  private isSettling = false;
  private again = false;
  private cancelTick: (() => void) | undefined;

  constructor(
    private readonly socket: GateSocket,
    readonly session: GateSession,
    private readonly fd: number,
  ) {
    socket.reactor.add(fd, EPOLLIN, (events) => this.ready(events));
    this.upstream = socket.options.connect(this);
    this.settle();
  }

  get reactor(): Reactor {
    return this.socket.reactor;
  }

  /** Moves on whatever the session has for either side. To be called after every call of the session's. */
  settle(): void {
    if (this.isSettling) {
      this.again = true;
      return;
    }
    this.isSettling = true;
    do {
      this.again = false;
      this.upstream.flush();
      this.send();
      if (this.session.link.out.size > 0) this.upstream.flush();
    } while (this.again && this.isOpen);
    this.isSettling = false;
    if (!this.isOpen) return;
    if (this.session.ended !== null) return this.close();
    // A client that must wait mostly waits anyway: it is no longer listened to once it has said something (see `ready`).
    const input = this.session.wantsClient ? EPOLLIN : this.events & EPOLLIN;
    this.listenFor(input | (this.isFull ? EPOLLOUT : 0));
    if (this.cancelTick === undefined) this.armClock();
  }

  close(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.cancelTick?.();
    this.socket.forget(this);
    this.socket.reactor.remove(this.fd);
    libc.close(this.fd);
    this.session.close();
    this.upstream.close();
  }

  private ready(events: number): void {
    if (events & EPOLLOUT) this.isFull = false;
    const input = events & ~EPOLLOUT;
    if (input === EPOLLIN && !this.session.wantsClient) this.listenFor(this.events & ~EPOLLIN);
    else if (input !== 0 && !this.receive()) return this.close();
    this.settle();
  }

  /** @returns whether the client is still there */
  private receive(): boolean {
    const { buffer } = this.socket;
    const n = libc.recv(this.fd, buffer.address, BUFFER_BYTES, MSG_DONTWAIT);
    if (n <= 0) return n < 0 && errno() === ERRNO.EAGAIN;
    this.session.fromClient(buffer.bytes.subarray(0, n));
    return true;
  }

  private send(): void {
    const { session } = this;
    const { buffer } = this.socket;
    while (!this.isFull && session.out.size > 0) {
      const length = session.copyToClient(buffer.bytes);
      const sent = libc.send(this.fd, buffer.address, length, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && errno() !== ERRNO.EAGAIN) return session.close();
      this.isFull = sent < length;
      if (sent > 0) session.clientTook(sent);
    }
  }

  private listenFor(events: number): void {
    if (events === this.events) return;
    this.events = events;
    this.socket.reactor.modify(this.fd, events);
  }

  private armClock(): void {
    const deadline = this.session.nextDeadlineMs();
    if (deadline === null) return;
    this.cancelTick = this.reactor.after(Math.max(0, deadline - performance.now()), () => {
      this.cancelTick = undefined;
      this.session.tick();
      this.settle();
    });
  }
}
