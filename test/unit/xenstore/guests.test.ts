// What unprivileged clients may do and see: permissions, quotas, relative paths. (tables: client, request, reply, events)
import { describe, expect, it } from 'vitest';
import { type Client, World } from './harness.js';

describe('permissions', () => {
  function world(): { tool: Client; one: Client; two: Client; w: World } {
    const w = new World();
    const one = w.guest(1);
    const two = w.guest(2);
    for (const path of ['private', 'readable', 'writable', 'both', 'open']) w.tool.ask('WRITE', `/t/${path}|v`);
    w.tool.ask('SET_PERMS', '/t/readable|n0|r1|');
    w.tool.ask('SET_PERMS', '/t/writable|n0|w1|');
    w.tool.ask('SET_PERMS', '/t/both|n0|b1|');
    w.tool.ask('SET_PERMS', '/t/open|b0|n2|');
    return { tool: w.tool, one, two, w };
  }

  const table: [client: 'one' | 'two', type: string, payload: string, reply: string][] = [
    ['one', 'READ', '/t/private|', 'EACCES'],
    ['one', 'READ', '/t/readable|', 'v'],
    ['one', 'WRITE', '/t/readable|x', 'EACCES'],
    ['one', 'READ', '/t/writable|', 'EACCES'],
    ['one', 'WRITE', '/t/writable|x', 'OK|'],
    ['one', 'WRITE', '/t/both|x', 'OK|'],
    ['one', 'READ', '/t/both|', 'x'],
    ['one', 'READ', '/t/open|', 'v'],
    ['two', 'READ', '/t/open|', 'EACCES'],
    ['two', 'READ', '/t/both|', 'EACCES'],
    ['one', 'DIRECTORY', '/t|', 'EACCES'],
    ['one', 'GET_PERMS', '/t/readable|', 'n0|r1|'],
    ['one', 'GET_PERMS', '/t/writable|', 'EACCES'],
    // What isn't there tells nothing to who may not see what is above.
    ['one', 'READ', '/t/none|', 'EACCES'],
    ['one', 'READ', '/t/readable/none|', 'ENOENT'],
    ['one', 'WRITE', '/t/readable/none|x', 'EACCES'],
    ['one', 'WRITE', '/t/both/new|x', 'OK|'],
    ['one', 'GET_PERMS', '/t/both/new|', 'n1|b1|'],
    ['one', 'SET_PERMS', '/t/both|n1|', 'EACCES'],
    ['one', 'SET_PERMS', '/t/both/new|n1|r2|', 'OK|'],
    ['two', 'READ', '/t/both/new|', 'x'],
    ['two', 'RM', '/t/both/new|', 'EACCES'],
    ['one', 'RM', '/t/both/none|', 'OK|'],
    ['one', 'RM', '/t/both/none/none|', 'ENOENT'],
    ['one', 'RM', '/t/both|', 'OK|'],
    ['one', 'READ', '/|', 'EACCES'],
    ['one', 'RM', '/|', 'EACCES'],
    ['one', 'MKDIR', '/t/readable|', 'EACCES'],
    ['one', 'MKDIR', '/t/open|', 'OK|'],
    ['one', 'MKDIR', '/top|', 'EACCES'],
    ['one', 'WRITE', 'data/x|1', 'OK|'],
    ['one', 'READ', '/local/domain/1/data/x|', '1'],
    ['two', 'READ', '/local/domain/1/data/x|', 'EACCES'],
    ['one', 'GET_DOMAIN_PATH', '2|', '/local/domain/2|'],
    ['one', 'INTRODUCE', '3|1|1|', 'EACCES'],
    ['one', 'RELEASE', '2|', 'EACCES'],
    ['one', 'RESUME', '2|', 'EACCES'],
    ['one', 'SET_TARGET', '1|2|', 'EACCES'],
    ['one', 'IS_DOMAIN_INTRODUCED', '2|', 'EACCES'],
    ['one', 'CONTROL', 'check|', 'EACCES'],
    ['one', 'GET_FEATURE', '|', 'EACCES'],
    ['one', 'SET_FEATURE', '1|0|', 'EACCES'],
    ['one', 'GET_QUOTA', '|', 'EACCES'],
    ['one', 'SET_QUOTA', 'nodes|0|', 'EACCES'],
    ['one', 'SET_PERMS', '@releaseDomain|n1|', 'EACCES'],
  ];
  for (const tx of [false, true]) {
    it(`table ${tx ? 'inside a transaction' : 'of single requests'}`, () => {
      const { one, two, w } = world();
      if (tx) one.begin('t');
      for (const [name, type, payload, reply] of table) {
        const client = name === 'one' ? one : two;
        if (tx && name === 'two') continue;
        expect(client.ask(type, payload, tx ? 't' : 0), `${name} ${type} ${payload}`).toBe(reply);
      }
      if (tx) expect(one.commit('t')).toBe('OK|');
      expect(w.server.check()).toEqual([]);
    });
  }

  it('SET_TARGET gives the rights of another domain, for as long as that lives', () => {
    const { tool, one, two } = world();
    two.ask('WRITE', 'secret|s');
    expect(one.ask('READ', '/local/domain/2/secret|')).toBe('EACCES');
    expect(tool.ask('SET_TARGET', '1|2|')).toBe('OK|');
    expect(one.ask('READ', '/local/domain/2/secret|')).toBe('s');
    expect(one.ask('SET_PERMS', '/local/domain/2/secret|n2|r3|')).toBe('OK|');
    expect(two.ask('READ', '/t/readable|')).toBe('EACCES');
    tool.ask('RELEASE', '2|');
    tool.ask('INTRODUCE', '2|1|1|');
    tool.ask('WRITE', '/local/domain/2/new|s');
    tool.ask('SET_PERMS', '/local/domain/2/new|n2|');
    expect(one.ask('READ', '/local/domain/2/new|')).toBe('EACCES');
  });
});

describe('quotas', () => {
  const limits: [name: string, value: number, use: (guest: Client, i: number) => string, denied: string][] = [
    ['nodes', 5, (g, i) => g.ask('MKDIR', `n${i}|`), 'ENOSPC'],
    ['watches', 4, (g, i) => g.ask('WATCH', `w|${i}|`), 'E2BIG'],
    ['transactions', 4, (g) => g.ask('TRANSACTION_START', '|').replace(/\d+\|/, 'OK|'), 'ENOSPC'],
  ];
  for (const [name, value, use, denied] of limits) {
    it(`${name}: the limit can be reached, not passed, and every denial is seen`, () => {
      const w = new World();
      const guest = w.guest(1);
      expect(w.tool.ask('CONTROL', `quota|set|${name}|${value}|`)).toBe('OK|');
      const before = name === 'nodes' ? w.domains.get(1)?.nodes : 0;
      let allowed = 0;
      while (use(guest, allowed) === 'OK|') allowed++;
      expect(allowed + (before ?? 0)).toBe(value);
      expect(use(guest, allowed)).toBe(denied);
      expect(w.server.quotas.denials.get(name)).toBe(2);
      expect(w.denials.at(-1)).toMatchObject({ what: name, domid: 1, errno: denied });
      expect(w.log.filter((l) => l.includes(`denied by ${name}`))).toHaveLength(1);
      w.now += 10_000;
      use(guest, allowed);
      expect(w.log.filter((l) => l.includes(`denied by ${name}`))).toHaveLength(2);
      expect(w.tool.ask('CONTROL', 'check|')).toBe('OK|');
    });
  }

  it('the node quota counts what a transaction creates', () => {
    const w = new World();
    const guest = w.guest(1);
    w.tool.ask('CONTROL', 'quota|set|nodes|4|');
    guest.begin('t');
    expect(guest.ask('WRITE', 'a/b/c|', 't')).toBe('OK|');
    expect(guest.ask('WRITE', 'd|', 't')).toBe('ENOSPC');
    expect(guest.commit('t')).toBe('OK|');
    expect(w.domains.get(1)?.nodes).toBe(4);
  });

  it('two transactions cannot share the last free node', () => {
    const w = new World();
    const guest = w.guest(1);
    w.tool.ask('CONTROL', 'quota|set|nodes|2|');
    for (const t of ['t', 'u']) {
      guest.begin(t);
      expect(guest.ask('WRITE', `${t}|`, t)).toBe('OK|');
    }
    expect(guest.commit('t')).toBe('OK|');
    expect(guest.commit('u')).toBe('ENOSPC');
    expect(w.server.check()).toEqual([]);
  });

  it('node-size: header, permissions, value and children count', () => {
    const w = new World();
    const guest = w.guest(1);
    expect(guest.ask('WRITE', `v|${'x'.repeat(2015)}`)).toBe('OK|');
    expect(guest.ask('WRITE', `v|${'x'.repeat(2016)}`)).toBe('ENOSPC');
    expect(guest.ask('MKDIR', 'v/c|')).toBe('ENOSPC');
    expect(guest.ask('SET_PERMS', 'v|n1|r2|')).toBe('ENOSPC');
    expect(w.tool.ask('WRITE', `/local/domain/1/v|${'x'.repeat(3000)}`)).toBe('OK|');
    guest.begin('t');
    expect(guest.ask('WRITE', `u|${'x'.repeat(2016)}`, 't')).toBe('ENOSPC');
    expect(guest.commit('t')).toBe('OK|');
  });

  it('permissions a node', () => {
    const w = new World();
    const guest = w.guest(1);
    expect(guest.ask('SET_PERMS', '/local/domain/1|n1|r2|r3|r4|r5|')).toBe('OK|');
    expect(guest.ask('SET_PERMS', '/local/domain/1|n1|r2|r3|r4|r5|r6|')).toBe('ENOSPC');
  });

  it('nodes in a transaction: one too many fails the whole', () => {
    const w = new World();
    const guest = w.guest(1);
    w.tool.ask('CONTROL', 'quota|set|transaction-nodes|3|');
    guest.begin('t');
    expect(guest.ask('WRITE', 'a|1', 't')).toBe('OK|');
    guest.ask('READ', 'b|', 't');
    expect(guest.ask('READ', 'c|', 't')).toBe('ENOSPC');
    expect(guest.commit('t')).toBe('ENOMEM');
    expect(guest.ask('READ', 'a|')).toBe('ENOENT');
  });

  it('path-max does not count /local/domain/<n>/', () => {
    const w = new World();
    const guest = w.guest(1);
    w.tool.ask('CONTROL', 'quota|set|path-max|20|');
    expect(guest.ask('WRITE', `${'x'.repeat(20)}|`)).toBe('OK|');
    expect(guest.ask('WRITE', `${'x'.repeat(21)}|`)).toBe('EINVAL');
    expect(w.tool.ask('READ', `/${'x'.repeat(20)}|`)).toBe('EINVAL');
  });

  it('memory: the hard limit stops growth, then requests; the soft one is logged once in ten seconds', () => {
    const w = new World();
    const guest = w.guest(1);
    w.tool.ask('CONTROL', 'quota|set|memory|5500|');
    w.tool.ask('CONTROL', 'quota-soft|set|memory|3000|');
    expect(guest.ask('WRITE', `a|${'x'.repeat(1900)}`)).toBe('OK|');
    expect(guest.ask('WRITE', `b|${'x'.repeat(1900)}`)).toBe('OK|');
    expect(w.log.filter((l) => l.includes('soft memory'))).toHaveLength(1);
    expect(guest.ask('WRITE', `c|${'x'.repeat(1900)}`)).toBe('ENOMEM');
    expect(w.tool.ask('WRITE', `/local/domain/1/a|${'x'.repeat(4000)}`)).toBe('OK|');
    // Beyond the limit now: its requests wait until it is below again.
    guest.send('READ', 'b|');
    expect(guest.connection.wantsInput).toBe(false);
    expect(guest.take()).toEqual([]);
    expect(w.denials.at(-1)?.reason).toContain('requests wait');
    w.tool.ask('WRITE', '/local/domain/1/a|');
    w.pass(100);
    expect(guest.take()).toHaveLength(1);
    expect(w.server.check()).toEqual([]);
  });

  it('SET_QUOTA: a domain of its own, 0 switches off, GET_QUOTA tells', () => {
    const w = new World();
    w.tool.ask('INTRODUCE', '1|1|1|');
    expect(w.tool.ask('GET_QUOTA', '|')).toBe(
      'nodes watches transactions outstanding transaction-nodes memory node-size path-max permissions soft-memory|',
    );
    expect(w.tool.ask('GET_QUOTA', 'nodes|')).toBe('1000|');
    expect(w.tool.ask('SET_QUOTA', '1|nodes|7|')).toBe('OK|');
    expect(w.tool.ask('SET_QUOTA', 'nodes|8|')).toBe('OK|');
    expect(w.tool.ask('GET_QUOTA', '1|nodes|')).toBe('7|');
    expect(w.tool.ask('GET_QUOTA', '2|nodes|')).toBe('8|');
    expect(w.tool.ask('SET_QUOTA', '1|soft-memory|5|')).toBe('OK|');
    expect(w.tool.ask('GET_QUOTA', '1|soft-memory|')).toBe('5|');
    for (const bad of ['nonsense|1|', 'nodes|x|', 'nodes|-1|', 'nodes|', '1|2|3|4|', 'toString|1|']) {
      expect(w.tool.ask('SET_QUOTA', bad), bad).toBe('EINVAL');
    }
    expect(w.tool.ask('SET_QUOTA', '40000|nodes|1|')).toBe('ENOENT');
    w.tool.ask('SET_QUOTA', '1|nodes|0|');
    const guest = w.client(1);
    w.tool.ask('WRITE', '/local/domain/1/x|');
    w.tool.ask('SET_PERMS', '/local/domain/1|n1|');
    for (let i = 0; i < 20; i++) expect(guest.ask('MKDIR', `n${i}|`)).toBe('OK|');
  });

  it('features: the server’s, or fewer for a domain not yet introduced', () => {
    const w = new World();
    expect(w.tool.ask('GET_FEATURE', '|')).toBe('7|');
    expect(w.tool.ask('GET_FEATURE')).toBe('7|');
    expect(w.tool.ask('SET_FEATURE', '1|3|')).toBe('OK|');
    expect(w.tool.ask('GET_FEATURE', '1|')).toBe('3|');
    expect(w.tool.ask('SET_FEATURE', '1|8|')).toBe('EINVAL');
    w.tool.ask('INTRODUCE', '1|1|1|');
    expect(w.tool.ask('SET_FEATURE', '1|1|')).toBe('EBUSY');
  });
});

describe('watches', () => {
  it('a relative watch reports relative paths', () => {
    const w = new World();
    const guest = w.guest(1);
    expect(guest.all('WATCH', 'data|tok|')).toEqual(['WATCH OK|', 'WATCH_EVENT data|tok|']);
    w.tool.ask('WRITE', '/local/domain/1/data/x|1');
    expect(guest.events()).toEqual(['data/x tok']);
    w.tool.ask('SET_PERMS', '/local/domain/1/data/x|n0|');
    expect(guest.events()).toEqual(['data/x tok']);
    w.tool.ask('SET_PERMS', '/local/domain/1/data|n0|');
    guest.take();
    w.tool.ask('WRITE', '/local/domain/1/data/x|hidden');
    expect(guest.events()).toEqual([]);
    w.tool.ask('SET_PERMS', '/local/domain/1/data/x|n1|');
    expect(guest.events()).toEqual(['data/x tok']);
    guest.ask('WATCH', '/local/domain/1/data|abs|');
    w.tool.ask('WRITE', '/local/domain/1/data/x|2');
    expect(guest.events()).toEqual(['data/x tok', '/local/domain/1/data/x abs']);
  });

  it('depth limits the levels below', () => {
    const w = new World();
    const c = w.client(0);
    for (const depth of [0, 1, 2]) c.ask('WATCH', `/t|d${depth}|${depth}|`);
    c.take();
    const fired = (path: string): string[] => {
      w.tool.ask('WRITE', `${path}|1`);
      return c.events().map((e) => e.split(' ')[1] as string);
    };
    expect(fired('/t')).toEqual(['d0', 'd1', 'd2']);
    expect(fired('/t/a')).toEqual(['d1', 'd2']);
    expect(fired('/t/a/b')).toEqual(['d2']);
    expect(fired('/t/a/b/c')).toEqual([]);
    for (const bad of ['-1', 'x', '', '1 ']) expect(c.ask('WATCH', `/t|t${bad}|${bad}|`)).toBe('EINVAL');
    expect(c.ask('WATCH', '@releaseDomain|t|2|')).toBe('EINVAL');
  });

  it('identical waiting events are merged; special ones and delivered ones are not', () => {
    const w = new World();
    const c = w.client(0);
    c.ask('WATCH', '/t|tok|');
    c.ask('WATCH', '@introduceDomain|tok|');
    c.take();
    for (let i = 0; i < 3; i++) w.tool.ask('WRITE', '/t|1');
    w.tool.ask('WRITE', '/t/a|1');
    w.tool.ask('WRITE', '/t|1');
    expect(c.events()).toEqual(['/t tok', '/t/a tok']);
    w.tool.ask('WRITE', '/t|1');
    expect(c.events()).toEqual(['/t tok']);
    w.tool.ask('INTRODUCE', '1|1|1|');
    w.tool.ask('INTRODUCE', '2|1|1|');
    expect(c.events()).toEqual(['@introduceDomain tok', '@introduceDomain tok']);
  });

  it('special watches: introduction, shutdown once, resume, release, with the domid on request', () => {
    const w = new World();
    const c = w.client(0);
    c.ask('WATCH', '@introduceDomain|in|');
    c.ask('WATCH', '@releaseDomain|out|');
    c.ask('WATCH', '@releaseDomain|which|1|');
    c.ask('WATCH', '@releaseDomain/2|two|');
    c.take();
    w.tool.ask('INTRODUCE', '1|1|1|');
    expect(c.events()).toEqual(['@introduceDomain in']);
    w.tool.ask('INTRODUCE', '1|1|1|');
    expect(c.events()).toEqual([]);
    w.server.domainShutdown(1);
    expect(c.events()).toEqual(['@releaseDomain out', '@releaseDomain/1 which']);
    w.server.domainShutdown(1);
    expect(c.events()).toEqual([]);
    expect(w.tool.ask('RESUME', '1|')).toBe('OK|');
    w.server.domainShutdown(1);
    expect(c.events()).toEqual(['@releaseDomain out', '@releaseDomain/1 which']);
    w.tool.ask('INTRODUCE', '2|1|1|');
    w.server.domainGone(2);
    expect(c.events()).toEqual([
      '@introduceDomain in',
      '@releaseDomain out',
      '@releaseDomain/2 which',
      '@releaseDomain/2 two',
    ]);
    expect(w.tool.ask('RELEASE', '1|')).toBe('OK|');
    expect(c.events()).toEqual(['@releaseDomain out', '@releaseDomain/1 which']);
    expect(w.tool.ask('IS_DOMAIN_INTRODUCED', '1|')).toBe('F|');
  });
});

describe('RESTRICT', () => {
  it('is unknown unless asked for', () => {
    expect(new World().tool.ask('RESTRICT', '1|')).toBe('ENOSYS');
  });

  it('is one way, to the rights and the account of a domain, with paths relative to where they were', () => {
    const w = new World({}, { allowRestrict: true });
    w.guest(1);
    const c = w.client(0);
    w.tool.ask('WRITE', '/local/domain/0/device-model/1/state|');
    w.tool.ask('SET_PERMS', '/local/domain/0/device-model/1/state|n0|b1|');
    c.ask('WATCH', 'device-model|t|');
    expect(c.ask('RESTRICT', '|')).toBe('EINVAL');
    expect(c.ask('RESTRICT', '0|')).toBe('EINVAL');
    expect(c.ask('RESTRICT', '40000|')).toBe('ENOENT');
    expect(c.ask('RESTRICT', '1|')).toBe('OK|');
    expect(c.ask('READ', '/tool|')).toBe('EACCES');
    expect(c.ask('WRITE', 'device-model/1/state|running')).toBe('OK|');
    expect(c.ask('WRITE', '/local/domain/1/data|x')).toBe('OK|');
    expect(c.ask('RESTRICT', '1|')).toBe('EACCES');
    expect(c.ask('INTRODUCE', '5|1|1|')).toBe('EACCES');
    expect(w.domains.get(1)?.watches).toBe(1);
    w.tool.ask('CONTROL', 'quota|set|nodes|3|');
    expect(c.ask('WRITE', '/local/domain/1/a/b|x')).toBe('ENOSPC');
    expect(w.server.check()).toEqual([]);
    w.server.domainGone(1);
    w.tool.ask('INTRODUCE', '1|1|1|');
    w.tool.ask('WRITE', '/local/domain/1/x|new');
    w.tool.ask('SET_PERMS', '/local/domain/1/x|n1|');
    expect(c.ask('READ', '/local/domain/1/x|')).toBe('EACCES');
    c.connection.close();
    expect(w.server.check()).toEqual([]);
  });
});
