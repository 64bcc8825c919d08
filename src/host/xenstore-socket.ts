/**
 * The XenStore daemon's Unix socket, as libxenstore expects it, on a reactor. Whoever may connect is dom0.
 */

import { ERRNO } from '../abi/errno.js';
import type { CloseReason, Connection } from '../xenstore/connection.js';
import { allocateNative, EPOLLIN, EPOLLOUT, errno, libc, MSG_DONTWAIT, MSG_NOSIGNAL, SOCK_STREAM } from './libc.js';
import { acceptUnix, listenUnix } from './unix-socket.js';
import type { ServedClient, XenstoreService } from './xenstore-service.js';

const BUFFER_BYTES = 1 << 16;
const MAX_CLIENTS = 4096;

export class XenstoreSocket {
  readonly listener: number;
  private readonly clients = new Set<SocketClient>();
  readonly input = allocateNative(BUFFER_BYTES);
  readonly buffer = allocateNative(BUFFER_BYTES);

  /** @param listener a socket that listens at the path already: a predecessor's */
  constructor(
    readonly service: XenstoreService,
    readonly path: string,
    listener?: number,
  ) {
    this.listener = listener ?? listenUnix(path, SOCK_STREAM);
    service.reactor.add(this.listener, EPOLLIN, () => this.accept());
  }

  close(): void {
    this.service.reactor.remove(this.listener);
    libc.close(this.listener);
    for (const client of [...this.clients]) client.drop();
  }

  forget(client: SocketClient): void {
    this.clients.delete(client);
  }

  /** Takes over a connected, non-blocking socket from a predecessor. */
  adopt(fd: number): Connection {
    const client = new SocketClient(this, fd);
    this.clients.add(client);
    return client.connection;
  }

  /** For a successor: the descriptors of the clients. */
  descriptors(): Map<Connection, number> {
    return new Map([...this.clients].map((client) => [client.connection, client.fd]));
  }

  private accept(): void {
    const accepted = acceptUnix(this.listener);
    if (!accepted) return;
    if (this.clients.size >= MAX_CLIENTS) {
      libc.close(accepted.fd);
      return;
    }
    this.clients.add(new SocketClient(this, accepted.fd));
  }
}

class SocketClient implements ServedClient {
  readonly connection: Connection;
  private events = EPOLLIN;
  private open = true;

  constructor(
    private readonly socket: XenstoreSocket,
    readonly fd: number,
  ) {
    const { service } = socket;
    const sink = { ready: () => service.due(this), closed: (_reason: CloseReason) => this.forget() };
    this.connection = service.server.connect({ domid: 0, kind: 'socket', sink });
    service.reactor.add(fd, EPOLLIN, (events) => this.serve(events));
  }

  /** Ends it from this side. */
  drop(): void {
    this.forget();
    this.connection.close();
  }

  flush(): void {
    const { connection } = this;
    const { bytes, address } = this.socket.buffer;
    let full = false;
    while (connection.out.size > 0 && !full) {
      const part = connection.copyOutput(bytes);
      const sent = libc.send(this.fd, address, part, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && errno() !== ERRNO.EAGAIN) return this.drop();
      full = sent < part;
      connection.sent(Math.max(sent, 0));
    }
    if (this.open) this.listenFor((connection.wantsInput ? EPOLLIN : 0) | (full ? EPOLLOUT : 0));
  }

  private serve(events: number): void {
    if (events & ~EPOLLOUT) this.read();
    if (events & EPOLLOUT) this.socket.service.due(this);
    this.socket.service.settle();
  }

  private read(): void {
    const { address, bytes } = this.socket.input;
    const n = libc.recv(this.fd, address, BUFFER_BYTES, MSG_DONTWAIT);
    if (n > 0) this.connection.receive(bytes, n);
    else if (n === 0 || errno() !== ERRNO.EAGAIN) this.drop();
  }

  private listenFor(events: number): void {
    if (events === this.events) return;
    this.events = events;
    this.socket.service.reactor.modify(this.fd, events);
  }

  private forget(): void {
    if (!this.open) return;
    this.open = false;
    const { service } = this.socket;
    service.forget(this);
    this.socket.forget(this);
    service.reactor.remove(this.fd);
    libc.close(this.fd);
  }
}
