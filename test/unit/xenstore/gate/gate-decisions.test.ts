/** The gate's decisions: request → answer, and what of it goes upstream. */
import { beforeEach, describe, expect, it } from 'vitest';

import type { GateClient } from './gate-harness.js';
import { GateWorld } from './gate-harness.js';

const DM = '/local/domain/0/device-model/1';

describe('device-model', () => {
  let world: GateWorld;
  let client: GateClient;

  beforeEach(() => {
    world = new GateWorld('device-model');
    world.store.tool.ask('MKDIR', `${DM}|`);
    client = world.client();
  });

  it('lets a restricted QEMU do what it does', () => {
    const other = world.client();
    expect(other.ask('READ', 'domid|')).toBe('ENOENT');
    expect(other.all('WATCH', 'backend/qdisk/1|31799ad1-ef31|')).toEqual([
      'WATCH OK|',
      'WATCH_EVENT backend/qdisk/1|31799ad1-ef31|',
    ]);
    for (const kind of ['console', 'vkbd', '9pfs', 'qusb']) {
      expect(client.ask('MKDIR', `device-model/1/backends/${kind}|`)).toBe('OK|');
      expect(client.ask('SET_PERMS', `device-model/1/backends/${kind}|n0|n1|`)).toBe('OK|');
      expect(client.all('WATCH', `backend/${kind}/1|be:0x55b362028970:1:0x55b3623f4e80|`)).toEqual([
        'WATCH OK|',
        `WATCH_EVENT backend/${kind}/1|be:0x55b362028970:1:0x55b3623f4e80|`,
      ]);
      expect(client.ask('DIRECTORY', `backend/${kind}/1|`)).toBe('ENOENT');
      expect(world.store.tool.ask('GET_PERMS', `${DM}/backends/${kind}|`)).toBe('n0|n1|');
    }
    expect(world.denials()).toEqual([]);
  });

  const DENIED: [string, string, string][] = [
    ['READ', '/local/domain/2/name|', 'no rule grants read'],
    ['READ', '/local/domain/1/name|', 'no rule grants read'],
    ['GET_PERMS', '/local/domain/2|', 'no rule grants read'],
    ['READ', '../2/name|', ''],
    ['WRITE', '/local/domain/0/domid|7', 'no rule grants write'],
    ['WRITE', '/tool/x|7', 'no rule grants write'],
    ['MKDIR', '/tool/x|', 'no rule grants create'],
    ['MKDIR', 'device-model/2/backends/console|', 'no rule grants create'],
    ['MKDIR', 'device-model/1/backends/console/x|', 'no rule grants create'],
    ['MKDIR', 'device-model/1|', 'no rule grants create'],
    ['RM', 'device-model/1/backends|', 'no rule grants remove'],
    ['RM', '/|', 'no rule grants remove'],
    ['DIRECTORY', '/|', 'no rule grants list'],
    ['DIRECTORY', '/local/domain|', 'no rule grants list'],
    ['DIRECTORY_PART', '/local/domain|0|', 'no rule grants list'],
    ['DIRECTORY', 'backend/console|', 'no rule grants list'],
    ['SET_PERMS', 'device-model/1/backends/vkbd|n1|', 'no rule grants setting the permissions n1'],
    ['SET_PERMS', 'device-model/1/backends/vkbd|n0|b1|', 'no rule grants setting the permissions n0 b1'],
    ['SET_PERMS', 'device-model/1/backends/vkbd|n0|n1|r2|', 'no rule grants setting the permissions n0 n1 r2'],
    ['SET_PERMS', '/tool|n0|n1|', 'no rule grants perms'],
    ['SET_PERMS', '@releaseDomain|n0|r1|', 'permissions of special watches are not for clients'],
    ['WATCH', '@releaseDomain|t|', 'no rule grants watch'],
    ['WATCH', '@introduceDomain|t|1|', 'no rule grants watch'],
    ['WATCH', '@releaseDomain/1|t|', 'no rule grants watch'],
    ['WATCH', '/|t|', 'no rule grants watch'],
    ['WATCH', 'backend|t|', 'no rule grants watch'],
    ['WATCH', 'backend/console/2|t|', 'no rule grants watch'],
    ['IS_DOMAIN_INTRODUCED', '2|', 'no rule lets it ask about domain 2'],
    ['INTRODUCE', '2|1|1|', 'INTRODUCE is not for clients of a gate'],
    ['RELEASE', '2|', 'RELEASE is not for clients of a gate'],
    ['RESUME', '2|', 'RESUME is not for clients of a gate'],
    ['SET_TARGET', '1|2|', 'SET_TARGET is not for clients of a gate'],
    ['RESTRICT', '2|', 'RESTRICT is not for clients of a gate'],
    ['CONTROL', 'log|on|', 'CONTROL is not for clients of a gate'],
    ['GET_FEATURE', '|', 'GET_FEATURE is not for clients of a gate'],
    ['SET_FEATURE', '1|1|', 'SET_FEATURE is not for clients of a gate'],
    ['GET_QUOTA', '|', 'GET_QUOTA is not for clients of a gate'],
    ['SET_QUOTA', 'nodes|0|', 'SET_QUOTA is not for clients of a gate'],
  ];

  it.each(DENIED)('%s %s is refused, and nothing of it goes upstream', (type, payload, reason) => {
    const answer = client.ask(type, payload);
    expect(answer).toBe(reason === '' ? 'EINVAL' : 'EACCES');
    expect(client.forwarded()).toEqual([]);
    const denials = world.denials();
    if (reason === '') expect(denials).toEqual([]);
    else expect(denials).toEqual([expect.stringMatching(new RegExp(`^EACCES ${type} .*: ${reason}$`))]);
  });

  const MALFORMED: [string, string, string][] = [
    ['READ', '', 'EINVAL'],
    ['READ', '|', 'EINVAL'],
    ['READ', 'domid', 'EINVAL'],
    ['READ', 'domid|x', 'EINVAL'],
    ['READ', 'domid||', 'EINVAL'],
    ['READ', '//local/domain/0/domid|', 'EINVAL'],
    ['READ', '/local/domain/0/domid/|', 'EINVAL'],
    ['READ', '/local//domain/0/domid|', 'EINVAL'],
    ['READ', '/local/domain/1/../0/domid|', 'EINVAL'],
    ['READ', './domid|', 'EINVAL'],
    ['READ', '@releaseDomain|', 'EINVAL'],
    ['READ', 'domid\x80|', 'EINVAL'],
    ['READ', `/${'a'.repeat(2049)}|`, 'EINVAL'],
    ['WRITE', 'domid', 'EINVAL'],
    ['WATCH', 'backend/console/1|', 'EINVAL'],
    ['WATCH', 'backend/console/1|t|1|2|', 'EINVAL'],
    ['WATCH', 'backend/console/1|t|x|', 'EINVAL'],
    ['WATCH', '@nothing|t|2|', 'EINVAL'],
    ['UNWATCH', 'backend/console/1|t|', 'ENOENT'],
    ['SET_PERMS', 'device-model/1/backends/vkbd|', 'EINVAL'],
    ['SET_PERMS', 'device-model/1/backends/vkbd|n0|n0x1|', 'EINVAL'],
    ['SET_PERMS', 'device-model/1/backends/vkbd|n0|n-1|', 'EINVAL'],
    ['TRANSACTION_END', 'T|', 'ENOENT'],
    ['TRANSACTION_END', 'X|', 'EINVAL'],
    ['DIRECTORY_PART', 'backend/console/1|-1|', 'EINVAL'],
    ['GET_DOMAIN_PATH', 'x|', 'EINVAL'],
    ['WATCH_EVENT', 'a|b|', 'ENOSYS'],
    ['ERROR', 'EINVAL|', 'ENOSYS'],
    ['#27', '', 'ENOSYS'],
    ['#4294967295', '', 'ENOSYS'],
  ];

  it.each(MALFORMED)('%s %s is malformed', (type, payload, answer) => {
    expect(client.ask(type, payload)).toBe(answer);
    expect(client.forwarded()).toEqual([]);
    expect(world.denials()).toEqual([]);
  });

  it('says where a domain lives without asking', () => {
    expect(client.ask('GET_DOMAIN_PATH', '7|')).toBe('/local/domain/7|');
    expect(client.forwarded()).toEqual([]);
  });

  it('makes nothing above what it may make', () => {
    world.store.tool.ask('RM', `${DM}|`);
    expect(client.ask('MKDIR', 'device-model/1/backends/console|')).toBe('EACCES');
    expect(world.denials()).toEqual([`EACCES MKDIR ${DM}/backends/console: it would make ${DM}, which no rule grants`]);
    expect(world.store.tool.ask('READ', `${DM}|`)).toBe('ENOENT');
    expect(client.forwarded()).toEqual([
      'TRANSACTION_START |',
      `GET_PERMS ${DM}| in 1`,
      `MKDIR ${DM}/backends/console| in 1`,
      'TRANSACTION_END F| in 1',
    ]);
    expect(world.gate.nodes.size).toBe(0);
  });

  it('ends a client whose message is too long', () => {
    const header = new Uint8Array(16);
    new DataView(header.buffer).setUint32(12, 4097, true);
    client.session.fromClient(header);
    expect(client.session.ended).toBe('a message of 4097 bytes');
    expect(world.gate.sessions.size).toBe(0);
  });

  it('takes requests in pieces', () => {
    for (const byte of [2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, ...Buffer.from('domid\0')]) {
      client.session.fromClient(Uint8Array.of(byte));
    }
    expect(client.take()).toEqual([{ type: 'ERROR', requestId: 9, transactionId: 0, payload: 'ENOENT|' }]);
  });
});

describe('changes', () => {
  const RULES = {
    grants: [
      { paths: ['/a/w'], rights: ['read', 'write'] },
      { paths: ['/a/c', '/a/c/**'], rights: ['read', 'write', 'create', 'remove'] },
      { paths: ['/deep/1/2'], rights: ['create'] },
    ],
  };

  it('write alone makes no node', () => {
    const world = new GateWorld(RULES);
    const client = world.client();
    expect(client.ask('WRITE', '/a/w|1')).toBe('EACCES');
    expect(world.denials()).toEqual(['EACCES WRITE /a/w: it would make /a/w, which no rule grants']);
    world.store.tool.ask('WRITE', '/a/w|0');
    expect(client.ask('WRITE', '/a/w|1')).toBe('OK|');
    expect(client.ask('READ', '/a/w|')).toBe('1');
  });

  it('keeps the order of requests around a change in steps', () => {
    const world = new GateWorld(RULES);
    world.store.tool.ask('WRITE', '/a/w|0');
    const client = world.client();
    client.session.fromClient(Uint8Array.from([...message(11, 1, '/a/w\0new'), ...message(2, 2, '/a/w\0')]));
    expect(client.take().map(({ requestId, payload }) => [requestId, payload])).toEqual([
      [1, 'OK|'],
      [2, 'new'],
    ]);
  });

  it('looks for the nearest node that it may not make', () => {
    const world = new GateWorld(RULES);
    const client = world.client();
    expect(client.ask('WRITE', '/a/c/d/e|1')).toBe('EACCES');
    expect(client.ask('MKDIR', '/deep/1/2|')).toBe('EACCES');
    world.store.tool.ask('MKDIR', '/a|');
    world.store.tool.ask('MKDIR', '/deep|');
    expect(client.ask('WRITE', '/a/c/d/e|1')).toBe('OK|');
    expect(client.ask('MKDIR', '/deep/1/2|')).toBe('EACCES');
    expect(client.ask('RM', '/a/c|')).toBe('OK|');
    expect(world.store.tool.ask('DIRECTORY', '/a|')).toBe('');
    expect(world.gate.nodes.size).toBe(0);
  });

  it('does the same in a transaction of the client', () => {
    const world = new GateWorld(RULES);
    const client = world.client();
    client.begin('t');
    expect(client.ask('WRITE', '/a/w|1', 't')).toBe('EACCES');
    expect(client.ask('TRANSACTION_END', 'T|', 't')).toBe('OK|');
    world.store.tool.ask('WRITE', '/a/w|0');
    client.begin('u');
    expect(client.ask('WRITE', '/a/w|1', 'u')).toBe('OK|');
    expect(world.store.tool.ask('READ', '/a/w|')).toBe('0');
    expect(client.ask('TRANSACTION_END', 'T|', 'u')).toBe('OK|');
    expect(world.store.tool.ask('READ', '/a/w|')).toBe('1');
  });

  it('begins again where somebody else was quicker', () => {
    const world = new GateWorld(RULES);
    world.store.tool.ask('WRITE', '/a/w|0');
    const client = world.client();
    // hold the gate's transaction up between its change and its commit
    const { session } = client;
    session.fromClient(message(11, 1, '/a/w\0mine'));
    const upstream = client.upstream;
    if (upstream === null) throw new Error('no upstream');
    for (let step = 0; step < 2; step++) {
      const up = session.toUpstream().slice();
      session.upstreamTook(up.length);
      upstream.receive(up);
      const down = upstream.output().slice();
      upstream.sent(down.length);
      session.fromUpstream(down);
    }
    world.store.tool.ask('RM', '/a/w|');
    expect(client.take().map(({ type, payload }) => `${type} ${payload}`)).toEqual(['ERROR EACCES|']);
    expect(world.store.tool.ask('READ', '/a/w|')).toBe('ENOENT');
  });

  it.each([0, 1, 2, 3, 4])('carries a change out once where upstream goes after %i of its answers', (answers) => {
    const world = new GateWorld(RULES);
    world.store.tool.ask('WRITE', '/a/w|0');
    const client = world.client();
    const { session } = client;
    session.fromClient(message(11, 1, '/a/w\0mine'));
    let left = answers;
    while (left > 0 && client.upstream !== null) {
      const up = session.toUpstream().slice();
      session.upstreamTook(up.length);
      client.upstream.receive(up);
      const down = client.upstream.output().slice();
      client.upstream.sent(down.length);
      // START's and END's come alone, look's and change's together
      for (let at = 0; at < down.length && left > 0; left--) {
        const end = at + 16 + (down[at + 12] as number);
        session.fromUpstream(down.slice(at, end));
        at = end;
      }
    }
    client.lose();
    client.connect();
    const wanted = ['WRITE OK|'];
    expect(client.take().map(({ type, payload }) => `${type} ${payload}`)).toEqual(wanted);
    expect(world.store.tool.ask('READ', '/a/w|')).toBe('mine');
    expect(session.busy).toBe(false);
    expect(session.link.inFlight).toEqual([]);
    expect(client.ask('READ', '/a/w|')).toBe('mine');
  });

  it('bounds nodes and values', () => {
    const world = new GateWorld({ ...RULES, limits: { nodes: 3, 'value-bytes': 3 } }); // /a/c is one of them
    world.store.tool.ask('MKDIR', '/a|');
    const client = world.client();
    expect(client.ask('WRITE', '/a/c/1|abcd')).toBe('ENOSPC');
    expect(client.ask('WRITE', '/a/c/1|abc')).toBe('OK|');
    expect(client.ask('WRITE', '/a/c/2|abc')).toBe('OK|');
    expect(client.ask('WRITE', '/a/c/3|abc')).toBe('ENOSPC');
    expect(client.ask('WRITE', '/a/c/1|ab')).toBe('OK|');
    expect(client.ask('RM', '/a/c/1|')).toBe('OK|');
    expect(client.ask('WRITE', '/a/c/3|abc')).toBe('OK|');
    expect(world.gate.counts().denials).toEqual({ nodes: 1, value: 1 });
  });

  describe('counts nodes', () => {
    const LIMIT = 4;
    let world: GateWorld;
    let client: GateClient;
    beforeEach(() => {
      world = new GateWorld({ ...RULES, limits: { nodes: LIMIT } });
      world.store.tool.ask('MKDIR', '/a/c|');
      client = world.client();
    });
    /** Those below /a/c that are really there. */
    const made = () => world.store.tool.ask('DIRECTORY', '/a/c|').split('|').filter(Boolean).length;

    it('that were made as missing parents', () => {
      for (let i = 0; i < 10; i++) {
        client.ask('WRITE', `/a/c/${i}/x|`);
        client.ask('RM', `/a/c/${i}/x|`);
      }
      expect(made()).toBeLessThan(LIMIT);
      expect(client.ask('WRITE', `/a/c${'/d'.repeat(LIMIT)}|`)).toBe('ENOSPC');
      expect(client.ask('RM', '/a/c|')).toBe('OK|');
      expect(world.gate.nodes.size).toBe(0);
    });

    it('whose removal was given up, or is not committed yet', () => {
      for (let i = 0; i < 10; i++) {
        client.ask('WRITE', `/a/c/${i}|`);
        client.begin('t');
        client.ask('RM', `/a/c/${i}|`, 't');
        client.ask('TRANSACTION_END', 'F|', 't');
      }
      expect(made()).toBe(LIMIT - 1);
      client.begin('u');
      expect(client.ask('RM', '/a/c/0|', 'u')).toBe('OK|');
      expect(client.ask('WRITE', '/a/c/x|')).toBe('ENOSPC');
      expect(client.ask('TRANSACTION_END', 'T|', 'u')).toBe('OK|');
      expect(client.ask('WRITE', '/a/c/x|')).toBe('OK|');
      expect(made()).toBe(LIMIT - 1);
    });

    it('made again while their removal is on its way, in a transaction or not', () => {
      for (let i = 0; i < 10; i++) {
        client.ask('WRITE', `/a/c/${i}|`);
        client.session.fromClient(
          Uint8Array.from([...message(13, 1, `/a/c/${i}\0`), ...message(11, 2, `/a/c/${i}\0`)]),
        );
        client.take();
      }
      expect(made()).toBe(LIMIT - 1);
      client.begin('t');
      expect(client.ask('RM', '/a/c/0|', 't')).toBe('OK|');
      expect(client.ask('WRITE', '/a/c/0|', 't')).toBe('OK|');
      expect(client.ask('TRANSACTION_END', 'T|', 't')).toBe('OK|');
      expect(client.ask('WRITE', '/a/c/x|')).toBe('ENOSPC');
      expect(world.gate.nodes.size).toBe(LIMIT);
    });

    it('that one connection was refused and another has made', () => {
      const other = world.client();
      const value = 'v'.repeat(100);
      for (let i = 0; i < 10; i++) {
        client.session.link.payloadMax = 64;
        client.session.fromClient(message(11, 1, `/a/c/${i}\0${value}`));
        other.ask('WRITE', `/a/c/${i}|`);
        client.take();
      }
      expect(made()).toBe(LIMIT - 1);
    });

    it('that a connection may have made when it ended, and none twice', () => {
      client.upstream = null; // it says nothing any more
      client.send('WRITE', '/a/c/1|');
      expect(world.gate.nodes.size).toBe(2);
      client.close();
      expect(world.gate.nodes.size).toBe(2);
      const next = world.client();
      expect(next.ask('RM', '/a/c|')).toBe('OK|');
      expect(world.gate.nodes.size).toBe(0);
    });
  });
});

describe('listings', () => {
  const RULES = {
    grants: [
      { paths: ['/d', '/all', '/all/*/x'], rights: ['list'] },
      { paths: ['/d/seen', '/d/path/to/it', '/d/{domid}'], rights: ['read'] },
    ],
  };

  it('leave out what the policy does not name', () => {
    const world = new GateWorld(RULES);
    for (const path of ['/d/seen', '/d/hidden', '/d/path', '/d/1', '/d/2', '/all/a', '/all/b']) {
      world.store.tool.ask('MKDIR', `${path}|`);
    }
    const client = world.client();
    expect(client.ask('DIRECTORY', '/d|').split('|').sort()).toEqual(['', '1', 'path', 'seen']);
    expect(client.ask('DIRECTORY', '/all|')).toBe('a|b|');
    expect(client.ask('DIRECTORY', '/|')).toBe('EACCES');
  });

  it('do so for long ones, part by part', () => {
    const world = new GateWorld(RULES);
    const hidden = Array.from({ length: 300 }, (_, i) => `/d/${'h'.repeat(40)}${i}`);
    for (const path of [...hidden.slice(0, 150), '/d/seen', ...hidden.slice(150), '/d/1', '/d/path']) {
      world.store.tool.ask('MKDIR', `${path}|`);
    }
    const client = world.client();
    expect(client.ask('DIRECTORY', '/d|')).toBe('E2BIG');
    const [generation, ...names] = client.ask('DIRECTORY_PART', '/d|0|').split('|');
    expect(names).toEqual(['seen', '1', 'path', '', '']);
    expect(client.ask('DIRECTORY_PART', '/d|5|')).toBe(`${generation}|1|path||`);
    expect(client.ask('DIRECTORY_PART', '/d|12|')).toBe(`${generation}||`);
    expect(client.ask('READ', '/d/seen|')).toBe('');
  });
});

function message(type: number, requestId: number, payload: string): Uint8Array {
  const bytes = new Uint8Array(16 + payload.length);
  const view = new DataView(bytes.buffer);
  for (const [i, word] of [type, requestId, 0, payload.length].entries()) view.setUint32(4 * i, word, true);
  bytes.set(Buffer.from(payload, 'latin1'), 16);
  return bytes;
}
