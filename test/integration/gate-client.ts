/** A XenStore client that says whatever the test wants: payloads with `|` for nul. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { bytes, decode, encode, type Message, TYPES } from '../unit/xenstore/harness.js';

const LIMIT_MS = 20_000;

export class GateClient {
  private received = Buffer.alloc(0);
  private readonly replies = new Map<number, (message: Message) => void>();
  private readonly onEnd = new Set<(why: string) => void>();
  private readonly events: string[] = [];
  private eventWaiter: ((event: string) => void) | undefined;
  private nextId = 1;

  private constructor(private readonly socket: Socket) {
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      for (const fail of this.onEnd) fail('the connection has ended');
    });
  }

  static async connect(path: string): Promise<GateClient> {
    const socket = connect(path);
    await once(socket, 'connect');
    return new GateClient(socket);
  }

  /** The reply's payload, or the error's name. */
  ask(type: string, payload: string, transaction = 0): Promise<string> {
    const id = this.send(type, payload, transaction);
    return new Promise((resolve, reject) => {
      const fail = (why: string) => reject(new Error(`${type} ${payload}: ${why}`));
      const timer = setTimeout(() => fail('no answer'), LIMIT_MS);
      this.onEnd.add(fail);
      this.replies.set(id, (message) => {
        clearTimeout(timer);
        this.onEnd.delete(fail);
        resolve(message.type === 'ERROR' ? message.payload.replace('|', '') : message.payload);
      });
    });
  }

  send(type: string, payload: string, transaction = 0): number {
    const id = this.nextId++;
    this.socket.write(encode(TYPES[type] as number, bytes(payload), id, transaction));
    return id;
  }

  /** The next event's payload. */
  nextEvent(): Promise<string> {
    const known = this.events.shift();
    if (known !== undefined) return Promise.resolve(known);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error('no event')), LIMIT_MS);
      this.eventWaiter = (event) => {
        clearTimeout(timer);
        resolve(event);
      };
    });
  }

  /** Stops reading. */
  pause(): void {
    this.socket.pause();
  }

  close(): void {
    this.onEnd.clear();
    this.socket.destroy();
  }

  private receive(chunk: Buffer): void {
    this.received = Buffer.concat([this.received, chunk]);
    for (;;) {
      const end = this.received.length < 16 ? Number.POSITIVE_INFINITY : 16 + this.received.readUInt32LE(12);
      if (this.received.length < end) return;
      const [message] = decode(this.received.subarray(0, end)) as [Message];
      this.received = this.received.subarray(end);
      if (message.type !== 'WATCH_EVENT') this.replies.get(message.requestId)?.(message);
      else if (this.eventWaiter === undefined) this.events.push(message.payload);
      else {
        const waiter = this.eventWaiter;
        this.eventWaiter = undefined;
        waiter(message.payload);
      }
    }
  }
}
