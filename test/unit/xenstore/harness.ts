/**
 * A server with clients to type requests at: payloads are strings with one character a byte, `|` for nul.
 */

import type { CloseReason, Connection } from '../../../dist/xenstore/connection.js';
import { typeName } from '../../../dist/xenstore/operations/index.js';
import type { Denial } from '../../../dist/xenstore/quotas.js';
import {
  type ConnectOptions,
  type XenstoreHost,
  type XenstoreOptions,
  XenstoreServer,
} from '../../../dist/xenstore/server.js';

export const TYPES: Readonly<Record<string, number>> = Object.fromEntries(
  Array.from({ length: 27 }, (_, type) => [typeName(type), type]),
);

export interface Message {
  readonly type: string;
  readonly requestId: number;
  readonly transactionId: number;
  readonly payload: string;
}

export function encode(type: number, payload: Uint8Array, requestId = 0, transactionId = 0): Uint8Array {
  const message = new Uint8Array(16 + payload.length);
  const view = new DataView(message.buffer);
  [type, requestId, transactionId, payload.length].forEach((word, i) => {
    view.setUint32(4 * i, word, true);
  });
  message.set(payload, 16);
  return message;
}

export function bytes(text: string): Uint8Array {
  return Uint8Array.from(text.replaceAll('|', '\0'), (c) => c.charCodeAt(0));
}

export function decode(output: Uint8Array): Message[] {
  const view = new DataView(output.buffer, output.byteOffset, output.length);
  const messages: Message[] = [];
  for (let at = 0; at < output.length; ) {
    const word = (i: number) => view.getUint32(at + 4 * i, true);
    const end = at + 16 + word(3);
    const payload = String.fromCharCode(...output.subarray(at + 16, end)).replaceAll('\0', '|');
    messages.push({ type: typeName(word(0)), requestId: word(1), transactionId: word(2), payload });
    at = end;
  }
  return messages;
}

/** `READ hello`; for an event `path token`. */
export function show(message: Message): string {
  return `${message.type} ${message.payload}`.trimEnd();
}

export class Client {
  readonly connection: Connection;
  closed: CloseReason | null = null;
  ready = 0;
  #transactions = new Map<string, number>();

  constructor(server: XenstoreServer, options: Partial<ConnectOptions> & { domid: number }) {
    this.connection = server.connect({
      kind: options.domid === 0 ? 'socket' : 'ring',
      ...options,
      sink: {
        ready: () => {
          this.ready++;
        },
        closed: (reason) => {
          this.closed = reason;
        },
      },
    });
  }

  /** Sends without looking at the answer. `tx` is a number or a name given to a transaction by `begin`. */
  send(type: string, payload = '', tx: number | string = 0): void {
    const number = TYPES[type] ?? Number(type.slice(1));
    const id = typeof tx === 'number' ? tx : (this.#transactions.get(tx) ?? 0);
    this.connection.receive(encode(number, bytes(payload), 42, id));
  }

  /** Takes everything that waits. */
  take(): Message[] {
    const output = this.connection.output().slice();
    this.connection.sent(output.length);
    return decode(output);
  }

  /** Everything that came of a request, as text, in order. */
  all(type: string, payload = '', tx: number | string = 0): string[] {
    this.send(type, payload, tx);
    return this.take().map(show);
  }

  /** The reply to a request: its payload, or the error's name. Events that came with it are dropped. */
  ask(type: string, payload = '', tx: number | string = 0): string {
    this.send(type, payload, tx);
    const reply = this.take().find((m) => m.type !== 'WATCH_EVENT');
    if (reply === undefined) return 'no reply';
    return reply.type === 'ERROR' ? reply.payload.replace('|', '') : reply.payload;
  }

  begin(name: string): void {
    this.name(name, this.ask('TRANSACTION_START', '|'));
  }

  /** Gives a name to the transaction that a reply to TRANSACTION_START tells of. */
  name(name: string, reply: string): void {
    if (!/^\d+\|$/.test(reply)) throw new Error(`no transaction: ${reply}`);
    this.#transactions.set(name, Number.parseInt(reply, 10));
  }

  commit(name: string): string {
    return this.ask('TRANSACTION_END', 'T|', name);
  }

  /** Events that wait, as `path token`. */
  events(): string[] {
    return this.take()
      .filter((m) => m.type === 'WATCH_EVENT')
      .map((m) => m.payload.split('|').slice(0, 2).join(' '));
  }
}

export class World {
  now = 0;
  readonly denials: Denial[] = [];
  readonly log: string[] = [];
  readonly server: XenstoreServer;
  /** A local tool. */
  readonly tool: Client;

  constructor(host: Partial<XenstoreHost> = {}, options: Partial<XenstoreOptions> = {}) {
    this.server = new XenstoreServer(
      {
        now: () => this.now,
        onDenial: (denial) => this.denials.push(denial),
        log: (line) => this.log.push(line),
        ...host,
      },
      { hashSeed: 0x5eed, ...options },
    );
    this.tool = this.client(0);
  }

  client(domid: number, options: Partial<ConnectOptions> = {}): Client {
    return new Client(this.server, { domid, ...options });
  }

  /** An introduced domain with its ring and home directory. */
  guest(domid: number): Client {
    this.tool.ask('INTRODUCE', `${domid}|1|1|`);
    const guest = this.client(domid);
    this.tool.ask('MKDIR', `/local/domain/${domid}|`);
    this.tool.ask('SET_PERMS', `/local/domain/${domid}|n${domid}|`);
    return guest;
  }

  get domains() {
    return this.server.domains;
  }

  pass(ms: number): void {
    this.now += ms;
    this.server.tick();
  }
}
