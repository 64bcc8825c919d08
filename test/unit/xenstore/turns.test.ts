// Turns: who waits for whom, for how long, and that contending transactions get through.
import { describe, expect, it } from 'vitest';
import { type Client, World } from './harness.js';

/** Makes a client lose a transaction on /t/x. */
function lose(world: World, loser: Client): void {
  loser.begin('lost');
  loser.ask('WRITE', '/t/x|mine', 'lost');
  world.client(0).ask('WRITE', '/t/x|other');
  expect(loser.commit('lost')).toBe('EAGAIN');
}

function setUp(): { w: World; a: Client; b: Client } {
  const w = new World();
  w.tool.ask('WRITE', '/t/x|0');
  w.tool.ask('WRITE', '/t/y|0');
  return { w, a: w.client(0), b: w.client(0) };
}

describe('a turn', () => {
  it('is only for who has lost, and makes only changes of its paths wait', () => {
    const { w, a, b } = setUp();
    a.begin('t');
    expect(b.ask('WRITE', '/t/x|1')).toBe('OK|');
    a.ask('TRANSACTION_END', 'F|', 't');
    lose(w, a);
    a.begin('t');
    expect(b.ask('READ', '/t/x|')).toBe('other');
    expect(b.ask('WRITE', '/elsewhere|1')).toBe('OK|');
    expect(b.ask('WRITE', '/t/x|2')).toBe('no reply');
    expect(b.connection.wantsInput).toBe(false);
    expect(a.ask('WRITE', '/t/x|mine', 't')).toBe('OK|');
    expect(a.commit('t')).toBe('OK|');
    expect(b.take().map((m) => m.type)).toEqual(['WRITE']);
    expect(b.connection.wantsInput).toBe(true);
    expect(w.tool.ask('READ', '/t/x|')).toBe('2');
  });

  it('lapses after 10 ms, and the next one is as far away', () => {
    const { w, a, b } = setUp();
    lose(w, a);
    a.begin('t');
    b.send('WRITE', '/t/x|2');
    expect(w.server.nextDeadlineMs()).toBe(10);
    w.pass(9);
    expect(b.take()).toEqual([]);
    w.pass(1);
    expect(b.take()).toHaveLength(1);
    a.ask('WRITE', '/t/x|mine', 't');
    expect(a.commit('t')).toBe('EAGAIN');
    a.begin('t');
    expect(b.ask('WRITE', '/t/x|3')).toBe('OK|');
    a.ask('TRANSACTION_END', 'F|', 't');
    w.pass(10);
    a.begin('t');
    expect(b.ask('WRITE', '/t/x|3')).toBe('no reply');
  });

  it('ends with the client that holds it', () => {
    const { w, a, b } = setUp();
    lose(w, a);
    a.begin('t');
    b.send('WRITE', '/t/x|2');
    a.connection.close();
    expect(b.take()).toHaveLength(1);
    expect(w.server.nextDeadlineMs()).toBeNull();
  });

  it('of a waiting client that leaves is forgotten', () => {
    const { w, a, b } = setUp();
    lose(w, a);
    a.begin('t');
    b.send('WRITE', '/t/x|2');
    b.connection.close();
    expect(a.commit('t')).toBe('OK|');
    expect(w.tool.ask('READ', '/t/x|')).toBe('other');
  });

  it('may end in the middle of another client’s request, whose reply is not touched', () => {
    const { w, a, b } = setUp();
    lose(w, a);
    a.ask('WATCH', '/noise|tok|');
    a.begin('t');
    b.send('WRITE', '/t/x|2');
    for (let i = 0; a.closed === null && i < 10_000; i++) {
      expect(w.tool.all('WRITE', `/noise/${i}/${'x'.repeat(1500)}|`)).toEqual(['WRITE OK|']);
    }
    expect(a.closed).toBe('output-limit');
    expect(b.take()).toMatchObject([{ type: 'WRITE', requestId: 42, payload: 'OK|' }]);
  });

  it('of a guest makes other guests wait, never a privileged client', () => {
    const w = new World();
    const [one, two] = [w.guest(1), w.guest(2)];
    w.tool.ask('WRITE', '/t/x|0');
    w.tool.ask('SET_PERMS', '/t/x|n0|b1|b2|');
    lose(w, one);
    one.begin('t');
    expect(two.ask('WRITE', '/t/x|2')).toBe('no reply');
    expect(w.tool.ask('WRITE', '/t/x|3')).toBe('OK|');
    expect(one.commit('t')).toBe('OK|');
    expect(two.take()).toHaveLength(1);
  });

  it('never makes a client wait for itself', () => {
    const { w, a } = setUp();
    lose(w, a);
    a.begin('t');
    a.ask('READ', '/t/x|', 't');
    expect(a.ask('WRITE', '/t/x|own')).toBe('OK|');
    a.begin('u');
    expect(a.ask('WRITE', '/t/x|own', 't')).toBe('OK|');
    expect(a.commit('t')).toBe('EAGAIN');
  });

  it('comes in the order of asking', () => {
    const { w, a, b } = setUp();
    const c = w.client(0);
    for (const client of [a, b, c]) lose(w, client);
    a.begin('t');
    b.send('TRANSACTION_START', '|');
    c.send('TRANSACTION_START', '|');
    expect(a.commit('t')).toBe('OK|');
    const reply = b.take()[0]?.payload as string;
    expect(c.take()).toEqual([]);
    b.name('t', reply);
    expect(b.commit('t')).toBe('OK|');
    expect(c.take()).toHaveLength(1);
  });
});

/** Clients that each run transactions (start, 5 reads, 2 writes, end) on the same nodes, one request each in turn. */
function contend(count: number, rounds: number): { committed: number; again: number } {
  const w = new World();
  const paths = Array.from({ length: 5 }, (_, i) => `/t/${i}`);
  for (const path of paths) w.tool.ask('WRITE', `${path}|0`);
  const clients = Array.from({ length: count }, () => ({ client: w.client(0), step: 0, waiting: false, committed: 0 }));
  let again = 0;
  for (let round = 0; round < rounds; round++) {
    for (const state of clients) {
      const { client } = state;
      if (!state.waiting) {
        const path = paths[state.step % 5] as string;
        if (state.step === 0) client.send('TRANSACTION_START', '|');
        else if (state.step <= 5) client.send('READ', `${path}|`, 't');
        else if (state.step <= 7) client.send('WRITE', `${path}|${round}`, 't');
        else client.send('TRANSACTION_END', 'T|', 't');
      }
      const [reply] = client.take();
      state.waiting = reply === undefined;
      if (reply === undefined) continue;
      if (state.step === 0) client.name('t', reply.payload);
      if (state.step === 8 && reply.type === 'ERROR') again++;
      if (state.step === 8 && reply.type !== 'ERROR') state.committed++;
      state.step = (state.step + 1) % 9;
    }
    w.pass(0.1);
  }
  const committed = clients.map((c) => c.committed);
  expect(Math.min(...committed)).toBeGreaterThan(0.5 * Math.max(...committed));
  return { committed: committed.reduce((a, b) => a + b), again };
}

it('four clients on the same nodes: hardly any EAGAIN, and each gets its share', () => {
  const { committed, again } = contend(4, 5000);
  expect(committed).toBeGreaterThan(450);
  expect(again / (committed + again)).toBeLessThan(0.05);
});
