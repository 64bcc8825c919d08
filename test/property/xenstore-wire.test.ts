// Hostile bytes: whatever clients send, in whatever pieces, nothing throws, nothing leaks from one to another, and when
// they have left there is nothing left of them.
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { XS_TYPE_COUNT } from '../../dist/abi/xen/xs-wire.js';
import { bytes, Client, decode, encode, World } from '../unit/xenstore/harness.js';

const SECRET = 'the-secret-value';

const text = fc.oneof(
  fc.constantFrom(
    ...[
      '/|',
      '/local/domain/1|',
      '/local/domain/2/secret|',
      'data|',
      'data/a/b|',
      '/local/domain/1/x|',
      '@releaseDomain|',
    ],
    ...[
      'T|',
      'F|',
      '|',
      '0|',
      '1|',
      '2|',
      '65535|',
      '-1|',
      'tok|',
      'n1|',
      'r2|',
      'b1|',
      'n0|',
      'x'.repeat(3000),
      'x'.repeat(250),
    ],
    ...['quota|', 'set|', 'nodes|', 'check|', 'help|', '4294967296|', '999999999999999999999|'],
  ),
  fc.string({ unit: 'binary-ascii', maxLength: 20 }),
);

const message = fc
  .record({
    type: fc.oneof({ weight: 9, arbitrary: fc.nat(XS_TYPE_COUNT + 1) }, { weight: 1, arbitrary: fc.nat(0xffffffff) }),
    tx: fc.constantFrom(0, 0, 0, 1, 1, 2, 3, 0xffffffff),
    payload: fc.array(text, { maxLength: 4 }).map((parts) => parts.join('').slice(0, 4096)),
    lie: fc.constantFrom(...Array<number>(40).fill(-1), 4097, 0xffffffff, 0x80000000, 7),
  })
  .map(({ type, tx, payload, lie }) => {
    const m = encode(type, bytes(payload), 1, tx);
    if (lie >= 0) new DataView(m.buffer).setUint32(12, lie, true);
    return m;
  });

const event = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({ what: fc.constant('send' as const), client: fc.nat(3), message, split: fc.nat(40) }),
  },
  { weight: 3, arbitrary: fc.record({ what: fc.constant('take' as const), client: fc.nat(3), count: fc.nat(200) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      what: fc.constant('garbage' as const),
      client: fc.nat(3),
      data: fc.uint8Array({ maxLength: 64 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('leave' as const), client: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ what: fc.constant('time' as const), ms: fc.constantFrom(1, 15, 25_000) }) },
  {
    weight: 1,
    arbitrary: fc.record({ what: fc.constant('domain' as const), domid: fc.constantFrom(1, 2), gone: fc.boolean() }),
  },
);

/** Client 0 and 1 are domain 1's and 2's rings; 2 is a socket restricted to domain 1; 3 a second socket of it. */
class Fuzz {
  readonly world = new World({ domainExists: (domid) => domid < 4 }, { allowRestrict: true });
  readonly clients: Client[] = [];
  readonly incoming: Uint8Array[] = [];

  constructor() {
    const { tool } = this.world;
    for (const domid of [1, 2]) {
      tool.ask('INTRODUCE', `${domid}|1|1|`);
      tool.ask('MKDIR', `/local/domain/${domid}|`);
      tool.ask('SET_PERMS', `/local/domain/${domid}|n${domid}|`);
    }
    tool.ask('WRITE', `/local/domain/3/secret|${SECRET}`);
    tool.ask('SET_PERMS', '/local/domain/3/secret|n3|');
    tool.ask('SET_QUOTA', 'memory|20000|');
    for (let i = 0; i < 4; i++) this.connect(i);
  }

  connect(i: number): void {
    const options = i < 2 ? { domid: i + 1 } : { domid: 1, kind: 'socket' as const, privileged: false };
    this.clients[i] = new Client(this.world.server, options);
  }

  run(e: typeof event extends fc.Arbitrary<infer T> ? T : never): void {
    const { server } = this.world;
    if (e.what === 'time') this.world.pass(e.ms);
    else if (e.what === 'domain') e.gone ? server.domainGone(e.domid) : server.domainShutdown(e.domid);
    else this.act(e);
    this.world.tool.ask('WRITE', `/local/domain/3/secret|${SECRET}`);
    this.clients.forEach((client, i) => {
      if (!client.connection.open) this.connect(i);
    });
    expect(server.check()).toEqual([]);
  }

  act(e: Exclude<typeof event extends fc.Arbitrary<infer T> ? T : never, { what: 'time' } | { what: 'domain' }>): void {
    const client = this.clients[e.client] as Client;
    const { connection } = client;
    if (e.what === 'send') {
      connection.receive(e.message.subarray(0, e.split));
      connection.receive(e.message.subarray(e.split));
    } else if (e.what === 'garbage') connection.receive(e.data);
    else if (e.what === 'leave') connection.close();
    else {
      const output = connection.output();
      if (connection.open) connection.sent(Math.min(e.count, output.length));
    }
  }
}

it('arbitrary bytes never throw, accounts balance, and nothing stays of who has left', () => {
  fc.assert(
    fc.property(fc.array(event, { maxLength: 80, size: 'max' }), (events) => {
      const fuzz = new Fuzz();
      for (const e of events) fuzz.run(e);
      const { server, tool } = fuzz.world;
      for (const client of fuzz.clients) client.connection.close();
      server.store.collect(10_000);
      for (const domid of [1, 2]) server.domainGone(domid);
      expect(server.check()).toEqual([]);
      expect(server.domains.get(1)).toBeNull();
      expect([server.watches.count, server.store.snapshots.count, server.connections.size]).toEqual([0, 0, 1]);
      expect(tool.ask('DIRECTORY', '/local/domain|')).toBe('3|');
      expect(tool.ask('READ', '/local/domain/3/secret|')).toBe(SECRET);
    }),
    { numRuns: 300 },
  );
});

it('no reply and no event carries what its receiver may not read', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(3), message), { maxLength: 60, size: 'max' }), (sends) => {
      const fuzz = new Fuzz();
      for (const [i, m] of sends) {
        fuzz.run({ what: 'send', client: i, message: m, split: 16 });
        const client = fuzz.clients[i] as Client;
        const output = client.connection.output().slice();
        client.connection.sent(output.length);
        for (const { type, payload } of decode(output)) {
          expect(payload).not.toContain(SECRET);
          if (type === 'WATCH_EVENT') expect(payload).not.toMatch(/^\/local\/domain\/3\/secret\|(?!tok)[^|]*\|$/);
        }
      }
    }),
    { numRuns: 200 },
  );
});

it('a stream cut anywhere gives the same answers', () => {
  const requests = [
    'READ /|',
    'WRITE /t/a|value',
    'READ /t/a|',
    'DIRECTORY /t|',
    'WATCH /t|tok|',
    'WRITE /t/b|x',
    'READ /none|',
  ];
  const stream = requests.map((r) => {
    const [type, payload] = r.split(' ') as [string, string];
    return encode(
      new Map([
        ['READ', 2],
        ['WRITE', 11],
        ['DIRECTORY', 1],
        ['WATCH', 4],
      ]).get(type) as number,
      bytes(payload),
    );
  });
  const whole = Uint8Array.from(stream.flatMap((m) => [...m]));
  const answer = (cuts: readonly number[]): Uint8Array => {
    const client = new World().client(0);
    let from = 0;
    for (const cut of [...cuts, whole.length]) {
      client.connection.receive(whole.slice(from, cut));
      from = Math.max(from, cut);
    }
    return client.connection.output().slice();
  };
  const expected = answer([]);
  fc.assert(
    fc.property(fc.array(fc.nat(whole.length), { maxLength: 12 }), (cuts) => {
      expect(answer(cuts.sort((a, b) => a - b))).toEqual(expected);
    }),
    { numRuns: 200 },
  );
});
