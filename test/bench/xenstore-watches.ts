/**
 * What watches set elsewhere cost a write: with 10, 10,000 and 100,000 of them on our daemon, and beside C xenstored, which
 * looks at every watch at every change.
 */
import { type Figure, type Group, median } from './figure.js';
import { startC, startOurs } from './xenstore-daemons.js';
import type { XenstoreLoad } from './xenstore-load.js';

const FEW = 10;
const MANY = [10_000, 100_000] as const;
/** C xenstored looks through all watches of a connection for each new one. */
const WATCHES_PER_CONNECTION = 1000;
const SET_TIMEOUT_MS = 40_000;
const MORE_TARGET = 1 / 0.9;
const C_TARGET = 1 / 20;
const ROUNDS = 11;
const QUICK_ROUNDS = 3;
const WRITES = 5000;
/** Short ones, and the best of several: in the others, other programs had a share of the processor. */
const TIMES = 9;
/** Where each takes long. */
const WRITES_OF_C = 100;

/** Nanoseconds a write with watches set elsewhere: so many, or as many as could be set in time. */
async function write(daemon: XenstoreLoad, watches: number, writes: number): Promise<{ ns: number; set: number }> {
  const { set } = await daemon.run(`watches ${watches} ${WATCHES_PER_CONNECTION} ${SET_TIMEOUT_MS}`);
  const command = `throughput write 1 16 ${writes}`;
  await daemon.run(command); // what setting them has left to the collector
  const ns: number[] = [];
  for (let i = 0; i < (writes < WRITES ? 1 : TIMES); i++) ns.push((await daemon.run(command)).ns);
  await daemon.run('release');
  return { ns: Math.min(...ns), set };
}

export const xenstoreWatches: Group = {
  name: 'xenstore-watches',
  async measure({ quick }) {
    const daemons: XenstoreLoad[] = [];
    try {
      const ours = await startOurs();
      daemons.push(ours);
      const c = await startC();
      daemons.push(c);
      for (const daemon of daemons) await daemon.place('one core');
      await write(ours, FEW, 20 * WRITES);
      const rounds: number[][] = [];
      for (let i = 0; i < (quick ? QUICK_ROUNDS : ROUNDS); i++) {
        const round: number[] = [];
        for (const watches of [FEW, ...MANY]) round.push((await write(ours, watches, WRITES)).ns);
        rounds.push(round);
      }
      const figures: Figure[] = [];
      for (const [i, watches] of MANY.entries()) {
        figures.push(
          more(watches, rounds, i + 1),
          beside(watches, rounds, i + 1, await write(c, watches, WRITES_OF_C)),
        );
      }
      return figures;
    } finally {
      for (const daemon of daemons) await daemon.stop();
    }
  },
};

function more(watches: number, rounds: readonly number[][], column: number): Figure {
  const at = (i: number) => rounds.map((round) => round[i] as number);
  return {
    name: `xenstore-watches.${watches}-elsewhere`,
    unit: 'ns',
    value: median(at(column)),
    baseline: median(at(0)),
    ratio: median(rounds.map((round) => (round[column] as number) / (round[0] as number))),
    target: MORE_TARGET,
    against: `a write with ${FEW}`,
  };
}

function beside(watches: number, rounds: readonly number[][], column: number, c: { ns: number; set: number }): Figure {
  const value = median(rounds.map((round) => round[column] as number));
  const note = `C xenstored took ${c.set} watches in ${SET_TIMEOUT_MS / 1000} s; it is measured with these`;
  return {
    name: `xenstore-watches.${watches}-elsewhere.beside-c`,
    unit: 'ns',
    value,
    baseline: c.ns,
    ratio: value / c.ns,
    target: C_TARGET,
    against: 'C xenstored',
    ...(c.set < watches ? { note } : {}),
  };
}
