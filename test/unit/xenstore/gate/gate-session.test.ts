/** The gate's sessions: watches and their events, transactions, order, limits, and what becomes of them upstream. */
import { describe, expect, it } from 'vitest';

import { encode, World } from '../harness.js';
import { type GateClient, GateWorld } from './gate-harness.js';

const ALL = {
  grants: [
    {
      paths: ['/', '/**'],
      rights: ['read', 'list', 'write', 'create', 'remove', 'perms', 'watch'],
      permissions: 'any',
    },
    { paths: ['@releaseDomain', '@introduceDomain'], rights: ['watch'] },
  ],
};

describe('watches', () => {
  const RULES = {
    grants: [
      { paths: ['/w'], rights: ['watch'] },
      { paths: ['/w/seen', '/w/way/to/it', '/w/some/*'], rights: ['read'] },
      { paths: ['/w/written'], rights: ['write', 'create'] },
    ],
  };

  it("clients' tokens stay here", () => {
    const world = new GateWorld(ALL);
    const client = world.client();
    client.ask('WATCH', '/a|secret|');
    client.ask('WATCH', '/a|w1|');
    client.ask('UNWATCH', '/a|secret|');
    expect(client.forwarded()).toEqual(['WATCH /a|w1|', 'WATCH /a|w2|', 'UNWATCH /a|w1|']);
    world.store.tool.ask('WRITE', '/a|1');
    expect(client.events()).toEqual(['/a w1']);
  });

  it('say what happens to what the client may know of, and to nothing else', () => {
    const world = new GateWorld(RULES);
    const client = world.client();
    const { tool } = world.store;
    expect(client.all('WATCH', '/w|t|')).toEqual(['WATCH OK|', 'WATCH_EVENT /w|t|']);
    for (const path of ['/w/hidden', '/w/written', '/w/hidden/seen', '/other', '/wx']) tool.ask('MKDIR', `${path}|`);
    expect(client.events()).toEqual([]);
    tool.ask('WRITE', '/w/seen|1');
    tool.ask('MKDIR', '/w/some/thing|');
    expect(client.events()).toEqual(['/w/seen t', '/w/some/thing t']);
    expect(world.gate.counts().hidden).toBe(3);
  });

  it('say without a name that something may have gone with what the client may not know of', () => {
    const world = new GateWorld(RULES);
    const client = world.client();
    const { tool } = world.store;
    tool.ask('MKDIR', '/w/way/to/it|');
    tool.ask('MKDIR', '/w/hidden/way|');
    client.ask('WATCH', '/w|t|');
    client.events();
    tool.ask('RM', '/w/way|');
    expect(client.events()).toEqual(['/w t']);
    tool.ask('RM', '/w/hidden|');
    expect(client.events()).toEqual([]);
  });

  it('on relative paths have relative events', () => {
    const world = new GateWorld(ALL);
    const client = world.client();
    client.ask('WATCH', 'x|rel|');
    client.ask('WATCH', '/local/domain/0/x|abs|');
    client.events();
    world.store.tool.ask('WRITE', '/local/domain/0/x/y|1');
    expect(client.events()).toEqual(['x/y rel', '/local/domain/0/x/y abs']);
  });

  it('count levels here: daemons differ in it', () => {
    const world = new GateWorld(ALL);
    const client = world.client();
    client.ask('WATCH', '/a|t|1|');
    client.ask('WATCH', '/|root|0|');
    expect(client.forwarded()).toEqual(['WATCH /a|w1|', 'WATCH /|w2|']);
    client.events();
    world.store.tool.ask('MKDIR', '/a/b/c|');
    world.store.tool.ask('WRITE', '/a/b|1');
    world.store.tool.ask('WRITE', '/a|1');
    expect(client.events()).toEqual(['/a/b t', '/a t']);
  });

  it('of domains tell what they are asked for', () => {
    const world = new GateWorld(ALL);
    const client = world.client();
    client.ask('WATCH', '@introduceDomain|i|');
    client.ask('WATCH', '@releaseDomain|r|1|');
    expect(client.events()).toEqual([]);
    world.store.guest(3);
    world.store.server.domainGone(3);
    expect(client.events()).toEqual(['@introduceDomain i', '@releaseDomain/3 r']);
  });

  it('are set once, bounded for all connections together, and gone with them', () => {
    const world = new GateWorld({ ...ALL, limits: { watches: 2 } });
    const a = world.client();
    const b = world.client();
    expect(a.ask('WATCH', '/a|t|')).toBe('OK|');
    expect(a.ask('WATCH', '/a|t|')).toBe('EEXIST');
    expect(b.ask('WATCH', '/a|t|')).toBe('OK|');
    expect(b.ask('WATCH', '/b|t|')).toBe('E2BIG');
    expect(a.ask('UNWATCH', '/a|t|')).toBe('OK|');
    expect(a.ask('UNWATCH', '/a|t|')).toBe('ENOENT');
    expect(b.ask('WATCH', '/b|t|')).toBe('OK|');
    b.close();
    expect(world.gate.watches).toBe(0);
    expect(world.store.server.watches.count).toBe(0);
  });

  it('and transactions are reset for the one connection only', () => {
    const world = new GateWorld(ALL);
    const a = world.client();
    const b = world.client();
    a.ask('WATCH', '/a|t|');
    b.ask('WATCH', '/a|t|');
    a.begin('x');
    a.forwarded();
    expect(a.ask('RESET_WATCHES', '|')).toBe('OK|');
    expect(a.forwarded()).toEqual(['UNWATCH /a|w1|', 'TRANSACTION_END F| in 1']);
    expect(a.ask('READ', '/tool|', 'x')).toBe('ENOENT');
    expect(world.gate.counts()).toMatchObject({ watches: 1, transactions: 0 });
    world.store.tool.ask('WRITE', '/a|1');
    expect(b.events()).toEqual(['/a t', '/a t'].slice(1));
    expect(a.events()).toEqual([]);
  });
});

describe('transactions', () => {
  it("are numbered here: nobody's but the client's own", () => {
    const world = new GateWorld(ALL);
    const a = world.client();
    const b = world.client();
    world.store.tool.begin('elsewhere');
    a.begin('x');
    b.begin('y');
    expect(a.ask('WRITE', '/a|1', 'x')).toBe('OK|');
    expect(a.ask('READ', '/a|', 2)).toBe('ENOENT');
    expect(a.ask('TRANSACTION_START', '|', 'x')).toBe('EBUSY');
    expect(a.ask('TRANSACTION_END', 'T|', 'x')).toBe('OK|');
    expect(a.ask('TRANSACTION_END', 'T|', 'x')).toBe('ENOENT');
    expect(b.ask('READ', '/a|')).toBe('1');
  });

  it('are bounded for all connections together, and gone with them', () => {
    const world = new GateWorld({ ...ALL, limits: { transactions: 2 } });
    const a = world.client();
    const b = world.client();
    a.begin('x');
    b.begin('y');
    expect(b.ask('TRANSACTION_START', '|')).toBe('ENOSPC');
    a.close();
    expect(world.gate.transactions).toBe(1);
    b.begin('z');
    b.close();
    expect(world.gate.transactions).toBe(0);
    expect(world.store.domains.control.transactions).toBe(0);
  });

  it('conflict as upstream says', () => {
    const world = new GateWorld(ALL);
    const client = world.client();
    client.begin('x');
    client.ask('READ', '/a|', 'x');
    client.ask('WRITE', '/b|1', 'x');
    world.store.tool.ask('WRITE', '/a|1');
    expect(client.ask('TRANSACTION_END', 'T|', 'x')).toBe('EAGAIN');
  });
});

describe('an upstream that goes and comes back', () => {
  function restart(world: GateWorld, clients: readonly GateClient[]): void {
    for (const client of clients) client.lose();
    world.store = new World();
    world.store.tool.ask('WRITE', '/a|new');
  }

  it('has the watches set again; each fires', () => {
    const world = new GateWorld(ALL);
    const client = world.client();
    client.ask('WATCH', '/a|t|');
    client.ask('WATCH', '@releaseDomain|r|');
    client.ask('WATCH', 'gone|g|');
    client.ask('UNWATCH', 'gone|g|');
    client.events();
    restart(world, [client]);
    client.forwarded();
    expect(client.events()).toEqual([]);
    client.connect();
    expect(client.forwarded()).toEqual(['WATCH /a|w4|', 'WATCH @releaseDomain|w5|']);
    expect(client.events()).toEqual(['/a t', '@releaseDomain r']);
    world.store.tool.ask('WRITE', '/a|2');
    expect(client.events()).toEqual(['/a t']);
    expect(world.gate.counts()).toMatchObject({ watches: 2, lost: 1 });
  });

  it('ends who has a watch that cannot be set again', () => {
    const world = new GateWorld(ALL);
    const client = world.client();
    client.ask('WATCH', '/a|t|');
    restart(world, [client]);
    client.session.upstreamBack();
    client.session.fromUpstream(encode(16, Buffer.from('E2BIG\0'), 2));
    expect(client.session.ended).toBe('a watch could not be set again: E2BIG');
    expect(world.gate.watches).toBe(0);
  });

  it('answers what was asked meanwhile, in order', () => {
    const world = new GateWorld(ALL);
    const client = world.client();
    restart(world, [client]);
    client.send('READ', '/a|', 0, 1);
    client.send('CONTROL', 'check|', 0, 2);
    client.send('WATCH', '/a|t|', 0, 3);
    client.send('UNWATCH', '/a|t|', 0, 4);
    client.send('RESET_WATCHES', '|', 0, 5);
    expect(client.take()).toEqual([]);
    client.connect();
    expect(client.take().map(({ requestId, payload }) => `${requestId} ${payload}`)).toEqual([
      '1 new',
      '2 EACCES|',
      '3 OK|',
      '0 /a|t|',
      '4 OK|',
      '5 OK|',
    ]);
    expect(world.gate.watches).toBe(0);
  });

  it('does not set a watch that was given up while both were in flight', () => {
    const world = new GateWorld('every-path');
    const client = world.client();
    client.upstream?.close();
    client.upstream = null; // it says nothing any more
    client.send('WATCH', '/a|t|');
    client.send('UNWATCH', '/a|t|');
    client.send('WATCH', '/a|u|');
    client.send('RESET_WATCHES', '|');
    client.session.upstreamLost();
    client.connect();
    expect(client.take().map(({ type, payload }) => `${type} ${payload}`)).toEqual([
      'WATCH OK|',
      'UNWATCH OK|',
      'WATCH OK|',
      'RESET_WATCHES OK|',
    ]);
    expect(client.forwarded()).toEqual([]);
    expect(world.gate.watches).toBe(0);
  });

  it('has requests in flight sent again', () => {
    const world = new GateWorld({ grants: [{ paths: ['/a', '/g/x'], rights: ['read', 'write', 'create'] }] });
    const client = world.client();
    world.store.tool.ask('MKDIR', '/g|');
    // sent, and not answered before upstream goes
    client.session.fromClient(encode(2, Buffer.from('/a\0'), 1));
    client.session.fromClient(encode(11, Buffer.from('/g/x\x001'), 2));
    client.session.fromClient(encode(2, Buffer.from('/g/x\0'), 3));
    client.session.upstreamTook(client.session.toUpstream().length);
    restart(world, [client]);
    world.store.tool.ask('MKDIR', '/g|');
    client.connect();
    expect(client.take().map(({ requestId, payload }) => `${requestId} ${payload}`)).toEqual(['1 new', '2 OK|', '3 1']);
  });

  it('makes open transactions fail at their end, and only there', () => {
    const world = new GateWorld(ALL);
    const client = world.client();
    client.begin('x');
    client.begin('y');
    client.ask('WRITE', '/b|1', 'x');
    restart(world, [client]);
    client.connect();
    client.forwarded();
    expect(client.ask('READ', '/a|', 'x')).toBe('new');
    expect(client.ask('WRITE', '/b|2', 'x')).toBe('OK|');
    expect(client.ask('MKDIR', '/c|', 'x')).toBe('OK|');
    expect(client.ask('TRANSACTION_END', 'T|', 'x')).toBe('EAGAIN');
    expect(client.ask('TRANSACTION_END', 'F|', 'y')).toBe('OK|');
    expect(client.forwarded()).toEqual(['READ /a|']);
    expect(world.store.tool.ask('READ', '/b|')).toBe('ENOENT');
    expect(world.gate.transactions).toBe(0);
    client.begin('z');
    client.ask('WRITE', '/b|3', 'z');
    expect(client.ask('TRANSACTION_END', 'T|', 'z')).toBe('OK|');
    expect(world.store.tool.ask('READ', '/b|')).toBe('3');
  });

  it('answers a commit in flight with EAGAIN', () => {
    const world = new GateWorld(ALL);
    const client = world.client();
    client.begin('x');
    client.session.fromClient(encode(7, Buffer.from('T\0'), 9, 1));
    restart(world, [client]);
    expect(client.take().map(({ payload }) => payload)).toEqual(['EAGAIN|']);
    expect(world.gate.transactions).toBe(0);
  });
});

describe('an upstream that makes no sense is dropped', () => {
  const request = encode(2, Buffer.from('/a\0'), 7);
  const CASES: [string, Uint8Array, string | null][] = [
    ['too long a message', encode(2, new Uint8Array(4097), 1), 'a message of 4097 bytes'],
    ['a reply to no request', encode(2, Buffer.from('x'), 99), 'a reply to no request (99)'],
    ['a reply of another type', encode(11, Buffer.from('OK\0'), 1), 'a reply of type 11 to a request of type 2'],
    ['an unknown type', encode(77, Buffer.from('OK\0'), 1), 'a reply of type 77 to a request of type 2'],
    ['an event without a token', encode(15, Buffer.from('/a\0'), 0), null],
    ['an event without anything', encode(15, new Uint8Array(0), 0), null],
    ['an event with another token', encode(15, Buffer.from('/a\0w999\0'), 0), null],
    ['an event with no token of ours', encode(15, Buffer.from('/a\0t\0'), 0), null],
    ['an event of another path', encode(15, Buffer.from('/b\0w1\0'), 0), null],
    ['an event of a path that goes on', encode(15, Buffer.from('/ax\0w1\0'), 0), null],
    ['an event of no path', encode(15, Buffer.from('/a//b\0w1\0'), 0), null],
  ];

  it.each(CASES)('%s', (_, bytes, broken) => {
    const world = new GateWorld(ALL);
    const client = world.client();
    client.ask('WATCH', '/a|t|');
    const { session } = client;
    session.upstreamLost();
    session.upstreamBack();
    session.upstreamTook(session.toUpstream().length);
    session.fromUpstream(encode(4, Buffer.from('OK\0'), 2));
    session.fromClient(request);
    // requests upstream: 1 was the first watch, 2 the one set again, 3 this
    const view = new DataView(bytes.slice().buffer);
    const message = new Uint8Array(view.buffer);
    if (view.getUint32(4, true) === 1) view.setUint32(4, 3, true);
    const before = client.session.toClient().length;
    session.fromUpstream(message);
    expect(session.upstreamBroken).toBe(broken);
    expect(client.session.toClient().length).toBe(before);
    expect(session.ended).toBe(null);
    if (broken === null) expect(world.gate.counts().hidden).toBe(1);
    // it is connected to again, and the client has its answer
    session.upstreamLost();
    client.connect();
    expect(
      client
        .take()
        .filter((m) => m.requestId === 7)
        .map(({ payload }) => payload),
    ).toEqual(['ENOENT|']);
  });

  it('and its errors are known ones', () => {
    const world = new GateWorld(ALL);
    const client = world.client();
    client.session.fromClient(request);
    client.session.fromUpstream(encode(16, Buffer.from('EWHATEVER\0'), 1));
    expect(client.take()).toEqual([{ type: 'ERROR', requestId: 7, transactionId: 0, payload: 'EIO|' }]);
  });

  it('or a device that refuses: the request fails, the others go on', () => {
    const world = new GateWorld(ALL);
    const client = world.client();
    client.session.fromClient(
      Uint8Array.from([...encode(4, Buffer.from('/a\0t\0'), 1), ...encode(2, Buffer.from('/b\0'), 2)]),
    );
    expect(client.session.nextUpstreamLength()).toBe(16 + 6);
    client.session.upstreamRefused('EINVAL');
    expect(client.session.nextUpstreamLength()).toBe(16 + 3);
    expect(client.take().map(({ payload }) => payload)).toEqual(['EINVAL|', 'ENOENT|']);
    expect(world.gate.watches).toBe(0);
  });

  it('or a device of old, which answers watches without a number', () => {
    const world = new GateWorld(ALL);
    const client = world.client();
    client.session.fromClient(encode(4, Buffer.from('/a\0t\0'), 5));
    client.session.fromUpstream(encode(4, Buffer.from('OK\0'), 0));
    expect(client.session.toClient().slice(0, 8)).toEqual(encode(4, Buffer.from('OK\0'), 5).slice(0, 8));
  });

  it('or takes shorter messages than the protocol', () => {
    const world = new GateWorld({ ...ALL, limits: { 'value-bytes': 0 } });
    const client = world.client();
    client.lose();
    client.session.upstreamBack(100);
    client.session.fromClient(encode(11, Buffer.from(`/a\0${'x'.repeat(98)}`), 5));
    expect(client.session.toClient().length).toBeGreaterThan(0);
    expect(client.take().map(({ payload }) => payload)).toEqual(['E2BIG|']);
  });
});

describe('limits', () => {
  it('of requests waiting: more of them wait unread', () => {
    const world = new GateWorld({ ...ALL, limits: { outstanding: 3 } });
    const client = world.client();
    client.lose();
    const requests = Array.from({ length: 10 }, (_, i) => [...encode(2, Buffer.from('/tool\0'), i + 1)]).flat();
    client.session.fromClient(Uint8Array.from(requests));
    expect(client.session.link.inFlight.length).toBe(3);
    expect(client.session.wantsClient).toBe(false);
    client.connect();
    expect(client.take().map(({ requestId }) => requestId)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(client.session.wantsClient).toBe(true);
  });

  it('of requests a second: more of them wait their turn', () => {
    const world = new GateWorld({ ...ALL, limits: { 'requests-per-second': 4 } });
    const client = world.client();
    const answered = () => client.take().length;
    for (let i = 0; i < 10; i++) client.send('READ', '/tool|');
    expect(answered()).toBe(3); // the connection was the first of four
    expect(client.session.wantsClient).toBe(false);
    expect(world.gate.open()).toBe(null);
    expect(client.session.nextDeadlineMs()).toBeCloseTo(250);
    world.now = 250;
    client.session.tick();
    expect(answered()).toBe(1);
    world.now = 10_000;
    client.session.tick();
    expect(answered()).toBe(4);
    world.now = 11_000;
    client.session.tick();
    expect(answered()).toBe(2);
    expect(client.session.nextDeadlineMs()).toBe(null);
    expect(world.gate.counts().throttled).toBeGreaterThan(0);
  });

  it('of connections', () => {
    const world = new GateWorld({ ...ALL, limits: { connections: 1 } });
    const client = world.client();
    expect(world.gate.open()).toBe(null);
    expect(world.gate.counts().denials).toEqual({ connections: 1 });
    client.close();
    expect(world.gate.open()).not.toBe(null);
  });

  it('of what a client leaves unread: it is ended, the others are not', () => {
    const world = new GateWorld({ ...ALL, limits: { 'unread-bytes': 1000 } });
    const lazy = world.client();
    const other = world.client();
    for (const client of [lazy, other]) client.ask('WATCH', '/a|t|');
    for (let i = 0; i < 100 && lazy.session.ended === null; i++) {
      world.store.tool.ask('WRITE', `/a/${i}|1`);
      lazy.pump();
      other.events();
    }
    expect(lazy.session.ended).toMatch(/^the client has left \d+ bytes unread$/);
    expect(other.session.ended).toBe(null);
    expect(world.gate.watches).toBe(1);
  });

  it('an event that already waits is not sent twice', () => {
    const world = new GateWorld(ALL);
    const client = world.client();
    client.ask('WATCH', '/a|t|');
    client.take();
    for (let i = 0; i < 100; i++) world.store.tool.ask('WRITE', '/a|1');
    expect(client.events()).toEqual(['/a t']);
  });

  it('a client that reads nothing is not answered more than fits', () => {
    const world = new GateWorld({ ...ALL, limits: { 'value-bytes': 0 } });
    const client = world.client();
    client.ask('WRITE', `/a|${'x'.repeat(4000)}`);
    for (let i = 0; i < 200; i++) client.send('READ', '/a|');
    expect(client.session.toClient().length).toBeLessThan(64 * 1024 + 8192);
    expect(client.session.wantsClient).toBe(false);
    let answers = 0;
    for (let n = 1; n > 0; answers += n) n = client.take().length;
    expect(answers).toBe(200);
  });
});
