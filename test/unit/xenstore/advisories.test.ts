// The classes of Xen's security advisories on XenStore, each as a case that must hold here.
import { describe, expect, it } from 'vitest';
import { bytes, type Client, encode, TYPES, World } from './harness.js';

function worldOf(...domids: number[]): { w: World; tool: Client; guests: Client[] } {
  const w = new World();
  return { w, tool: w.tool, guests: domids.map((domid) => w.guest(domid)) };
}

describe('XSA-115: watch events', () => {
  it('go only to who may read the node or its parent', () => {
    const { tool, guests } = worldOf(1);
    const [guest] = guests as [Client];
    for (const path of ['/', '/t', '/t/secret', '/t/secret/deep']) guest.ask('WATCH', `${path}|${path}|`);
    guest.take();
    tool.ask('WRITE', '/t/secret/deep|1');
    tool.ask('SET_PERMS', '/t/secret/deep|n0|r2|');
    tool.ask('RM', '/t/secret|');
    expect(guest.events()).toEqual([]);
    tool.begin('t');
    tool.ask('WRITE', '/t/secret/deep|1', 't');
    tool.commit('t');
    tool.begin('t');
    tool.ask('RM', '/t/secret|', 't');
    tool.commit('t');
    expect(guest.events()).toEqual([]);
  });

  it('reach who loses the right to read, and nobody else', () => {
    const { tool, guests } = worldOf(1, 2);
    const [one, two] = guests as [Client, Client];
    tool.ask('WRITE', '/t/x|1');
    tool.ask('SET_PERMS', '/t/x|n0|r1|');
    for (const g of [one, two]) g.ask('WATCH', '/t/x|tok|');
    for (const g of [one, two]) g.take();
    tool.ask('SET_PERMS', '/t/x|n0|');
    expect([one.events(), two.events()]).toEqual([['/t/x tok'], []]);
    tool.ask('WRITE', '/t/x|2');
    expect([one.events(), two.events()]).toEqual([[], []]);
  });

  it('of special watches need permission', () => {
    const { tool, guests } = worldOf(1, 2);
    const [one, two] = guests as [Client, Client];
    tool.ask('SET_PERMS', '@introduceDomain|n0|r1|');
    for (const g of [one, two]) expect(g.ask('WATCH', '@introduceDomain|tok|')).toBe('OK|');
    for (const g of [one, two]) g.take();
    tool.ask('INTRODUCE', '7|1|1|');
    expect([one.events(), two.events()]).toEqual([['@introduceDomain tok'], []]);
  });
});

it('XSA-353: the root is protected as any node', () => {
  const { tool, guests } = worldOf(1);
  const [guest] = guests as [Client];
  for (const [type, payload] of [
    ['READ', '/|'],
    ['DIRECTORY', '/|'],
    ['WRITE', '/|x'],
    ['SET_PERMS', '/|n1|'],
    ['RM', '/|'],
    ['MKDIR', '/new|'],
  ] as const) {
    expect(guest.ask(type, payload), type).toBe('EACCES');
  }
  expect(tool.ask('RM', '/|')).toBe('EINVAL');
  tool.begin('t');
  expect(tool.ask('RM', '/|', 't')).toBe('EINVAL');
});

it('XSA-352: only a privileged client changes an owner', () => {
  const { tool, guests } = worldOf(1, 2);
  const [guest] = guests as [Client];
  guest.ask('WRITE', 'mine|');
  expect(guest.ask('SET_PERMS', 'mine|n2|')).toBe('EPERM');
  expect(guest.ask('SET_PERMS', 'mine|n0|')).toBe('EPERM');
  tool.ask('SET_TARGET', '1|2|');
  expect(guest.ask('SET_PERMS', '/local/domain/2|n1|')).toBe('EPERM');
  expect(tool.ask('SET_PERMS', '/local/domain/1/mine|n2|')).toBe('OK|');
});

describe('XSA-322, 417, 483: a reused domid inherits nothing', () => {
  it('neither rights on nodes nor on special watches nor a target', () => {
    const { w, tool } = worldOf(1, 2);
    tool.ask('WRITE', '/t/shared|v');
    tool.ask('SET_PERMS', '/t/shared|n0|b1|');
    tool.ask('SET_PERMS', '@releaseDomain|n0|r1|');
    tool.ask('SET_TARGET', '2|1|');
    w.server.domainGone(1);
    const again = w.guest(1);
    expect(again.ask('READ', '/t/shared|')).toBe('EACCES');
    expect(tool.ask('GET_PERMS', '/t/shared|')).toBe('n0|b1|');
    again.ask('WATCH', '@releaseDomain|tok|');
    again.take();
    w.server.domainGone(2);
    expect(again.events()).toEqual([]);
    // Setting the same permissions again is what gives the new domain the right.
    tool.ask('SET_PERMS', '/t/shared|n0|b1|');
    expect(again.ask('READ', '/t/shared|')).toBe('v');
  });

  it('nor nodes, nor the counts of them', () => {
    const { w, guests } = worldOf(1);
    const [guest] = guests as [Client];
    guest.ask('WRITE', 'a/b/c|v');
    guest.ask('WATCH', 'a|tok|');
    guest.begin('t');
    guest.ask('WRITE', 'in-transaction|v', 't');
    w.server.domainGone(1);
    expect(guest.closed).toBe('released');
    expect(w.tool.ask('DIRECTORY', '/local/domain|')).toBe('');
    const again = w.guest(1);
    const domain = w.domains.get(1);
    expect(domain).toMatchObject({ nodes: 1, watches: 0, transactions: 0, outstanding: 0 });
    expect(again.ask('DIRECTORY', '/local/domain/1|')).toBe('');
    expect(w.server.check()).toEqual([]);
  });

  it('nor what an open transaction of another gave to the old one', () => {
    const { w, tool } = worldOf(1);
    tool.ask('WRITE', '/t/x|v');
    tool.begin('t');
    tool.ask('SET_PERMS', '/t/x|n1|', 't');
    w.server.domainGone(1);
    w.guest(1);
    expect(tool.commit('t')).toBe('ENOMEM');
    expect(tool.ask('GET_PERMS', '/t/x|')).toBe('n0|');
    expect(w.server.check()).toEqual([]);
  });
});

it('XSA-323: no path beyond the limit is created, by whatever way', () => {
  const { w, tool } = worldOf(1);
  const long = 'x'.repeat(2048);
  expect(tool.ask('WRITE', `/${long}|v`)).toBe('EINVAL');
  expect(tool.ask('WRITE', `/local/domain/65535/${long}|v`)).toBe('OK|');
  expect(tool.ask('WRITE', `/local/domain/65535/${long}x|v`)).toBe('EINVAL');
  expect(tool.ask('WRITE', `/local/domain/123456/${long}|v`)).toBe('EINVAL');
  expect(tool.ask('WRITE', `/local/domain/x/${long}|v`)).toBe('EINVAL');
  expect(tool.ask('WRITE', `${'a/'.repeat(1023)}a|v`)).toBe('OK|');
  expect(tool.ask('CONTROL', 'quota|set|path-max|100000|')).toBe('OK|');
  expect(tool.ask('WRITE', `/${'y'.repeat(3500)}|v`)).toBe('EINVAL');
  expect(w.server.check()).toEqual([]);
});

it('XSA-324: an event that would be too long is not sent, and counted', () => {
  const { w, tool } = worldOf(1);
  const client = w.client(0);
  const deep = `/t/${'x'.repeat(1000)}`;
  expect(client.all('WATCH', `/t|${'t'.repeat(4085)}|`)).toEqual([
    'WATCH OK|',
    expect.stringContaining('WATCH_EVENT /t|'),
  ]);
  tool.ask('WRITE', `${deep}|v`);
  expect(client.events()).toEqual([]);
  expect(w.server.quotas.denials.get('event-size')).toBe(1);
  tool.ask('WRITE', '/t|v');
  expect(client.events()).toHaveLength(1);
});

it('XSA-325, 233: a misbehaving domain stays known until it is gone, also when its stub domain goes with it', () => {
  const { w, tool, guests } = worldOf(1, 2);
  const [guest] = guests as [Client];
  const watcher = w.client(0);
  watcher.ask('WATCH', '@releaseDomain|tok|');
  watcher.take();
  tool.ask('SET_TARGET', '2|1|');
  guest.connection.receive(encode(2, new Uint8Array(0)).fill(0xff, 12));
  expect(guest.closed).toBe('protocol');
  expect(tool.ask('IS_DOMAIN_INTRODUCED', '1|')).toBe('T|');
  expect(watcher.events()).toEqual([]);
  w.server.domainGone(1);
  w.server.domainGone(2);
  expect(watcher.events()).toEqual(['@releaseDomain tok', '@releaseDomain tok']);
  expect(w.server.check()).toEqual([]);
});

it('XSA-330: RESET_WATCHES gives everything back', () => {
  const { w, guests } = worldOf(1);
  const [guest] = guests as [Client];
  const before = w.domains.get(1)?.memory;
  for (let round = 0; round < 50; round++) {
    for (let i = 0; i < 100; i++) guest.ask('WATCH', `w${i}|tok|`);
    guest.begin('t');
    guest.ask('WRITE', 'a|v', 't');
    expect(guest.ask('RESET_WATCHES', '|')).toBe('OK|');
  }
  expect(w.domains.get(1)).toMatchObject({ watches: 0, transactions: 0, memory: before });
  expect(w.server.watches.count).toBe(0);
  expect(w.server.check()).toEqual([]);
});

describe('XSA-326, 416: what a client does not read', () => {
  it('replies: requests wait once 20 are outstanding', () => {
    const { w, guests } = worldOf(1);
    const [guest] = guests as [Client];
    for (let i = 0; i < 100; i++) guest.send('GET_DOMAIN_PATH', '1|');
    expect(guest.connection.wantsInput).toBe(false);
    expect(w.server.quotas.denials.get('outstanding')).toBe(1);
    expect(guest.take()).toHaveLength(20);
    let answered = 20;
    while (answered < 100) answered += guest.take().length;
    expect(guest.connection.wantsInput).toBe(true);
    expect(w.domains.get(1)?.outstanding).toBe(0);
  });

  it('events: they keep the request outstanding that caused them, go stale after 20 s, and never block a privileged writer', () => {
    const { w, guests } = worldOf(1, 2);
    const [writer, sleeper] = guests as [Client, Client];
    writer.ask('SET_PERMS', '/local/domain/1|n1|r2|');
    sleeper.ask('WATCH', '/local/domain/1|tok|');
    sleeper.take();
    for (let i = 0; i < 20; i++) expect(writer.ask('WRITE', `n${i}|v`)).toBe('OK|');
    expect(w.domains.get(1)?.outstanding).toBe(20);
    expect(writer.ask('WRITE', 'one-more|v')).toBe('no reply');
    for (let i = 0; i < 2000; i++) expect(w.tool.ask('WRITE', `/local/domain/1/n${i % 30}|v`)).toBe('OK|');
    expect(w.server.nextDeadlineMs()).not.toBeNull();
    w.pass(20_000);
    expect(writer.take().map((m) => m.type)).toEqual(['WRITE']);
    expect(w.server.quotas.denials.get('event-timeout')).toBe(1);
    sleeper.connection.close();
    expect(w.domains.get(1)?.outstanding).toBe(0);
    expect(w.server.check()).toEqual([]);
  });

  it('events for a full domain are dropped, not queued', () => {
    const { w, tool, guests } = worldOf(1);
    const [guest] = guests as [Client];
    guest.ask('WATCH', '/local/domain/1|tok|');
    guest.take();
    tool.ask('CONTROL', 'quota|set|memory|50000|');
    for (let i = 0; i < 3000; i++) tool.ask('WRITE', `/local/domain/1/n${i}|v`);
    expect(guest.connection.output().length).toBeLessThan(50_000);
    expect(w.server.quotas.denials.get('output')).toBeGreaterThan(0);
  });

  it('a local client that stops reading is given up, and nobody waits for it', () => {
    const { w, tool } = worldOf(1);
    const lazy = w.client(0);
    lazy.ask('WATCH', '/t|tok|');
    for (let i = 0; lazy.closed === null && i < 10_000; i++) tool.ask('WRITE', `/t/${i}/${'x'.repeat(1500)}|`);
    expect(lazy.closed).toBe('output-limit');
    expect(w.server.watches.count).toBe(0);
  });

  it('a local client that does not read replies is not read from', () => {
    const { w } = worldOf(1);
    const lazy = w.client(0);
    w.tool.ask('WRITE', `/t/big|${'x'.repeat(4000)}`);
    let sent = 0;
    for (; lazy.connection.wantsInput && sent < 10_000; sent++) lazy.send('READ', '/t/big|');
    expect(sent).toBeLessThan(100);
    let read = 0;
    while (read < sent) read += lazy.take().length;
    expect(lazy.connection.wantsInput).toBe(true);
  });

  it('an old transaction of a guest pins no more than one state of each node', () => {
    const { w, tool, guests } = worldOf(1);
    const [guest] = guests as [Client];
    tool.ask('WRITE', '/t/x|start');
    guest.begin('old');
    for (let i = 0; i < 2000; i++) {
      guest.begin('t');
      tool.ask('WRITE', `/t/x|value ${i}`);
      tool.ask('WRITE', `/t/temporary|${i}`);
      guest.ask('TRANSACTION_END', 'F|', 't');
      tool.ask('RM', '/t/temporary|');
    }
    expect(w.server.arena.slotsInUse).toBeLessThan(100);
    expect(w.server.check()).toEqual([]);
    guest.ask('TRANSACTION_END', 'F|', 'old');
    w.server.store.collect(1000);
    expect(w.server.store.snapshots.kept).toBe(0);
  });
});

describe('XSA-414, 415, 421: what fails leaves nothing', () => {
  const paths = ['deep/er/and/deeper', `${'x'.repeat(200)}/${'y'.repeat(1700)}`];
  it('a create of several levels is whole or not at all', () => {
    const { w, guests } = worldOf(1);
    const [guest] = guests as [Client];
    w.tool.ask('CONTROL', 'quota|set|nodes|3|');
    for (const path of paths.slice(0, 1)) expect(guest.ask('WRITE', `${path}|v`)).toBe('ENOSPC');
    expect(guest.ask('WRITE', `a/b|${'x'.repeat(2100)}`)).toBe('ENOSPC');
    w.tool.ask('CONTROL', 'quota|set|memory|1500|');
    expect(guest.ask('WRITE', `${paths[1]}|v`)).toBe('ENOMEM');
    expect(guest.ask('DIRECTORY', '/local/domain/1|')).toBe('');
    expect(w.server.check()).toEqual([]);
  });

  it('a failed transaction too', () => {
    const { w, guests } = worldOf(1);
    const [guest] = guests as [Client];
    w.tool.ask('CONTROL', 'quota|set|transaction-nodes|4|');
    guest.begin('t');
    guest.ask('WRITE', 'a|v', 't');
    guest.ask('WRITE', 'b/c/d/e|v', 't');
    expect(guest.commit('t')).toBe('ENOMEM');
    expect(guest.ask('DIRECTORY', '/local/domain/1|')).toBe('');
    expect(w.domains.get(1)?.nodes).toBe(1);
    expect(w.server.check()).toEqual([]);
  });

  it('a conflict too', () => {
    const { w, tool } = worldOf(1);
    tool.begin('t');
    tool.ask('WRITE', '/t/a/b|v', 't');
    tool.ask('RM', '/tool|', 't');
    w.client(0).ask('WRITE', '/tool/x|v');
    expect(tool.commit('t')).toBe('EAGAIN');
    expect(tool.ask('DIRECTORY', '/|')).toBe('tool|local|');
    expect(w.server.check()).toEqual([]);
  });
});

it('XSA-418: the deepest path is created, listed, checked and removed', () => {
  const { w, tool } = worldOf(1);
  const deepest = `/${Array.from({ length: 1024 }, () => 'd').join('/')}`;
  expect(deepest).toHaveLength(2048);
  for (const tx of [false, true]) {
    const t = tx ? 't' : 0;
    if (tx) tool.begin('t');
    expect(tool.ask('WRITE', `${deepest}|v`, t)).toBe('OK|');
    expect(tool.ask('READ', `${deepest}|`, t)).toBe('v');
    expect(tool.ask('CONTROL', 'check|')).toBe('OK|');
    expect(tool.ask('RM', '/d|', t)).toBe('OK|');
    if (tx) expect(tool.commit('t')).toBe('OK|');
    expect(tool.ask('READ', '/d|')).toBe('ENOENT');
  }
  expect(w.server.check()).toEqual([]);
});

it('XSA-419: nodes go with their owner, wherever they are', () => {
  const { w, tool, guests } = worldOf(1, 2);
  const [one, two] = guests as [Client, Client];
  one.ask('SET_PERMS', '/local/domain/1|n1|b2|');
  expect(two.ask('WRITE', '/local/domain/1/foreign/x|v')).toBe('OK|');
  const watcher = w.client(0);
  watcher.ask('WATCH', '/local/domain/1/foreign|tok|');
  watcher.take();
  one.ask('WRITE', 'kept|v');
  w.server.domainGone(2);
  expect(watcher.events()).toEqual(['/local/domain/1/foreign tok']);
  expect(tool.ask('DIRECTORY', '/local/domain/1|')).toBe('kept|');
  expect(tool.ask('DIRECTORY', '/local/domain|')).toBe('1|');
  expect(w.server.check()).toEqual([]);
});

it('XSA-419: also the root, which stays', () => {
  const { w, tool } = worldOf(1);
  expect(tool.ask('SET_PERMS', '/|n1|r2|')).toBe('OK|');
  tool.ask('MKDIR', '/inherits|');
  w.server.domainGone(1);
  expect(tool.ask('GET_PERMS', '/|')).toBe('n0|r2|');
  expect(tool.ask('DIRECTORY', '/|')).toBe('tool|local|');
  expect(w.server.check()).toEqual([]);
});

it('XSA-420: a length that is negative or too large ends the connection, and only that', () => {
  for (const length of [0xffffffff, 0x80000000, 4097, 65536]) {
    const { w, tool, guests } = worldOf(1);
    for (const client of [...guests, w.client(0)]) {
      client.ask('WATCH', '/|tok|');
      client.begin('t');
      const message = encode(TYPES.READ as number, bytes('/|'));
      new DataView(message.buffer).setUint32(12, length, true);
      client.connection.receive(message);
      expect(client.closed).toBe('protocol');
      client.connection.receive(encode(TYPES.READ as number, bytes('/|')));
    }
    expect(tool.ask('READ', '/|')).toBe('');
    expect(w.server.quotas.denials.get('protocol')).toBe(2);
    expect(w.server.check()).toEqual([]);
  }
});

it('XSA-481: /local/domain/ is a bad path, no more', () => {
  const { tool, guests } = worldOf(1);
  for (const client of [tool, ...guests]) {
    for (const path of ['/local/domain/', '/local/domain/1/', '/local/domain//x']) {
      for (const type of ['READ', 'MKDIR', 'DIRECTORY', 'RM', 'GET_PERMS'])
        expect(client.ask(type, `${path}|`)).toBe('EINVAL');
      expect(client.ask('WATCH', `${path}|tok|`)).toBe('EINVAL');
    }
  }
});

it('XSA-484: RESET_WATCHES inside the transaction that it ends', () => {
  const { w, guests } = worldOf(1);
  const [guest] = guests as [Client];
  guest.begin('t');
  guest.ask('WRITE', 'x|v', 't');
  expect(guest.ask('RESET_WATCHES', '|', 't')).toBe('OK|');
  expect(guest.ask('WRITE', 'x|v', 't')).toBe('ENOENT');
  expect(guest.commit('t')).toBe('ENOENT');
  expect(w.domains.get(1)?.transactions).toBe(0);
  expect(w.server.check()).toEqual([]);
});

it('XSA-206: a busy writer cannot keep a small transaction from committing', () => {
  const { w, guests } = worldOf(1, 2);
  const [busy, small] = guests as [Client, Client];
  busy.ask('SET_PERMS', '/local/domain/1|n1|b2|');
  busy.ask('WRITE', 'counter|0');
  let attempts = 0;
  for (let commits = 0; commits < 20; attempts++) {
    small.begin('t');
    busy.ask('WRITE', `counter|${attempts}`);
    small.ask('READ', '/local/domain/1/counter|', 't');
    busy.ask('WRITE', `counter|${attempts}`);
    small.ask('WRITE', '/local/domain/1/counter|mine', 't');
    busy.ask('WRITE', `counter|${attempts}`);
    if (small.commit('t') === 'OK|') commits++;
    w.pass(1);
    busy.take();
  }
  expect(attempts).toBeLessThanOrEqual(21);
});

it('XSA-72: a reply that would be too long is E2BIG, and DIRECTORY_PART gives all of it', () => {
  const { tool } = worldOf(1);
  const names = Array.from({ length: 1000 }, (_, i) => `name-${i}`);
  for (const name of names) tool.ask('MKDIR', `/t/${name}|`);
  expect(tool.ask('DIRECTORY', '/t|')).toBe('E2BIG');
  const list: string[] = [];
  let offset = 0;
  const generations = new Set<string>();
  for (;;) {
    const reply = tool.ask('DIRECTORY_PART', `/t|${offset}|`);
    expect(reply.length).toBeLessThanOrEqual(4096);
    const [generation, ...part] = reply.split('|');
    generations.add(generation as string);
    offset += reply.length - (generation as string).length - 1;
    list.push(...part.filter((name) => name !== ''));
    if (reply.endsWith('||')) break;
  }
  expect(list).toEqual(names);
  expect(generations.size).toBe(1);
});
