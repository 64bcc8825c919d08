/**
 * The XenStore daemon's Unix socket, as libxenstore expects it, on the host's reactor. Whoever may connect is dom0.
 */

import { ERRNO } from '../abi/errno.js';
import type { CloseReason, Connection } from '../xenstore/connection.js';
import type { XenstoreServer } from '../xenstore/server.js';
import { allocateNative, EPOLLIN, EPOLLOUT, errno, libc, MSG_DONTWAIT, MSG_NOSIGNAL, SOCK_STREAM } from './libc.js';
import type { Reactor } from './reactor.js';
import { acceptUnix, listenUnix } from './unix-socket.js';

const BUFFER_BYTES = 1 << 16;
const MAX_CLIENTS = 4096;

interface Client {
  readonly fd: number;
  readonly connection: Connection;
  events: number;
}

export class XenstoreSocket {
  private readonly listener: number;
  private readonly input = allocateNative(BUFFER_BYTES);
  private readonly output = allocateNative(BUFFER_BYTES);
  private readonly clients = new Set<Client>();
  private readonly due = new Set<Client>();
  private cancelTick: (() => void) | undefined;

  constructor(
    private readonly reactor: Reactor,
    private readonly server: XenstoreServer,
    readonly path: string,
  ) {
    this.listener = listenUnix(path, SOCK_STREAM);
    reactor.add(this.listener, EPOLLIN, () => this.accept());
  }

  close(): void {
    this.cancelTick?.();
    this.reactor.remove(this.listener);
    libc.close(this.listener);
    for (const client of [...this.clients]) this.drop(client);
  }

  private accept(): void {
    const accepted = acceptUnix(this.listener);
    if (!accepted) return;
    const { fd } = accepted;
    if (this.clients.size >= MAX_CLIENTS) {
      libc.close(fd);
      return;
    }
    const sink = {
      ready: () => void this.due.add(client),
      closed: (_reason: CloseReason) => this.forget(client),
    };
    const connection = this.server.connect({ domid: 0, kind: 'socket', sink });
    const client: Client = { fd, connection, events: EPOLLIN };
    this.clients.add(client);
    this.reactor.add(fd, EPOLLIN, (events) => this.serve(client, events));
  }

  private serve(client: Client, events: number): void {
    if (events & ~EPOLLOUT) this.read(client);
    if (events & EPOLLOUT) this.due.add(client);
    this.flush();
  }

  private read(client: Client): void {
    const n = libc.recv(client.fd, this.input.address, BUFFER_BYTES, MSG_DONTWAIT);
    if (n > 0) client.connection.receive(this.input.bytes.subarray(0, n));
    else if (n === 0 || errno() !== ERRNO.EAGAIN) this.drop(client);
  }

  /** Sends what requests have left to send, to whomever; then asks again for what must wait. */
  private flush(): void {
    for (const client of this.due) {
      this.due.delete(client);
      if (this.clients.has(client)) this.send(client);
    }
    this.cancelTick?.();
    this.cancelTick = undefined;
    const deadline = this.server.nextDeadlineMs();
    if (deadline === null) return;
    this.cancelTick = this.reactor.after(Math.max(0, deadline - performance.now()), () => {
      this.cancelTick = undefined;
      this.server.tick();
      this.flush();
    });
  }

  private send(client: Client): void {
    const { connection } = client;
    let full = false;
    for (let bytes = connection.output(); bytes.length > 0 && !full; bytes = connection.output()) {
      const part = Math.min(bytes.length, BUFFER_BYTES);
      this.output.bytes.set(bytes.subarray(0, part));
      const sent = libc.send(client.fd, this.output.address, part, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && errno() !== ERRNO.EAGAIN) return this.drop(client);
      full = sent < part;
      connection.sent(Math.max(sent, 0));
    }
    if (!this.clients.has(client)) return;
    const events = (connection.wantsInput ? EPOLLIN : 0) | (full ? EPOLLOUT : 0);
    if (events === client.events) return;
    client.events = events;
    this.reactor.modify(client.fd, events);
  }

  private drop(client: Client): void {
    this.forget(client);
    client.connection.close();
  }

  private forget(client: Client): void {
    if (!this.clients.delete(client)) return;
    this.reactor.remove(client.fd);
    libc.close(client.fd);
  }
}
