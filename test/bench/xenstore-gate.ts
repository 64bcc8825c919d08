/** What the gate adds to a request: through it and past it, by turns, all on one core. */
import { writeFileSync } from 'node:fs';
import { type BenchOptions, type Figure, type Group, median } from './figure.js';
import { POSTERN, temporary } from './programs.js';
import { startOurs, XenstoreDaemon } from './xenstore-daemons.js';

const ADDED_US = 30;
const ROUNDS = 15;
const QUICK_ROUNDS = 3;

/** Lets the load through, at any rate. */
const POLICY = {
  name: 'bench',
  grants: [{ why: 'the load', paths: ['/local/domain/{domid}/device/**'], rights: ['read', 'write', 'create'] }],
  limits: { 'requests-per-second': 0 },
};

export const xenstoreGate: Group = {
  name: 'xenstore-gate',
  async measure(options) {
    const daemons: XenstoreDaemon[] = [];
    try {
      const daemon = await startOurs();
      daemons.push(daemon);
      const gate = await startGate(daemon.socketPath);
      daemons.unshift(gate);
      const figures: Figure[] = [];
      for (const what of ['read', 'write']) figures.push(await measure(what, daemon, gate, options));
      return figures;
    } finally {
      for (const daemon of daemons) await daemon.stop();
    }
  },
};

function startGate(upstream: string): Promise<XenstoreDaemon> {
  const policy = temporary('gate-policy.json');
  writeFileSync(policy, JSON.stringify(POLICY));
  const path = temporary('gate');
  const options = ['--domid', '1', '--socket', path, '--upstream', upstream, '--policy', policy];
  return XenstoreDaemon.start('postern gate', [process.execPath, POSTERN, 'gate', ...options], path);
}

async function measure(
  what: string,
  daemon: XenstoreDaemon,
  gate: XenstoreDaemon,
  { quick }: BenchOptions,
): Promise<Figure> {
  const command = `latency ${what} 3000`;
  for (const one of [daemon, gate]) {
    await one.place('one core');
    await one.run(command);
  }
  const rounds: { direct: readonly number[]; through: readonly number[] }[] = [];
  for (let i = 0; i < (quick ? QUICK_ROUNDS : ROUNDS); i++) {
    rounds.push({ direct: (await daemon.run(command)).us, through: (await gate.run(command)).us });
  }
  const added = (i: 0 | 1) =>
    median(rounds.map(({ direct, through }) => (through[i] as number) - (direct[i] as number)));
  const direct = median(rounds.map((round) => round.direct[0] as number));
  return {
    name: `xenstore-gate.${what}.one-core`,
    unit: 'us',
    value: added(0),
    p99: added(1),
    baseline: ADDED_US,
    ratio: added(0) / ADDED_US,
    target: 1,
    against: 'bound',
    note: `added to ${direct.toFixed(1)} us without it`,
  };
}
