/**
 * A gate between typed requests and a real store, with everything that goes upstream written down. Payloads are strings
 * with one character a byte, `|` for nul.
 */
import type { Connection } from '../../../../dist/xenstore/connection.js';
import { BoundPolicy } from '../../../../dist/xenstore/gate/bound-policy.js';
import { builtinPolicy } from '../../../../dist/xenstore/gate/builtin.js';
import type { GateRecord } from '../../../../dist/xenstore/gate/denials.js';
import { Gate } from '../../../../dist/xenstore/gate/gate.js';
import { checkPolicy, type Policy } from '../../../../dist/xenstore/gate/policy.js';
import type { GateSession } from '../../../../dist/xenstore/gate/session.js';
import { bytes, decode, encode, type Message, show, TYPES, World } from '../harness.js';

export function policyOf(value: string | object): Policy {
  if (typeof value !== 'string') return checkPolicy({ name: 'test', ...value });
  const policy = builtinPolicy(value);
  if (policy === undefined) throw new Error(`no policy ${value}`);
  return policy;
}

/** One connection of the device model. */
export class GateClient {
  readonly session: GateSession;
  /** What went upstream: `READ /a|`. */
  readonly sent: string[] = [];
  upstream: Connection | null = null;
  #transactions = new Map<string, number>();

  constructor(readonly world: GateWorld) {
    const session = world.gate.open();
    if (session === null) throw new Error('no connection');
    this.session = session;
    this.connect();
  }

  /** A connection upstream, to the store as it is now. */
  connect(): void {
    const sink = { ready: () => {}, closed: () => this.lose() };
    this.upstream = this.world.store.server.connect({ domid: 0, kind: 'socket', sink });
    this.session.upstreamBack();
    this.pump();
  }

  /** The connection upstream goes. */
  lose(): void {
    this.upstream?.close();
    this.upstream = null;
    this.session.upstreamLost();
  }

  /** Moves bytes until nothing moves. */
  pump(): void {
    const { session } = this;
    while (this.upstream !== null && session.ended === null) {
      const up = session.toUpstream().slice();
      for (const message of decode(up)) this.sent.push(line(message));
      session.upstreamTook(up.length);
      this.upstream.receive(up);
      const down = this.upstream.output().slice();
      this.upstream.sent(down.length);
      session.fromUpstream(down);
      if (session.upstreamBroken !== null) return this.lose();
      if (up.length === 0 && down.length === 0) return;
    }
    if (session.ended !== null) this.upstream?.close();
  }

  /** Sends without looking at the answer. `tx` is a number or a name given to a transaction by `begin`. */
  send(type: string, payload = '', tx: number | string = 0, requestId = 42): void {
    const number = TYPES[type] ?? Number(type.slice(1));
    const id = typeof tx === 'number' ? tx : (this.#transactions.get(tx) ?? 0);
    this.session.fromClient(encode(number, bytes(payload), requestId, id));
    this.pump();
  }

  /** Everything that waits. */
  take(): Message[] {
    this.pump();
    const output = this.session.toClient().slice();
    this.session.clientTook(output.length);
    return decode(output);
  }

  /** Everything that came of a request, as text, in order. */
  all(type: string, payload = '', tx: number | string = 0): string[] {
    this.send(type, payload, tx);
    return this.take().map(show);
  }

  /** The reply's payload, or the error's name. Events that came with it are dropped. */
  ask(type: string, payload = '', tx: number | string = 0): string {
    this.send(type, payload, tx);
    const reply = this.take().find((m) => m.type !== 'WATCH_EVENT');
    if (reply === undefined) return 'no reply';
    return reply.type === 'ERROR' ? reply.payload.replace('|', '') : reply.payload;
  }

  begin(name: string): void {
    const reply = this.ask('TRANSACTION_START', '|');
    if (!/^\d+\|$/.test(reply)) throw new Error(`no transaction: ${reply}`);
    this.#transactions.set(name, Number.parseInt(reply, 10));
  }

  /** Events that wait, as `path token`. */
  events(): string[] {
    return this.take()
      .filter((m) => m.type === 'WATCH_EVENT')
      .map((m) => m.payload.split('|').slice(0, 2).join(' '));
  }

  /** What went upstream since the last call. */
  forwarded(): string[] {
    return this.sent.splice(0);
  }

  close(): void {
    this.session.close();
    this.upstream?.close();
    this.upstream = null;
  }
}

/** `READ /a|`, with the transaction where there is one. Numbers that the gate makes up are left out. */
function line(message: Message): string {
  const tx = message.transactionId === 0 ? '' : ` in ${message.transactionId}`;
  return `${show(message)}${tx}`;
}

export class GateWorld {
  store = new World();
  readonly gate: Gate;
  readonly trace: GateRecord[] = [];
  now = 0;

  constructor(policy: string | object, parameters = { domid: 1, dm: 0 }) {
    const bound = new BoundPolicy(policyOf(policy), parameters);
    this.gate = new Gate(bound, { now: () => this.now, trace: (record) => this.trace.push(record) }, 0x5eed);
  }

  client(): GateClient {
    return new GateClient(this);
  }

  /** What was refused since the last call: `EACCES READ /a: no rule grants read`. */
  denials(): string[] {
    return this.trace
      .splice(0)
      .filter((record) => record.verdict === 'denied')
      .map(({ errno, operation, path, reason }) => `${errno} ${operation} ${path ?? '-'}: ${reason}`);
  }
}
