/**
 * Conformance: Debian's test-xenstore and xenstore-* tools, unmodified, on every way to a store, with the results that they
 * have on C xenstored. That daemon is one of the ways: it shows that what is recorded is right.
 *
 * POSTERN_LONG=1 runs the random tests for a minute each; RECORD=1 writes the recorded answers anew.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import {
  type RunningStore,
  startTransport,
  TRANSPORT_NAMES,
  TRANSPORTS,
  XEN_BIN,
  xenPrograms,
} from '../support/xenstore-transports.js';
import { readScript, record, runStep } from './xenstore-script.js';

const TEST_XENSTORE = `${XEN_BIN}/test-xenstore`;
const RANDOM_SECONDS = process.env.POSTERN_LONG === '1' ? 60 : 2;
const ITERATIONS = 20;
/** The names that `test-xenstore -l` lists. */
const TESTS = [
  'read 1',
  'read 2000',
  'write 1',
  'write 2000',
  'dir',
  'rm node',
  'rm dir',
  'ta empty',
  'ta empty x',
  'ta rmw',
  'ta rmw x',
  'ta err',
];

for (const name of TRANSPORT_NAMES) {
  const { title, needs } = TRANSPORTS[name];
  const missing = [xenPrograms, needs].find((found) => !found.ok);

  describe.skipIf(missing !== undefined)(missing?.named(title) ?? title, () => {
    let store: RunningStore;

    beforeAll(async () => {
      store = await startTransport(name);
    });

    afterAll(async () => {
      await store?.close();
    });

    it.each(TESTS)('test-xenstore: %s', async (test) => {
      const { status, stdout, stderr } = await store.run([TEST_XENSTORE, '-i', String(ITERATIONS), '-t', test]);
      // A test that passed says how long it took, and nothing else.
      expect(stdout.replaceAll(/\d+ ns/g, 'N ns'), `${stderr}\n${store.output}`).toBe(
        `${test.padEnd(10)}: avg: N ns (N ns .. N ns)\n`,
      );
      expect([stderr, status]).toEqual(['', 0]);
    });

    it(`test-xenstore: at random, for ${RANDOM_SECONDS} s`, async () => {
      const ran = await store.run([TEST_XENSTORE, '-r', String(RANDOM_SECONDS)], 60_000 + RANDOM_SECONDS * 1000);
      expect(ran, store.output).toEqual({ status: 0, stdout: '', stderr: '' });
    });

    it('test-xenstore: four at a time, at random', async () => {
      const runs = await Promise.all(Array.from({ length: 4 }, () => store.run([TEST_XENSTORE, '-r', '2'])));
      expect(runs, store.output).toEqual(runs.map(() => ({ status: 0, stdout: '', stderr: '' })));
      // Each has taken away what it had made, and the last of them what they had in common.
      const left = await store.run(['xenstore-exists', 'xenstore-test']);
      expect(left.status).toBe(1);
    });

    it('the xenstore-* tools', async () => {
      const answers = new Map<string, readonly string[]>();
      for (const { command } of readScript()) answers.set(command, await runStep(store, command));
      if (process.env.RECORD === '1' && name === 'c') record(answers);
      const shown = readScript().map(({ command, answer }) => [`$ ${command}`, ...answer].join('\n'));
      const ours = [...answers].map(([command, answer]) => [`$ ${command}`, ...answer].join('\n'));
      expect(shown.length).toBeGreaterThan(50);
      expect(ours, store.output).toEqual(shown);
    });
  });
}
