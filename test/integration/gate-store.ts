/** A XenStore daemon in the test's own process, to look into. */
import { once } from 'node:events';
import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import type { Connection } from '../../dist/xenstore/connection.js';
import { XenstoreServer } from '../../dist/xenstore/server.js';
import { bytes, decode, encode, TYPES } from '../unit/xenstore/harness.js';

export class StoreDaemon {
  private readonly store = new XenstoreServer({ now: () => performance.now() }, { hashSeed: 0x5eed });
  private readonly sockets = new Set<Socket>();
  private readonly connections = new Map<Connection, Socket>();
  private readonly own: Connection;

  private constructor(
    private readonly server: Server,
    readonly path: string,
  ) {
    this.own = this.store.connect({ domid: 0, kind: 'socket', sink: { ready: () => {}, closed: () => {} } });
    server.on('connection', (socket) => this.serve(socket));
  }

  static async start(path: string): Promise<StoreDaemon> {
    rmSync(path, { force: true });
    const server = createServer();
    const daemon = new StoreDaemon(server, path);
    server.listen(path);
    await once(server, 'listening');
    return daemon;
  }

  async stop(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    if (!this.server.listening) return;
    this.server.close();
    await once(this.server, 'close');
  }

  /** Ends all connections, as when a daemon dies that keeps its store. */
  dropAll(): void {
    for (const socket of this.sockets) socket.destroy();
  }

  read(path: string): string {
    this.own.receive(encode(TYPES.READ as number, bytes(`${path}|`)));
    const [reply] = decode(this.own.output().slice());
    this.own.sent(this.own.output().length);
    return reply?.payload ?? '';
  }

  write(path: string, value: string): void {
    this.own.receive(encode(TYPES.WRITE as number, bytes(`${path}|${value}`)));
    this.own.sent(this.own.output().length);
    this.send();
  }

  counts(): { connections: number; watches: number; transactions: number } {
    const { watches, domains } = this.store;
    return { connections: this.sockets.size, watches: watches.count, transactions: domains.control.transactions };
  }

  /** What is inconsistent. */
  check(): string[] {
    return this.store.check();
  }

  private serve(socket: Socket): void {
    this.sockets.add(socket);
    const sink = { ready: () => {}, closed: () => socket.destroy() };
    const connection = this.store.connect({ domid: 0, kind: 'socket', sink });
    this.connections.set(connection, socket);
    socket.on('data', (chunk: Buffer) => {
      connection.receive(chunk);
      this.send();
    });
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.sockets.delete(socket);
      this.connections.delete(connection);
      connection.close();
    });
  }

  private send(): void {
    for (const [connection, socket] of this.connections) {
      for (let output = connection.output(); output.length > 0; output = connection.output()) {
        socket.write(output.slice());
        connection.sent(output.length);
      }
    }
  }
}
