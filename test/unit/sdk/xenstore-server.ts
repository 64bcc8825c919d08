/**
 * Servers for the client's tests, on sockets of a temporary directory: the real store behind Node's own sockets, and one
 * that answers with whatever bytes the test makes up.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { Connection } from '../../../dist/xenstore/connection.js';
import { typeName } from '../../../dist/xenstore/operations/index.js';
import { XenstoreServer } from '../../../dist/xenstore/server.js';

/** A request as the server sees it: one character a byte, `|` for nul. */
export interface Seen {
  readonly type: string;
  readonly typeNumber: number;
  readonly requestId: number;
  readonly transactionId: number;
  readonly payload: string;
}

abstract class Listener {
  readonly path: string;
  readonly seen: Seen[] = [];
  readonly #directory = mkdtempSync(join(tmpdir(), 'postern-xs-'));
  #server: Server | undefined;
  readonly #sockets = new Set<Socket>();

  constructor() {
    this.path = join(this.#directory, 'socket');
  }

  protected abstract accept(socket: Socket): void;

  async listen(): Promise<this> {
    const server = createServer((socket) => {
      this.#sockets.add(socket);
      socket.on('error', () => {}); // a client that goes is no failure
      socket.on('close', () => this.#sockets.delete(socket));
      this.accept(socket);
    });
    await new Promise<void>((resolve) => server.listen(this.path, resolve));
    this.#server = server;
    return this;
  }

  /** Ends the daemon: the listener and all connections. It can listen again. */
  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => (this.#server ? this.#server.close(resolve) : resolve(undefined)));
    this.#server = undefined;
  }

  async close(): Promise<void> {
    await this.stop();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** Requests by name, in the order in which they came. */
  names(): string[] {
    return this.seen.map((request) => request.type);
  }
}

/** The real store. */
export class StoreServer extends Listener {
  readonly server = new XenstoreServer({ now: () => performance.now() }, { hashSeed: 0x5eed, allowRestrict: true });
  /** Called before each request; what it returns is sent in place of the store's answer. */
  intercept: (request: Seen) => Buffer | undefined = () => undefined;

  protected override accept(socket: Socket): void {
    const flush = (): void => {
      const bytes = Buffer.from(connection.output());
      if (bytes.length === 0) return;
      connection.sent(bytes.length);
      socket.write(bytes);
    };
    const sink = { ready: () => queueMicrotask(flush), closed: () => socket.destroy() };
    const connection: Connection = this.server.connect({ domid: 0, kind: 'socket', sink });
    socket.on('close', () => connection.close());
    eachRequest(socket, (request, bytes) => {
      this.seen.push(request);
      const instead = this.intercept(request);
      if (instead !== undefined) socket.write(instead);
      else connection.receive(bytes);
    });
  }
}

/** Answers with what the test says. */
export class ScriptedServer extends Listener {
  constructor(private readonly answer: (request: Seen, socket: Socket) => Buffer | undefined) {
    super();
  }

  protected override accept(socket: Socket): void {
    eachRequest(socket, (request) => {
      this.seen.push(request);
      const bytes = this.answer(request, socket);
      if (bytes !== undefined) socket.write(bytes);
    });
  }
}

function eachRequest(socket: Socket, take: (request: Seen, bytes: Buffer) => void): void {
  let kept: Buffer = Buffer.alloc(0);
  socket.on('data', (chunk: Buffer) => {
    kept = Buffer.concat([kept, chunk]);
    while (kept.length >= 16 && kept.length >= 16 + kept.readUInt32LE(12)) {
      const end = 16 + kept.readUInt32LE(12);
      take(parseRequest(kept.subarray(0, end)), Buffer.from(kept.subarray(0, end)));
      kept = kept.subarray(end);
    }
  });
}

export function parseRequest(bytes: Buffer): Seen {
  const typeNumber = bytes.readUInt32LE(0);
  return {
    type: typeName(typeNumber),
    typeNumber,
    requestId: bytes.readUInt32LE(4),
    transactionId: bytes.readUInt32LE(8),
    payload: bytes.toString('latin1', 16).replaceAll('\0', '|'),
  };
}

/** A message with `|` for nul. */
export function message(type: number, requestId: number, payload: string, length?: number): Buffer {
  const body = Buffer.from(payload.replaceAll('|', '\0'), 'latin1');
  const header = Buffer.alloc(16);
  header.writeUInt32LE(type, 0);
  header.writeUInt32LE(requestId, 4);
  header.writeUInt32LE(length ?? body.length, 12);
  return Buffer.concat([header, body]);
}
