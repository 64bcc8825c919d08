/**
 * Sudden ends at random moments, with load: of the gate, of its clients, of the daemon behind it. What was acknowledged is
 * in the store, and nobody leaves anything behind.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { Random } from '../fuzz/random.js';
import { GateClient } from './gate-client.js';
import { StoreDaemon } from './gate-store.js';
import { Run, until } from './harness.js';

const SEED = Number(process.env.POSTERN_FUZZ_SEED ?? 20231003);
const ROUNDS = 4;

describe('sudden ends', () => {
  const random = new Random(SEED);
  let home: string;
  let store: StoreDaemon;
  const runs: Run[] = [];

  beforeEach(async () => {
    home = mkdtempSync(join(tmpdir(), 'postern-test-gate-'));
    store = await StoreDaemon.start(join(home, 'store'));
  });

  afterEach(async () => {
    for (const run of runs.splice(0)) await run.clean();
    await store.stop();
    rmSync(home, { recursive: true, force: true });
  });

  async function gate(): Promise<Run> {
    const args = ['--socket', join(home, 'gate'), '--upstream', store.path, '--policy', 'every-path', '--json'];
    const run = new Run(['gate', ...args]);
    runs.push(run);
    await run.says('"socket"');
    return run;
  }

  /** Writes 1, 2, … to a node, one after the other, until the connection ends. */
  async function count(
    client: GateClient,
    path: string,
    upTo: number,
  ): Promise<{ sent: number; acknowledged: number }> {
    let sent = 0;
    let acknowledged = 0;
    try {
      while (sent < upTo) {
        expect(await client.ask('WRITE', `${path}|${++sent}`)).toBe('OK|');
        acknowledged = sent;
      }
    } catch (error) {
      if (!/connection has ended/.test((error as Error).message)) throw error;
    }
    return { sent, acknowledged };
  }

  it('of the gate', async () => {
    for (let round = 0; round < ROUNDS; round++) {
      const running = await gate();
      const clients = await Promise.all([0, 1, 2].map(() => GateClient.connect(join(home, 'gate'))));
      for (const client of clients) {
        await client.ask('WATCH', '/n|t|');
        await client.ask('TRANSACTION_START', '|');
      }
      const counting = clients.map((client, i) => count(client, `/n/${round}/${i}`, 1e9));
      await sleep(random.below(150));
      running.child.kill('SIGKILL');
      for (const [i, { sent, acknowledged }] of (await Promise.all(counting)).entries()) {
        const value = acknowledged === 0 ? 0 : Number(store.read(`/n/${round}/${i}`));
        expect(value).toBeGreaterThanOrEqual(acknowledged);
        expect(value).toBeLessThanOrEqual(sent);
      }
      await until('it is gone upstream', () => store.counts().connections === 0);
      expect(store.counts()).toEqual({ connections: 0, watches: 0, transactions: 0 });
      expect(store.check()).toEqual([]);
    }
  });

  it('of clients', async () => {
    const running = await gate();
    for (let round = 0; round < 10 * ROUNDS; round++) {
      const client = await GateClient.connect(join(home, 'gate'));
      const requests: [string, string][] = [
        ['WATCH', `/n|t${round}|`],
        ['TRANSACTION_START', '|'],
        ['WRITE', `/n/${round}|x`],
        ['UNWATCH', `/n|t${round}|`],
        ['READ', '/n|'],
      ];
      for (let i = random.below(40); i > 0; i--) client.send(...random.pick(requests));
      if (random.oneIn(2)) await client.ask('READ', '/tool|');
      if (random.oneIn(3)) await sleep(random.below(10));
      client.close();
    }
    await until('all are gone upstream', () => store.counts().connections === 0);
    expect(store.counts()).toEqual({ connections: 0, watches: 0, transactions: 0 });
    expect(store.check()).toEqual([]);
    running.child.kill('SIGTERM');
    const counts = (await running.ended).stdout.trim().split('\n').at(-1) as string;
    expect(JSON.parse(counts)).toMatchObject({ connections: 0, watches: 0, transactions: 0 });
  });

  it('of the daemon: its clients only wait', async () => {
    await gate();
    const clients = await Promise.all([0, 1, 2].map(() => GateClient.connect(join(home, 'gate'))));
    for (const [i, client] of clients.entries()) expect(await client.ask('WATCH', `/n/${i}|t|`)).toBe('OK|');
    const upTo = 400;
    const counting = clients.map((client, i) => count(client, `/n/${i}`, upTo));
    let done = false;
    void Promise.all(counting).then(() => {
      done = true;
    });
    for (let drops = 0; !done && drops < 20; drops++) {
      await sleep(random.below(40));
      store.dropAll();
    }
    for (const [i, { acknowledged }] of (await Promise.all(counting)).entries()) {
      expect(acknowledged).toBe(upTo);
      expect(store.read(`/n/${i}`)).toBe(String(upTo));
    }
    for (const client of clients) client.close();
    await until('all are gone upstream', () => store.counts().connections === 0);
    expect(store.counts()).toEqual({ connections: 0, watches: 0, transactions: 0 });
    expect(store.check()).toEqual([]);
  });
});
