// A dumped and restored server goes on as the one it was made from; a stream that is damaged is refused or harmless.
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { dump, SlicedDump } from '../../dist/xenstore/migration/dump.js';
import { JournalRecords } from '../../dist/xenstore/migration/journal.js';
import { StreamError } from '../../dist/xenstore/migration/records.js';
import { Restorer } from '../../dist/xenstore/migration/restore.js';
import type { XenstoreServer } from '../../dist/xenstore/server.js';
import { bytes, Client, encode, show, TYPES, World } from '../unit/xenstore/harness.js';

const GUESTS = [1, 2];
/** Clients: three sockets, the last of them restricted to domain 2, then the guests' rings. */
const SOCKETS = 3;

interface Action {
  readonly client: number;
  readonly op: string;
  readonly slot: number;
  readonly path: string;
  readonly extra: string;
}

const PERMS = ['n0|', 'r0|', 'n1|', 'b0|', 'n0|r1|', 'n1|b2|', 'n2|w1|', 'r1|n2|', 'b2|', 'n0|r9|'];
const TREE_OPS = ['READ', 'WRITE', 'WRITE', 'MKDIR', 'RM', 'DIRECTORY', 'GET_PERMS', 'SET_PERMS'];
const OTHER_OPS = ['start', 'commit', 'abort', 'WATCH', 'WATCH', 'UNWATCH', 'INTRODUCE', 'SET_TARGET', 'SET_QUOTA'];

function actions(ops: readonly string[], maxLength: number, slots: number[] = [0, 0, 1, 2]): fc.Arbitrary<Action[]> {
  const action = fc.record({
    client: fc.constantFrom(0, 0, 1, 2, 3, 4),
    op: fc.constantFrom(...ops),
    slot: fc.constantFrom(...slots),
    path: fc
      .array(fc.constantFrom('a', 'b'), { maxLength: 3 })
      .map((names) => `/t/${names.join('/')}`.replace(/\/$/, '')),
    extra: fc.constantFrom(...PERMS),
  });
  return fc.array(action, { maxLength });
}

/** Several clients of one server, and their transactions. */
class Side {
  readonly world: World;
  readonly clients: Client[] = [];
  /** `client slot` → tx_id. */
  readonly open = new Map<string, number>();

  constructor(world = new World({ domainExists: (domid) => domid <= 3 }, { allowRestrict: true })) {
    this.world = world;
  }

  static fresh(): Side {
    const side = new Side();
    const { world } = side;
    world.tool.ask('SET_PERMS', '/|b0|');
    world.tool.ask('WRITE', '/t|root');
    world.tool.ask('SET_PERMS', '/t|b0|');
    for (let i = 0; i < SOCKETS; i++) side.clients.push(world.client(0));
    for (const domid of GUESTS) side.clients.push(world.guest(domid));
    expect((side.clients[2] as Client).ask('RESTRICT', '2|')).toBe('OK|');
    world.tool.connection.close();
    return side;
  }

  run({ client: index, op, slot, path, extra }: Action): string[] {
    const client = this.clients[index] as Client;
    const key = `${index} ${slot}`;
    const tx = slot === 0 ? 0 : (this.open.get(key) ?? 0);
    if (op === 'start') {
      if (slot === 0 || tx !== 0) return [];
      const [reply] = client.all('TRANSACTION_START', '|').slice(-1);
      const id = /^TRANSACTION_START (\d+)\|$/.exec(reply ?? '')?.[1];
      if (id !== undefined) this.open.set(key, Number(id));
      return [id === undefined ? String(reply) : 'started'];
    }
    if (op === 'commit' || op === 'abort') {
      if (tx === 0) return [];
      this.open.delete(key);
      client.send('TRANSACTION_END', op === 'commit' ? 'T|' : 'F|', tx);
    } else if (op === 'WATCH' || op === 'UNWATCH') {
      client.send(
        op,
        `${extra.length > 3 ? path : path.slice(1)}|${extra.slice(0, -1)}|${op === 'WATCH' && slot ? '1|' : ''}`,
      );
    } else if (op === 'INTRODUCE') {
      client.send(op, '3|7|9|');
    } else if (op === 'RELEASE') {
      client.send(op, '3|');
    } else if (op === 'GONE') {
      this.world.server.domainGone(GUESTS[slot] ?? 3);
    } else if (op === 'SET_TARGET') {
      client.send(op, `1|${GUESTS[slot] ?? 1}|`);
    } else if (op === 'SET_QUOTA') {
      client.send(op, slot === 0 ? 'nodes|500|' : '1|watches|20|');
    } else {
      client.send(op, payload(op, path, extra), tx);
    }
    return this.take();
  }

  /** What everybody has got. */
  take(): string[] {
    this.world.pass(200);
    return this.clients.flatMap((client, i) => client.take().map((m) => `${i} ${show(m)}`));
  }

  stream(extensions = true): Uint8Array {
    return dump(this.world.server, {
      extensions,
      fdOf: (c) => this.clients.findIndex((client) => client.connection === c),
    });
  }

  /** The tree as clients see it. */
  tree(): string[] {
    const { server } = this.world;
    return [...server.store.table]
      .filter((node) => node.death === 0)
      .map((n) => {
        const text = server.arena.text(n.pathRef, n.pathLength);
        return `${text}=${server.arena.text(n.valueRef, n.valueLength)} ${String.fromCharCode(...n.perms.text)}`;
      })
      .sort();
  }
}

function payload(op: string, path: string, extra: string): string {
  if (op === 'WRITE') return `${path}|${extra}`;
  return op === 'SET_PERMS' ? `${path}|${extra}` : `${path}|`;
}

function restored(stream: Uint8Array, from: Side | null = null): Side {
  const world = new World({ domainExists: (domid) => domid <= 3 }, { allowRestrict: true, hashSeed: 99 });
  world.tool.connection.close();
  const restorer = new Restorer(world.server);
  restorer.stream(stream);
  const side = new Side(world);
  restorer.finish({
    socket: (fd) => (fd >= 0 && fd < SOCKETS ? connect(side, world.server, fd, 0) : null),
    ring: (domid) => (GUESTS.includes(domid) ? connect(side, world.server, SOCKETS + domid - 1, domid) : null),
  });
  for (const [key, id] of from?.open ?? []) side.open.set(key, id);
  return side;
}

function connect(side: Side, server: XenstoreServer, index: number, domid: number): Client['connection'] {
  const client = new Client(server, { domid, kind: domid === 0 ? 'socket' : 'ring' });
  side.clients[index] = client;
  return client.connection;
}

it('is what it was made from: the same dump, the same answers and events', () => {
  const property = fc.property(
    actions([...TREE_OPS, ...OTHER_OPS.slice(3)], 25),
    actions(['start', 'start', ...TREE_OPS, ...TREE_OPS], 30),
    actions([...TREE_OPS, ...OTHER_OPS, 'commit', 'commit'], 40),
    (before, inTransactions, after) => {
      const a = Side.fresh();
      for (const action of before) a.run({ ...action, slot: 0 });
      // Nothing outside of transactions any more: so their snapshots are of the state that is handed on.
      for (const action of inTransactions) {
        if (action.op === 'start' || a.open.has(`${action.client} ${action.slot}`)) a.run(action);
      }
      const stream = a.stream();
      const b = restored(stream, a);
      expect(b.world.server.check()).toEqual([]);
      expect(Buffer.from(withoutClock(b.stream())).equals(Buffer.from(withoutClock(stream)))).toBe(true);
      expect(b.tree()).toEqual(a.tree());
      for (const action of after) expect(b.run(action), JSON.stringify(action)).toEqual(a.run(action));
      expect(b.tree()).toEqual(a.tree());
      expect(b.world.server.check()).toEqual([]);
    },
  );
  fc.assert(property, { numRuns: 300 });
});

it('lets a transaction commit exactly where it could have', () => {
  const property = fc.property(actions([...TREE_OPS, 'WATCH', 'start', 'start', 'start', 'commit'], 60), (before) => {
    const a = Side.fresh();
    for (const action of before) a.run(action);
    const stream = a.stream();
    const b = restored(stream, a);
    expect(b.world.server.check()).toEqual([]);
    // Handed on again at once, it is the same.
    const again = withoutClock(restored(b.stream(), a).stream());
    expect(Buffer.from(again).equals(Buffer.from(withoutClock(b.stream())))).toBe(true);
    for (const key of [...a.open.keys()]) {
      const [client, slot] = key.split(' ').map(Number) as [number, number];
      const action: Action = { client, slot, op: 'commit', path: '', extra: '' };
      const [x, y] = [a.run(action), b.run(action)];
      // What only read is told EAGAIN where what it read has changed: it could have committed, and may not know.
      if (x.join() !== y.join())
        expect([x.join(), y.join()]).toEqual([`${client} TRANSACTION_END OK|`, `${client} ERROR EAGAIN|`]);
    }
    expect(b.tree()).toEqual(a.tree());
    expect(b.world.server.check()).toEqual([]);
  });
  fc.assert(property, { numRuns: 300 });
});

/** The store's clock is no state: only its not going back is. */
function withoutClock(stream: Uint8Array): Uint8Array {
  const copy = stream.slice();
  const view = new DataView(copy.buffer);
  for (let at = 16; at < copy.length; at += 8 + view.getUint32(at + 4, true)) {
    if (view.getUint32(at, true) === 0x50530004) copy.fill(0, at + 8, at + 24);
  }
  return copy;
}

it('keeps what is under way: half requests, requests that wait, replies sent in part', () => {
  const request = encode(TYPES.WRITE as number, bytes('/t/a|value'), 7);
  const read = encode(TYPES.READ as number, bytes('/t|'), 8);
  const property = fc.property(fc.nat(request.length - 1), fc.nat(40), fc.nat(3), (cut, taken, reads) => {
    const a = Side.fresh();
    const [, client] = a.clients as [Client, Client];
    for (let i = 0; i < reads; i++) client.connection.receive(read);
    const whole = client.connection.output().slice();
    const sent = Math.min(taken, whole.length);
    client.connection.sent(sent);
    client.connection.receive(request.subarray(0, cut));
    const b = restored(a.stream());
    const other = b.clients[1] as Client;
    expect([...other.connection.output()]).toEqual([...whole.subarray(sent)]);
    expect(withoutClock(b.stream())).toEqual(withoutClock(a.stream()));
    other.connection.sent(whole.length - sent);
    other.connection.receive(request.subarray(cut));
    expect(other.take().map(show)).toEqual(['WRITE OK|']);
    expect(other.ask('READ', '/t/a|')).toBe('value');
  });
  fc.assert(property, { numRuns: 200 });
});

/** What outlives a daemon, as its dump shows it. */
function lasting(side: Side): string {
  const dumped = new SlicedDump(side.world.server, { extensions: true });
  const { chunk, done } = dumped.step(Number.POSITIVE_INFINITY);
  expect(done).toBe(true);
  return Buffer.from(withoutClock(chunk)).toString('latin1');
}

it('comes back from a snapshot that was taken bit by bit, and the journal beside it', () => {
  const changes = [...TREE_OPS, ...TREE_OPS, ...OTHER_OPS, 'RELEASE', 'GONE'];
  const inTransactions = Array<string>(8).fill('start').concat(Array<string>(6).fill('commit'));
  const changing = actions([...changes, ...inTransactions], 80, [0, 1, 1, 1]);
  const property = fc.property(changing, changing, fc.integer({ min: 1, max: 300 }), (before, after, slice) => {
    const a = Side.fresh();
    for (const action of before) a.run(action);
    const { server } = a.world;
    const journal = new JournalRecords(server);
    server.store.observer = journal;
    const dumping = new SlicedDump(server, { extensions: true, journal: 1 });
    const chunks: Uint8Array[] = [];
    const frames: Uint8Array[] = [];
    const states: string[] = [];
    let done = false;
    const go = (): void => {
      const step = dumping.step(slice);
      chunks.push(step.chunk.slice());
      done = step.done;
    };
    for (const action of after) {
      a.run(action);
      if (journal.length > 0) {
        frames.push(journal.bytes().slice());
        states.push(lasting(a));
        journal.clear();
      }
      if (!done) go();
    }
    while (!done) go();
    const world = new World({ domainExists: (domid) => domid <= 3 }, { allowRestrict: true });
    world.tool.connection.close();
    const b = new Side(world);
    const restorer = new Restorer(world.server);
    restorer.stream(Buffer.concat(chunks));
    for (const frame of frames) restorer.frame(frame);
    restorer.finish({ ring: (domid) => connect(b, world.server, SOCKETS + domid - 1, domid) });
    expect(world.server.check()).toEqual([]);
    if (frames.length > 0) expect(lasting(b)).toBe(states.at(-1));
    expect(b.tree()).toEqual(a.tree());
    server.store.observer = null;
    for (const client of a.clients) client.connection.close();
    expect(server.check()).toEqual([]);
  });
  fc.assert(property, { numRuns: 200 });
});

it('refuses damaged streams, or is sound after them', () => {
  const damage = fc.array(fc.record({ at: fc.nat(), to: fc.nat(255) }), { minLength: 1, maxLength: 2 });
  let refused = 0;
  let taken = 0;
  const property = fc.property(
    actions([...TREE_OPS, ...OTHER_OPS, 'start'], 25),
    damage,
    fc.oneof({ weight: 4, arbitrary: fc.constant(null) }, { weight: 1, arbitrary: fc.nat() }),
    (before, changes, end) => {
      const a = Side.fresh();
      for (const action of before) a.run(action);
      let stream = a.stream();
      for (const { at, to } of changes) stream[at % stream.length] = to;
      if (end !== null) stream = stream.slice(0, end % stream.length);
      try {
        const b = restored(stream);
        taken++;
        expect(b.world.server.check()).toEqual([]);
        for (const client of b.clients) client?.connection.close();
        expect(b.world.server.check()).toEqual([]);
      } catch (error) {
        if (!(error instanceof StreamError)) throw error;
        refused++;
      }
    },
  );
  fc.assert(property, { numRuns: 600 });
  expect(refused).toBeGreaterThan(50);
  expect(taken).toBeGreaterThan(20);
});
