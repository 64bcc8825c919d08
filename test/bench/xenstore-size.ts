/**
 * A large store: 100,000 nodes (1,000 guests' worth) and 1,000 open transactions. What a node takes, what it costs to start
 * a transaction, and the longest that any request of a mixed load takes.
 */
import { type Figure, type Group, median } from './figure.js';
import { type Answer, startC, startOurs, type XenstoreDaemon } from './xenstore-daemons.js';

const NODES = 100_000;
const TRANSACTIONS = 1000;
const NODE_BYTES = 500;
const START_US = 5;
const LONGEST_US = 5000;
const STARTS = 'throughput start 1 50 500';
const MIXED = `mixed 4 1000 ${NODES}`;
const ROUNDS = 9;
const QUICK_ROUNDS = 3;
/** A store's figures are its own only once the program has compiled and its heap has its usual size. */
const WARM_UP = ['throughput write 8 64 300000', 'transactions 1 8 10000', 'throughput read 8 64 300000'];

interface Measured {
  /** Resident bytes that a node takes. */
  readonly nodeBytes: number;
  /** The daemon's processor time for the start of a transaction. */
  readonly startUs: number[];
  readonly mixed: Answer[];
  /** Nothing else came before it. */
  readonly first: boolean;
}

async function measure(daemon: XenstoreDaemon, rounds: number): Promise<Measured> {
  await daemon.place('a core each');
  await daemon.run('sleep');
  for (const command of WARM_UP) await daemon.run(command);
  const before = await daemon.anonymousBytes();
  await daemon.run(`nodes ${NODES}`);
  const nodeBytes = ((await daemon.anonymousBytes()) - before) / NODES;
  await daemon.run(`open ${TRANSACTIONS} 100`);
  const first = await daemon.goFirst();
  const startUs: number[] = [];
  const mixed: Answer[] = [];
  for (let i = 0; i < rounds; i++) {
    startUs.push((await daemon.run(STARTS)).cpu / 1000);
    mixed.push(await daemon.run(MIXED));
  }
  return { nodeBytes, startUs, mixed, first };
}

export const xenstoreSize: Group = {
  name: 'xenstore-size',
  async measure({ quick }) {
    const rounds = quick ? QUICK_ROUNDS : ROUNDS;
    const daemons: XenstoreDaemon[] = [];
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
  const longest = ({ mixed }: Measured): number => Math.max(...mixed.map(({ us }) => us[2] as number));
  const middle = ({ mixed }: Measured, i: number): number => median(mixed.map(({ us }) => us[i] as number));
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
      `processor time with ${TRANSACTIONS} open; C xenstored: ${median(c.startUs).toFixed(1)} us`,
    ),
    bound(
      'longest-request',
      'us',
      longest(ours),
      LONGEST_US,
      `of ${ours.mixed.reduce((n, { count }) => n + count, 0)} requests, as the client sees it` +
        `${ours.first ? ', both sides before all others' : ', with whatever else the machine did'}; p50 ${middle(ours, 0).toFixed(0)} us, p99 ${middle(ours, 1).toFixed(0)} us, the longest of a ` +
        `second mostly ${middle(ours, 2).toFixed(0)} us. C xenstored: the longest ${longest(c).toFixed(0)} us, ` +
        `p50 ${middle(c, 0).toFixed(0)} us, p99 ${middle(c, 1).toFixed(0)} us, mostly ${middle(c, 2).toFixed(0)} us`,
    ),
  ];
}
