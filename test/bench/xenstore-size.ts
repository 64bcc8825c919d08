/**
 * A large store: 100,000 nodes (1,000 guests' worth) and 1,000 open transactions. What a node takes, what it costs to start
 * a transaction, and the longest that any request of a mixed load takes.
 */
import { type Figure, type Group, median } from './figure.js';
import { startC, startOurs } from './xenstore-daemons.js';
import type { Answer, XenstoreLoad } from './xenstore-load.js';

const NODES = 100_000;
const TRANSACTIONS = 1000;
const NODE_BYTES = 500;
const START_US = 5;
const LONGEST_US = 5000;
const STARTS = 'throughput start 1 50 1000';
const MIXED = `mixed 4 1000 ${NODES}`;
const ROUNDS = 9;
const QUICK_ROUNDS = 3;
/** Seconds until the code for a mixed load is compiled: while it is, the collector waits for the compiler's threads. */
const MIXED_WARM_UPS = 5;
/** A store's figures are its own only once the program has compiled and its heap has its usual size. */
const WARM_UP = ['throughput write 8 64 300000', 'transactions 1 8 10000', 'throughput read 8 64 300000'];

interface Measured {
  /** Resident bytes that a node takes. */
  readonly nodeBytes: number;
  /** All that the start of a transaction takes, many at a time: not less than the daemon's own time for it. */
  readonly startUs: number[];
  readonly mixed: Answer[];
  /** Nothing else came before it. */
  readonly first: boolean;
}

async function measure(daemon: XenstoreLoad, rounds: number): Promise<Measured> {
  await daemon.place('a core each');
  await daemon.run('sleep');
  for (const command of WARM_UP) await daemon.run(command);
  const before = await daemon.anonymousBytes();
  await daemon.run(`nodes ${NODES}`);
  const nodeBytes = ((await daemon.anonymousBytes()) - before) / NODES;
  await daemon.run(`open ${TRANSACTIONS} 100`);
  for (let i = 0; i < MIXED_WARM_UPS; i++) await daemon.run(MIXED);
  const first = await daemon.goFirst();
  const startUs: number[] = [];
  const mixed: Answer[] = [];
  for (let i = 0; i < rounds; i++) {
    mixed.push(await daemon.run(MIXED));
    startUs.push((await daemon.run(STARTS)).ns / 1000);
  }
  return { nodeBytes, startUs, mixed, first };
}

export const xenstoreSize: Group = {
  name: 'xenstore-size',
  async measure({ quick }) {
    const rounds = quick ? QUICK_ROUNDS : ROUNDS;
    const daemons: XenstoreLoad[] = [];
    try {
      const ours = await startOurs();
      daemons.push(ours);
      const c = await startC();
      daemons.push(c);
      return figures(await measure(ours, rounds), await measure(c, rounds));
    } finally {
      for (const daemon of daemons) await daemon.stop();
    }
  },
};

function figures(ours: Measured, c: Measured): Figure[] {
  const bound = (name: string, unit: Figure['unit'], value: number, limit: number, note: string): Figure => ({
    name: `xenstore-size.${name}`,
    unit,
    value,
    baseline: limit,
    ratio: value / limit,
    target: 1,
    against: 'bound',
    note,
  });
  return [
    bound('node', 'B', ours.nodeBytes, NODE_BYTES, `C xenstored: ${c.nodeBytes.toFixed(0)} B`),
    bound(
      'transaction-start',
      'us',
      median(ours.startUs),
      START_US,
      `many at a time, with ${TRANSACTIONS} open, transport included; C xenstored: ${median(c.startUs).toFixed(1)} us`,
    ),
    bound('longest-request', 'us', longest(ours), LONGEST_US, noteOf(ours, c)),
  ];
}

const longest = ({ mixed }: Measured): number => Math.max(...mixed.map(({ us }) => us[2] as number));

function noteOf(ours: Measured, c: Measured): string {
  const describe = ({ mixed }: Measured): string => {
    const at = (i: number) => mixed.map(({ us }) => us[i] as number);
    const middles = [0, 1, 2].map((i) => median(at(i)).toFixed(0));
    return `p50 ${middles[0]} us, p99 ${middles[1]} us, the longest of a second mostly ${middles[2]} us`;
  };
  const count = ours.mixed.reduce((n, answer) => n + answer.count, 0);
  const company = ours.first ? 'both sides before all other programs' : 'with whatever else the machine did';
  return `of ${count} requests, as the client sees it, ${company}; ${describe(ours)}. C xenstored: the longest ${longest(c).toFixed(0)} us, ${describe(c)}`;
}
