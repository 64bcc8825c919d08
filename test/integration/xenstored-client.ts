/**
 * For the daemon's tests: the daemon as a process that may be killed, and clients at its socket that know what they were
 * told. A client speaks the wire protocol itself: nothing of what is tested helps it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CLI } from './harness.js';

export const T = {
  CONTROL: 0,
  DIRECTORY: 1,
  READ: 2,
  WATCH: 4,
  TRANSACTION_START: 6,
  TRANSACTION_END: 7,
  WRITE: 11,
  RM: 13,
  SET_PERMS: 14,
  WATCH_EVENT: 15,
  ERROR: 16,
} as const;

export function message(type: number, payload: string, id: number, tx: number): Buffer {
  const body = Buffer.from(payload, 'latin1');
  const header = Buffer.alloc(16);
  for (const [i, word] of [type, id, tx, body.length].entries()) header.writeUInt32LE(word, 4 * i);
  return Buffer.concat([header, body]);
}

export class Gone extends Error {}

/** A daemon in a directory of its own. */
export class TestDaemon {
  readonly home = mkdtempSync(join(tmpdir(), 'postern-xenstored-'));
  readonly socket = join(this.home, 'socket');
  readonly state = join(this.home, 'state');
  output = '';
  #child: ChildProcess | null = null;

  get pid(): number {
    return this.#child?.pid as number;
  }

  /** Resolves once it serves. @throws Error with its messages where it ends instead */
  async start(...options: string[]): Promise<void> {
    this.output = '';
    const args = [CLI, 'xenstored', '--socket', this.socket, ...options];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        this.output += text;
      });
    }
    const ended = once(child, 'close').then(() => {
      throw new Error(this.output);
    });
    await Promise.race([this.saying(/^export /m), ended]);
    ended.catch(() => {});
  }

  /** Resolves once the output shows it. */
  async saying(what: RegExp): Promise<void> {
    while (!what.test(this.output)) await new Promise((resolve) => setTimeout(resolve, 5));
  }

  /** @returns its exit status, or the signal that ended it */
  async end(signal: NodeJS.Signals): Promise<number | string | null> {
    const child = this.#child as ChildProcess;
    if (child.exitCode !== null || child.signalCode !== null) return child.exitCode ?? child.signalCode;
    const exit = once(child, 'close');
    child.kill(signal);
    await exit;
    return child.exitCode ?? child.signalCode;
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  async remove(): Promise<void> {
    await this.end('SIGKILL');
    rmSync(this.home, { recursive: true });
  }

  async client(): Promise<WireClient> {
    const socket = connect(this.socket);
    await once(socket, 'connect');
    return new WireClient(socket);
  }
}

interface Waiting {
  readonly id: number;
  resolve(payload: string): void;
  reject(error: Error): void;
}

export class WireClient {
  /** `path token` of each. */
  readonly events: string[] = [];
  onEvent: () => void = () => {};
  readonly #waiting: Waiting[] = [];
  #input = Buffer.alloc(0);
  #nextId = 1;
  #gone = false;

  constructor(readonly socket: Socket) {
    socket.on('data', (data: Buffer) => this.#receive(data));
    socket.on('error', () => {}).on('close', () => this.#end());
  }

  /** The reply's payload; an error's name with a `!`. Replies must come in order, each once. */
  ask(type: number, payload: string, tx = 0): Promise<string> {
    const { bytes, reply } = this.prepare(type, payload, tx);
    if (!this.#gone) this.socket.write(bytes);
    return reply;
  }

  /** A request that the caller sends, in parts perhaps. */
  prepare(type: number, payload: string, tx = 0): { bytes: Buffer; reply: Promise<string> } {
    const id = this.#nextId++;
    const reply = new Promise<string>((resolve, reject) => {
      if (this.#gone) reject(new Gone());
      else this.#waiting.push({ id, resolve, reject });
    });
    return { bytes: message(type, payload, id, tx), reply };
  }

  async begin(): Promise<number> {
    return Number.parseInt(await this.ask(T.TRANSACTION_START, '\0'), 10);
  }

  close(): void {
    this.socket.destroy();
  }

  #receive(data: Buffer): void {
    this.#input = Buffer.concat([this.#input, data]);
    while (this.#input.length >= 16) {
      const [type, id, , length] = [0, 4, 8, 12].map((at) => this.#input.readUInt32LE(at)) as [
        number,
        number,
        number,
        number,
      ];
      if (this.#input.length < 16 + length) return;
      const payload = this.#input.subarray(16, 16 + length).toString('latin1');
      this.#input = this.#input.subarray(16 + length);
      if (type === T.WATCH_EVENT) {
        this.events.push(payload.split('\0').slice(0, 2).join(' '));
        this.onEvent();
        continue;
      }
      const waiting = this.#waiting.shift();
      if (waiting?.id !== id) throw new Error(`reply to ${id} where ${waiting?.id} was waited for`);
      waiting.resolve(type === T.ERROR ? `!${payload.replace('\0', '')}` : payload);
    }
  }

  #end(): void {
    this.#gone = true;
    for (const { reject } of this.#waiting) reject(new Gone());
  }
}
