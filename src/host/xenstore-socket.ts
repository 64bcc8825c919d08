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
  private readonly listener: number;
  private readonly clients = new Set<SocketClient>();
  readonly input = allocateNative(BUFFER_BYTES);
  readonly buffer = allocateNative(BUFFER_BYTES);

  constructor(
    readonly service: XenstoreService,
    readonly path: string,
  ) {
    this.listener = listenUnix(path, SOCK_STREAM);
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
  private readonly connection: Connection;
  private events = EPOLLIN;
  private open = true;

  constructor(
    private readonly socket: XenstoreSocket,
    private readonly fd: number,
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
    const { buffer } = this.socket;
    let full = false;
    for (let bytes = connection.output(); bytes.length > 0 && !full; bytes = connection.output()) {
      const part = Math.min(bytes.length, BUFFER_BYTES);
      buffer.bytes.set(bytes.subarray(0, part));
      const sent = libc.send(this.fd, buffer.address, part, MSG_DONTWAIT | MSG_NOSIGNAL);
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
    if (n > 0) this.connection.receive(bytes.subarray(0, n));
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
