// The store against a plain model, with transactions of several clients interleaved at random.
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { type Client, show, World } from '../unit/xenstore/harness.js';
import { type Change, type Fired, Model, parentOf, rights } from './xenstore-model.js';

const DOMIDS = [0, 0, 1, 2] as const;
const NAMES = ['a', 'b'];
const PERMS = ['n0|', 'r0|', 'n1|', 'b0|', 'n0|r1|', 'n1|b2|', 'n2|w1|', 'r1|n2|', 'n0|b1|r2|'];

interface Action {
  readonly client: number;
  readonly op: string;
  /** 0 for none, else which of the client's transactions. */
  readonly slot: number;
  readonly path: string;
  readonly perms: string;
}

interface Recorded {
  readonly op: string;
  readonly path: string;
  readonly argument: string;
  readonly reply: string;
}

interface OpenTransaction {
  readonly view: Model;
  readonly base: Model;
  readonly ops: Recorded[];
  /** What others have changed since it started. */
  readonly since: Change[];
  written: boolean;
  readonly fired: Map<string, Fired>;
}

const OPS = [
  'READ',
  'WRITE',
  'WRITE',
  'WRITE',
  'MKDIR',
  'RM',
  'RM',
  'DIRECTORY',
  'DIRECTORY',
  'GET_PERMS',
  'SET_PERMS',
];

const action: fc.Arbitrary<Action> = fc.record({
  // Mostly one of the local tools: their transactions get furthest.
  client: fc.constantFrom(0, 0, 0, 1, 1, 2, 3),
  op: fc.constantFrom(
    ...OPS,
    ...OPS,
    'start',
    'start',
    'start',
    'commit',
    'commit',
    'abort',
    'WATCH',
    'WATCH',
    'UNWATCH',
  ),
  slot: fc.constantFrom(0, 1, 1, 1, 2),
  path: fc.array(fc.constantFrom(...NAMES), { maxLength: 3 }).map((names) => `/${names.join('/')}`),
  perms: fc.constantFrom(...PERMS),
});

class Run {
  readonly world = new World({}, { hashSeed: 1 });
  readonly clients: Client[];
  readonly model = new Model();
  readonly open = new Map<string, OpenTransaction>();
  readonly watches: { client: number; path: string; token: string }[] = [];
  #serial = 0;

  constructor() {
    for (const domid of [1, 2]) this.world.tool.ask('INTRODUCE', `${domid}|1|1|`);
    this.clients = DOMIDS.map((domid) => this.world.client(domid, { kind: 'socket' }));
    this.model.nodes.set('/', { value: '', perms: 'n0|', children: ['tool'] });
    this.model.nodes.set('/tool', { value: '', perms: 'n0|', children: ['xenstored'] });
    this.model.nodes.set('/tool/xenstored', { value: '', perms: 'n0|', children: [] });
    this.world.tool.ask('SET_QUOTA', 'outstanding|0|');
    this.direct({ client: 0, op: 'SET_PERMS', slot: 0, path: '/', perms: 'b0|' });
  }

  step(a: Action): void {
    const key = `${a.client} ${a.slot}`;
    if (a.op === 'start') this.start(a, key);
    else if (a.op === 'commit' || a.op === 'abort') this.end(a, key);
    else if (a.op === 'WATCH' || a.op === 'UNWATCH') this.watch(a);
    else if (a.slot > 0 && this.open.has(key)) this.inside(a, key);
    else this.direct(a);
    expect(this.world.server.check()).toEqual([]);
  }

  /** Sends, lets turns lapse, and gives the reply and everybody's events. */
  exchange(client: number, op: string, payload: string, tx: string | number): { reply: string; events: string[][] } {
    (this.clients[client] as Client).send(op, payload, tx);
    this.world.pass(25);
    const all = this.clients.map((c) => c.take());
    const reply = all[client]?.find((m) => m.type !== 'WATCH_EVENT');
    const events = all.map((messages) => messages.filter((m) => m.type === 'WATCH_EVENT').map(show));
    return { reply: reply === undefined ? 'none' : reply.payload.replace(/^(E[A-Z0-9]+)\|$/, '$1'), events };
  }

  argument(a: Action): string {
    return a.op === 'WRITE'
      ? `value ${this.#serial++}`.repeat(1 + (this.#serial % 3))
      : a.op === 'SET_PERMS'
        ? a.perms
        : '';
  }

  direct(a: Action): void {
    const argument = this.argument(a);
    const domid = DOMIDS[a.client] as number;
    const before = this.model.clone();
    const expected = this.model.run(domid, a.op, a.path, argument);
    const { reply, events } = this.exchange(a.client, a.op, `${a.path}|${argument}`, 0);
    expect(reply, JSON.stringify(a)).toBe(expected);
    this.tell(this.model.changes, null);
    const all = this.model.fired.map((fired) => this.matches(fired, before));
    this.clients.forEach((_, i) => {
      expect(events[i], `events of ${JSON.stringify(a)}`).toEqual(all.flatMap((m) => m[i] as string[]));
    });
  }

  start(a: Action, key: string): void {
    if (a.slot === 0 || this.open.has(key)) return;
    const { reply } = this.exchange(a.client, 'TRANSACTION_START', '|', 0);
    (this.clients[a.client] as Client).name(`t${a.slot}`, reply);
    const [view, base] = [this.model.clone(), this.model.clone()];
    this.open.set(key, { view, base, ops: [], since: [], written: false, fired: new Map() });
  }

  inside(a: Action, key: string): void {
    const tx = this.open.get(key) as OpenTransaction;
    const argument = this.argument(a);
    const expected = tx.view.run(DOMIDS[a.client] as number, a.op, a.path, argument);
    const { reply, events } = this.exchange(a.client, a.op, `${a.path}|${argument}`, `t${a.slot}`);
    expect(reply, `in a transaction: ${JSON.stringify(a)}`).toBe(expected);
    expect(events.flat()).toEqual([]);
    tx.ops.push({ op: a.op, path: a.path, argument, reply });
    if (tx.view.changes.length > 0) tx.written = true;
    for (const fired of tx.view.fired) {
      const known = tx.fired.get(fired.path);
      tx.fired.set(fired.path, { ...fired, exact: fired.exact && (known?.exact ?? true) });
    }
  }

  end(a: Action, key: string): void {
    const tx = this.open.get(key);
    if (a.slot === 0 || tx === undefined) return;
    this.open.delete(key);
    const { reply, events } = this.exchange(a.client, 'TRANSACTION_END', a.op === 'commit' ? 'T|' : 'F|', `t${a.slot}`);
    if (a.op === 'abort' || !tx.written) {
      expect(reply).toBe('OK|');
      expect(events.flat()).toEqual([]);
      return;
    }
    const conflict = tx.ops.some((op) => tx.since.some((change) => inConflict(op, change)));
    if (reply === 'EAGAIN') {
      expect(conflict, 'EAGAIN without a conflict').toBe(true);
      expect(events.flat()).toEqual([]);
      return;
    }
    expect(reply).toBe('OK|');
    this.replay(tx, DOMIDS[a.client] as number, events);
  }

  /** A commit must be as if all of it had happened just now, with the same replies. */
  replay(tx: OpenTransaction, domid: number, events: string[][]): void {
    const before = this.model.clone();
    const changes: Change[] = [];
    for (const { op, path, argument, reply } of tx.ops) {
      expect(this.model.run(domid, op, path, argument), `replay of ${op} ${path}`).toBe(reply);
      changes.push(...this.model.changes);
    }
    this.tell(changes, null);
    const lasting = [...tx.fired.values()].filter(({ path }) => before.nodes.has(path) || this.model.nodes.has(path));
    const expected = lasting.map((fired) =>
      this.matches({ ...fired, before: before.nodes.get(fired.path)?.perms ?? null }, before),
    );
    this.clients.forEach((_, i) => {
      expect([...(events[i] as string[])].sort()).toEqual(expected.flatMap((m) => m[i] as string[]).sort());
    });
  }

  watch(a: Action): void {
    const token = `${a.client}-${a.path}`;
    const index = this.watches.findIndex((w) => w.token === token);
    const { reply, events } = this.exchange(a.client, a.op, `${a.path}|${token}|`, 0);
    if (a.op === 'WATCH') {
      expect(reply).toBe(index < 0 ? 'OK|' : 'EEXIST');
      expect(events.flat()).toEqual(index < 0 ? [`WATCH_EVENT ${a.path}|${token}|`] : []);
      if (index < 0) this.watches.push({ client: a.client, path: a.path, token });
    } else {
      expect(reply).toBe(index < 0 ? 'ENOENT' : 'OK|');
      if (index >= 0) this.watches.splice(index, 1);
    }
  }

  /** The events of one change, by client. */
  matches(fired: Fired, before: Model): string[][] {
    const now = this.model.nodes.get(fired.path) ?? before.nodes.get(fired.path);
    const above = this.model.nodes.get(parentOf(fired.path)) ?? before.nodes.get(parentOf(fired.path));
    const readable = [fired.before, now?.perms, above?.perms].filter((p) => typeof p === 'string');
    return this.clients.map((_, client) =>
      this.watches
        .filter((w) => w.client === client)
        .filter((w) => (fired.exact ? w.path === fired.path : isBelow(fired.path, w.path)))
        .filter(() => readable.some((perms) => (rights(DOMIDS[client] as number, perms) & 1) !== 0))
        .map((w) => `WATCH_EVENT ${fired.path}|${w.token}|`),
    );
  }

  tell(changes: readonly Change[], except: OpenTransaction | null): void {
    for (const tx of this.open.values()) if (tx !== except) tx.since.push(...changes);
  }

  /** Every node of the real store equals the model's, and nothing else is there. */
  compare(): void {
    const { tool } = this.world;
    for (const [path, node] of this.model.nodes) {
      expect(tool.ask('READ', `${path}|`)).toBe(node.value);
      expect(tool.ask('GET_PERMS', `${path}|`)).toBe(node.perms);
      expect(tool.ask('DIRECTORY', `${path}|`)).toBe(node.children.map((name) => `${name}|`).join(''));
    }
  }

  finish(): void {
    this.compare();
    for (const client of this.clients) client.connection.close();
    this.world.server.store.collect(10_000);
    expect(this.world.server.store.table.size).toBe(this.model.nodes.size);
    expect(this.world.server.store.snapshots.kept).toBe(0);
    expect(this.world.server.watches.count).toBe(0);
    expect(this.world.server.check()).toEqual([]);
  }
}

function isBelow(path: string, top: string): boolean {
  return top === '/' || path === top || path.startsWith(`${top}/`);
}

/** Whether a change by others could matter to an operation of a transaction. Generous; what it excludes never may. */
function inConflict({ op, path }: Recorded, change: Change): boolean {
  if (change.path === path)
    return !(change.kind === 'value' && (op === 'GET_PERMS' || op === 'DIRECTORY' || op === 'MKDIR'));
  if (op === 'RM') return isBelow(change.path, path) || (isBelow(path, change.path) && change.kind !== 'value');
  if (op === 'DIRECTORY' && parentOf(change.path) === path)
    return change.kind === 'created' || change.kind === 'removed';
  return isBelow(path, change.path) && change.kind !== 'value';
}

it('the store does what a plain model does, in any interleaving', () => {
  fc.assert(
    fc.property(fc.array(action, { minLength: 20, maxLength: 150, size: 'max' }), (actions) => {
      const run = new Run();
      for (const a of actions) run.step(a);
      run.finish();
    }),
    { numRuns: 200 },
  );
});
