/**
 * A hostile client behind the gate, before a real store and now and then a hostile one. What must never happen:
 *
 *   - a request upstream that the policy doesn't grant, or of a type that no client may send
 *   - a change of the store that the policy doesn't grant: looked at in the store itself, after every step
 *   - a value, a name or an event that the policy doesn't let the client know of
 *   - a request without its one answer, or answers out of order
 *   - anything left in gate or store when the clients have gone
 *   - an exception
 *
 * What the policy grants is worked out here anew, with regular expressions and from the policy's text.
 */
import type { Connection } from '../../dist/xenstore/connection.js';
import { BoundPolicy } from '../../dist/xenstore/gate/bound-policy.js';
import { Gate } from '../../dist/xenstore/gate/gate.js';
import { checkPolicy, type Policy } from '../../dist/xenstore/gate/policy.js';
import type { GateSession } from '../../dist/xenstore/gate/session.js';
import { typeName } from '../../dist/xenstore/operations/index.js';
import { XenstoreServer } from '../../dist/xenstore/server.js';
import { type Fuzzer, FuzzFailure, iterate } from './fuzzer.js';
import { type Oracle, oracleOf } from './gate-oracle.js';
import { Random } from './random.js';

const NAMES = ['a', 'b', '1', '2'] as const;
const DOMID = 1;
const HOME = '/local/domain/0';
const STEPS = 40;
/** Types that a gate may send upstream. */
const FORWARDED = new Set(['READ', 'GET_PERMS', 'DIRECTORY', 'DIRECTORY_PART', 'WRITE', 'MKDIR', 'RM', 'SET_PERMS'])
  .add('WATCH')
  .add('UNWATCH')
  .add('TRANSACTION_START')
  .add('TRANSACTION_END')
  .add('IS_DOMAIN_INTRODUCED');

const CHANGES = new Set(['WRITE', 'MKDIR', 'RM', 'SET_PERMS', 'TRANSACTION_END']);

interface Message {
  readonly type: number;
  readonly requestId: number;
  readonly transactionId: number;
  readonly payload: string;
}

export function encode({ type, requestId, transactionId, payload }: Message): Uint8Array {
  const bytes = new Uint8Array(16 + payload.length);
  const view = new DataView(bytes.buffer);
  for (const [i, word] of [type, requestId, transactionId, payload.length].entries()) view.setUint32(4 * i, word, true);
  for (let i = 0; i < payload.length; i++) bytes[16 + i] = payload.charCodeAt(i);
  return bytes;
}

function decode(bytes: Uint8Array): Message[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const messages: Message[] = [];
  for (let at = 0; at < bytes.length; ) {
    const word = (i: number) => view.getUint32(at + 4 * i, true);
    const end = at + 16 + word(3);
    if (end > bytes.length) throw new FuzzFailure('a message is not whole');
    const payload = String.fromCharCode(...bytes.subarray(at + 16, end));
    messages.push({ type: word(0), requestId: word(1), transactionId: word(2), payload });
    at = end;
  }
  return messages;
}

/** What the client has asked and not been answered, for judging what comes back. */
interface Asked {
  readonly requestId: number;
  readonly type: string;
  readonly path: string;
}

class FuzzClient {
  readonly session: GateSession;
  upstream: Connection | null = null;
  hostile = false;
  readonly asked: Asked[] = [];
  /** Tokens and paths of watches it has ever asked for. */
  readonly watched: { token: string; path: string }[] = [];
  /** Paths that it has tried to change. */
  readonly changed = new Set<string>();
  transactions: number[] = [0];
  nextRequest = 1;
  broken = false;

  constructor(session: GateSession) {
    this.session = session;
  }
}

class GateWorld {
  readonly oracle: Oracle;
  readonly gate: Gate;
  readonly server: XenstoreServer;
  readonly tool: Connection;
  readonly clients: FuzzClient[] = [];
  private now = 0;
  private state = new Map<string, string>();
  /** Something has gone upstream that may change the store. */
  private isTouched = false;

  constructor(
    private readonly random: Random,
    readonly policy: Policy,
    spoil: (gate: Gate) => void,
  ) {
    this.oracle = oracleOf(policy, { domid: DOMID, dm: 0 });
    const bound = new BoundPolicy(policy, { domid: DOMID, dm: 0 });
    this.gate = new Gate(bound, { now: () => this.now, trace: () => {} }, random.bits());
    this.server = new XenstoreServer({ now: () => this.now }, { hashSeed: random.bits() });
    this.tool = this.server.connect({ domid: 0, kind: 'socket', sink: { ready: () => {}, closed: () => {} } });
    spoil(this.gate);
    for (let i = 0; i < 12; i++) this.toolWrites();
    this.state = this.look();
  }

  step(): void {
    const { random } = this;
    this.now += random.below(100);
    const kind = random.below(24);
    const client = this.clients.length === 0 ? undefined : random.pick(this.clients);
    if (client === undefined || (kind === 0 && this.clients.length < 4)) return this.open();
    if (kind === 1) return this.close(client);
    if (kind === 2) return this.lose(client);
    if (kind === 3 && this.gate.policy.limits['unread-bytes'] > 0) client.hostile = random.oneIn(3);
    if (kind < 9) {
      this.toolWrites();
      this.state = this.look();
    } else if (kind < 11) {
      this.sendGarbage(client);
    } else {
      this.sendRequests(client, 1 + random.below(4));
    }
    for (const each of [...this.clients]) this.pump(each);
    if (this.isTouched) this.judgeStore();
    this.isTouched = false;
  }

  /** All clients go; nothing may be left. */
  end(): void {
    for (const client of [...this.clients]) this.close(client);
    const counts = this.gate.counts();
    for (const key of ['connections', 'watches', 'transactions'] as const) {
      if (counts[key] !== 0) throw new FuzzFailure(`${counts[key]} ${key} are left in the gate`);
    }
    if (this.server.watches.count !== 0) throw new FuzzFailure('watches are left upstream');
    if (this.server.domains.control.transactions !== 0) throw new FuzzFailure('transactions are left upstream');
    const problems = this.server.check();
    if (problems.length > 0) throw new FuzzFailure(problems.join('; '));
  }

  private open(): void {
    const session = this.gate.open(this.random.bits());
    if (session === null) return;
    const client = new FuzzClient(session);
    this.clients.push(client);
    this.connect(client);
    this.pump(client);
  }

  private close(client: FuzzClient): void {
    client.session.close();
    client.upstream?.close();
    this.clients.splice(this.clients.indexOf(client), 1);
  }

  private connect(client: FuzzClient): void {
    client.hostile = false;
    client.upstream = this.server.connect({ domid: 0, kind: 'socket', sink: { ready: () => {}, closed: () => {} } });
    client.session.upstreamBack();
  }

  private lose(client: FuzzClient): void {
    if (this.random.oneIn(2)) this.leaveInFlight(client);
    client.upstream?.close();
    client.upstream = null;
    client.session.upstreamLost();
    if (this.random.oneIn(2)) this.sendRequests(client, 2);
    this.connect(client);
  }

  /** Requests that upstream may have served and has not answered. */
  private leaveInFlight(client: FuzzClient): void {
    this.sendRequests(client, 3);
    const up = client.session.toUpstream().slice();
    client.session.upstreamTook(up.length);
    for (const message of decode(up)) this.judgeRequest(client, message);
    client.upstream?.receive(up.subarray(0, this.random.below(up.length + 1)));
  }

  private pump(client: FuzzClient): void {
    const { session } = client;
    for (let quiet = false; !quiet && session.ended === null; ) {
      const up = session.toUpstream().slice();
      session.upstreamTook(up.length);
      for (const message of decode(up)) this.judgeRequest(client, message);
      client.upstream?.receive(up);
      const down = client.upstream?.output().slice() ?? new Uint8Array(0);
      client.upstream?.sent(down.length);
      for (let at = 0; at < down.length; ) {
        const end = Math.min(down.length, at + 1 + this.random.below(200));
        session.fromUpstream(down.subarray(at, end));
        at = end;
      }
      if (client.hostile) session.fromUpstream(this.forged(client));
      if (session.upstreamBroken !== null) {
        client.upstream?.close();
        session.upstreamLost();
        this.connect(client);
      }
      session.tick();
      quiet = up.length === 0 && down.length === 0;
    }
    this.takeAnswers(client);
    if (session.ended !== null) this.close(client);
    else if (!client.hostile && client.asked.length > 0 && session.nextDeadlineMs() === null && !client.broken) {
      if (session.toUpstream().length === 0 && session.toClient().length === 0 && client.upstream !== null) {
        throw new FuzzFailure(`no answer to ${client.asked.map((a) => `${a.type} ${a.path}`).join(', ')}`);
      }
    }
  }

  private takeAnswers(client: FuzzClient): void {
    for (;;) {
      const bytes = client.session.toClient().slice();
      if (bytes.length === 0) return;
      client.session.clientTook(bytes.length);
      for (const message of decode(bytes)) this.judgeAnswer(client, message);
    }
  }

  // ---- what the client does

  private sendRequests(client: FuzzClient, count: number): void {
    const messages = Array.from({ length: count }, () => encode(this.request(client)));
    const bytes = Uint8Array.from(messages.flatMap((m) => [...m]));
    for (let at = 0; at < bytes.length; ) {
      const end = this.random.oneIn(2) ? bytes.length : Math.min(bytes.length, at + 1 + this.random.below(40));
      client.session.fromClient(bytes.subarray(at, end));
      at = end;
    }
  }

  /** Bytes that break something: a bit flipped, a random header, a wrong length. */
  private sendGarbage(client: FuzzClient): void {
    const bytes = encode(this.request(client, true));
    const at = 12 + this.random.below(bytes.length - 12);
    if (this.random.oneIn(2)) bytes[at] = this.random.bits();
    client.broken = true; // its stream means something else from here on
    client.asked.length = 0;
    client.session.fromClient(bytes);
    if (this.random.oneIn(2)) client.session.fromClient(this.random.bytes(this.random.below(64)));
  }

  private request(client: FuzzClient, unjudged = false): Message {
    const { random } = this;
    const type = random.oneIn(12)
      ? random.below(30)
      : random.pick([1, 2, 3, 4, 5, 6, 7, 11, 11, 12, 13, 14, 17, 21, 22]);
    const name = typeName(type);
    const path = this.path();
    const absolute = path.startsWith('/') || path.startsWith('@') ? path : `${HOME}/${path}`;
    const payload = this.payload(client, name, path);
    const transactionId = random.oneIn(3) ? random.pick(client.transactions) : random.oneIn(20) ? random.below(5) : 0;
    const requestId = client.nextRequest++;
    if (!unjudged) {
      client.asked.push({ requestId, type: name, path: absolute });
      if (name === 'WATCH') {
        const token = payload.split('\0')[1] ?? '';
        client.watched.push({ token, path: absolute });
      }
    }
    if (name === 'WRITE' || name === 'MKDIR') client.changed.add(absolute);
    return { type, requestId, transactionId, payload };
  }

  private payload(client: FuzzClient, name: string, path: string): string {
    const { random } = this;
    if (random.oneIn(30)) return `${path}${random.oneIn(2) ? '' : '\0\0'}`;
    switch (name) {
      case 'WRITE':
        return `${path}\0value ${random.below(100)}`;
      case 'WATCH':
        return `${path}\0t${random.below(6)}\0${random.oneIn(4) ? `${random.below(3)}\0` : ''}`;
      case 'UNWATCH': {
        const watch = client.watched.length > 0 ? random.pick(client.watched) : { path, token: 't0' };
        return `${watch.path}\0${watch.token}\0`;
      }
      case 'SET_PERMS':
        return `${path}\0${random.pick(['n0', 'n1', 'b0'])}\0${random.oneIn(2) ? `${random.pick(['r1', 'n1', 'b2'])}\0` : ''}`;
      case 'DIRECTORY_PART':
        return `${path}\0${random.below(20)}\0`;
      case 'TRANSACTION_START':
      case 'RESET_WATCHES':
        return '\0';
      case 'TRANSACTION_END':
        return random.oneIn(3) ? 'F\0' : 'T\0';
      case 'IS_DOMAIN_INTRODUCED':
        return `${random.below(3)}\0`;
      default:
        return `${path}\0`;
    }
  }

  private path(): string {
    const { random } = this;
    if (random.oneIn(25))
      return random.pick(['@releaseDomain', '@introduceDomain', '', '/', '//', '/a/', '/a//b', '../a']);
    const names = Array.from({ length: 1 + random.below(3) }, () => random.pick(NAMES)).join('/');
    return random.oneIn(4) ? names : `/${names}`;
  }

  /** Somebody else's change, a secret where the client may not read. */
  private toolWrites(): void {
    const { random } = this;
    const names = Array.from({ length: 1 + random.below(3) }, () => random.pick(NAMES));
    const path = `${random.oneIn(4) ? HOME : ''}/${names.join('/')}`;
    const kind = random.below(8);
    if (kind === 0) this.ask(13, `${path}\0`);
    else if (kind === 1) this.ask(14, `${path}\0n0\0r7\0`);
    else this.ask(11, `${path}\0secret of ${path};`);
  }

  private ask(type: number, payload: string): Message {
    this.tool.receive(encode({ type, requestId: 0, transactionId: 0, payload }));
    const [reply] = decode(this.tool.output().slice());
    this.tool.sent(this.tool.output().length);
    return reply as Message;
  }

  /** What a daemon that has gone bad might send. */
  private forged(client: FuzzClient): Uint8Array {
    const { random } = this;
    if (random.oneIn(3)) return random.bytes(random.below(80));
    const { link } = client.session;
    const sent = link.inFlight[0];
    const type = random.oneIn(2) ? 15 : random.oneIn(2) ? (sent?.sentType ?? 2) : random.below(30);
    const texts = [this.path(), `w${random.below(5)}`, 't0', `${random.below(9)}`, 'EAGAIN'];
    const payload = Array.from({ length: random.below(4) }, () => `${random.pick(texts)}\0`).join('');
    const requestId = random.oneIn(3) ? random.below(50) : (sent?.sentId ?? 0);
    return encode({ type, requestId, transactionId: random.below(3), payload });
  }

  // ---- the verdicts

  private judgeRequest(client: FuzzClient, { type, transactionId, payload }: Message): void {
    const name = typeName(type);
    const line = `${name} ${JSON.stringify(payload)}`;
    this.isTouched ||= CHANGES.has(name);
    if (!FORWARDED.has(name)) throw new FuzzFailure(`${line} went upstream`);
    if (['TRANSACTION_START', 'TRANSACTION_END'].includes(name)) return;
    const [path = '', ...others] = payload.split('\0');
    if (name === 'IS_DOMAIN_INTRODUCED') {
      if (!policyAsks(this.policy, path)) throw new FuzzFailure(`${line} went upstream`);
      return;
    }
    if (name === 'WATCH' && path.startsWith('@')) {
      if (!this.oracle.special(path)) throw new FuzzFailure(`${line} went upstream`);
      return;
    }
    if (name === 'UNWATCH') return;
    if (path !== '/' && !/^(\/[A-Za-z0-9_@-]+)+$/.test(path)) throw new FuzzFailure(`${line}: no path`);
    const rights = this.oracle.rights(path);
    const isGuard = transactionId !== 0 && [...client.changed].some((p) => p === path || p.startsWith(`${path}/`));
    const needed: Record<string, string> = {
      READ: 'read',
      DIRECTORY: 'list',
      DIRECTORY_PART: 'list',
      WRITE: 'write',
      MKDIR: 'create',
      RM: 'remove',
      SET_PERMS: 'perms',
      WATCH: 'watch',
    };
    const right = needed[name] ?? 'read';
    if (!rights.has(right) && !(name === 'GET_PERMS' && (isGuard || client.broken))) {
      throw new FuzzFailure(`${line} went upstream without ${right}`);
    }
    if (name === 'WATCH' && !/^w\d+$/.test(others[0] ?? '')) throw new FuzzFailure(`${line}: a token of the client's`);
  }

  private judgeAnswer(client: FuzzClient, message: Message): void {
    const { type, requestId, payload } = message;
    if (type === 15) return this.judgeEvent(client, payload);
    for (const [, path] of payload.matchAll(/secret of ([^;]*);/g)) {
      if (!client.hostile && !this.oracle.rights(path as string).has('read')) {
        throw new FuzzFailure(`the secret of ${path} got out`);
      }
    }
    if (client.broken) return;
    const asked = client.asked.shift();
    if (asked === undefined || asked.requestId !== requestId) {
      throw new FuzzFailure(`an answer to ${requestId}; ${asked?.requestId ?? 'none'} was next`);
    }
    if (type === 16) return;
    if (typeName(type) !== asked.type) throw new FuzzFailure(`${asked.type} answered with type ${type}`);
    if (asked.type === 'TRANSACTION_START')
      client.transactions = [...client.transactions, Number.parseInt(payload, 10)];
    if (asked.type === 'DIRECTORY' || asked.type === 'DIRECTORY_PART') {
      const names = payload.split('\0').slice(asked.type === 'DIRECTORY' ? 0 : 1);
      for (const name of names.filter((n) => n !== '')) {
        const child = asked.path === '/' ? `/${name}` : `${asked.path}/${name}`;
        if (!client.hostile && !this.oracle.mayList(child)) throw new FuzzFailure(`${child} was listed`);
      }
    }
  }

  private judgeEvent(client: FuzzClient, payload: string): void {
    const [path = '', token = ''] = payload.split('\0');
    const absolute = path.startsWith('/') || path.startsWith('@') ? path : `${HOME}/${path}`;
    const isWatched = client.watched.some(
      (w) => w.token === token && (w.path === absolute || w.path === '/' || absolute.startsWith(`${w.path}/`)),
    );
    if (!client.broken && !isWatched) throw new FuzzFailure(`an event of ${path} for ${token}, which nobody watches`);
    const isKnown = absolute.startsWith('@') ? this.oracle.special(absolute) : this.oracle.mayKnow(absolute);
    if (!isKnown) throw new FuzzFailure(`an event of ${absolute}`);
  }

  /** Nothing has changed in the store but what the policy grants. */
  private judgeStore(): void {
    const before = this.state;
    const after = this.look();
    this.state = after;
    for (const [path, node] of after) {
      const was = before.get(path);
      if (was === node) continue;
      const rights = this.oracle.rights(path);
      if (was === undefined) {
        if (!rights.has('create')) throw new FuzzFailure(`${path} was made`);
      } else if (valueIn(was) !== valueIn(node) && !rights.has('write')) {
        throw new FuzzFailure(`${path} was written`);
      } else if (permsIn(was) !== permsIn(node) && !this.oracle.mayHave(path, permsIn(node)) && !rights.has('create')) {
        throw new FuzzFailure(`${path} got the permissions ${permsIn(node)}`);
      }
    }
    for (const path of before.keys()) {
      if (!after.has(path) && !this.oracle.mayGo(path)) throw new FuzzFailure(`${path} was removed`);
    }
  }

  /** Every node: `permissions = value`. */
  private look(path = '/', into = new Map<string, string>()): Map<string, string> {
    const payload = `${path}\0`;
    const perms = this.ask(3, payload).payload.replaceAll('\0', ' ').trim();
    into.set(path, `${perms}=${this.ask(2, payload).payload}`);
    for (const name of this.ask(1, payload).payload.split('\0')) {
      if (name !== '') this.look(path === '/' ? `/${name}` : `${path}/${name}`, into);
    }
    return into;
  }
}

const permsIn = (node: string): string => node.slice(0, node.indexOf('='));
const valueIn = (node: string): string => node.slice(node.indexOf('=') + 1);

function policyAsks(policy: Policy, domid: string): boolean {
  return policy.introduced.some((entry) => entry.replace('{domid}', String(DOMID)).replace('{dm}', '0') === domid);
}

function randomPolicy(random: Random): Policy {
  const rights = ['read', 'list', 'write', 'create', 'remove', 'perms', 'watch'] as const;
  const pattern = (): string => {
    if (random.oneIn(20)) return random.pick(['/', '/**', '@releaseDomain', '@introduceDomain']);
    const names = Array.from({ length: 1 + random.below(3) }, () => random.pick([...NAMES, '*', '{domid}']));
    if (random.oneIn(3)) names.push('**');
    return `${random.oneIn(4) ? HOME : ''}/${names.join('/')}`;
  };
  const grants = Array.from({ length: 1 + random.below(6) }, () => {
    const path = pattern();
    if (path.startsWith('@')) return { paths: [path], rights: ['watch'] };
    const held = rights.filter(() => random.oneIn(2));
    const granted = held.length === 0 ? ['read'] : held;
    const paths = [path, pattern()].filter((p) => !p.startsWith('@'));
    return { paths, rights: granted, ...(granted.includes('perms') && { permissions: [['n0', 'n{domid}'], ['n1']] }) };
  });
  const limits = random.oneIn(2)
    ? {}
    : {
        watches: random.below(4),
        transactions: random.below(3),
        outstanding: 1 + random.below(3),
        nodes: random.below(4),
      };
  return checkPolicy({ name: 'fuzzed', grants, introduced: random.oneIn(2) ? ['{domid}'] : [], limits });
}

/** @param spoil breaks the gate, to see that it is found @param done is told what a gate has come to at its end */
export function fuzzGate(
  seed: number,
  iterations: number,
  spoil: (gate: Gate) => void = () => {},
  done: (gate: Gate) => void = () => {},
): void {
  iterate('gate', seed, iterations, (iteration) => {
    const random = new Random(seed + iteration);
    const world = new GateWorld(random, randomPolicy(random), spoil);
    for (let i = 0; i < STEPS; i++) world.step();
    world.end();
    done(world.gate);
  });
}

export const gateFuzzer: Fuzzer = { name: 'gate', smoke: 40, run: (seed, iterations) => fuzzGate(seed, iterations) };
