/**
 * Our XenStore daemon against Debian's C xenstored: rates over the socket, one request at a time, transactions. The same
 * C program loads both, by turns.
 *
 * Rates are given as nanoseconds a request, so that smaller is better: 1.5 times as many is a ratio of 1/1.5.
 */
import { type BenchOptions, type Figure, fromRounds, type Group, median, type Round } from './figure.js';
import { temporary } from './programs.js';
import { startC, startLeast, startOurs } from './xenstore-daemons.js';
import type { Answer, Placement, XenstoreLoad } from './xenstore-load.js';

interface Case {
  readonly name: string;
  readonly placement: Placement;
  /** For the generator. */
  readonly command: string;
  /** Absent for figures that explain others. */
  readonly target?: number;
  readonly unit: 'ns' | 'us';
  value(answer: Answer): number;
}

const PIPELINED = 1 / 1.5;
const TRANSACTIONS = 1 / 2;
const ROUNDS = 9;
const QUICK_ROUNDS = 3;
const WARM_UP_MS = 700;

const rate = (name: string, command: string, target?: number, placement: Placement = 'a core each'): Case => ({
  name,
  placement,
  command,
  unit: 'ns',
  value: ({ ns }) => ns,
  ...(target === undefined ? {} : { target }),
});

const CASES: readonly Case[] = [
  rate('read.1-connection', 'throughput read 1 64 20000', PIPELINED),
  rate('read.8-connections', 'throughput read 8 64 20000', PIPELINED),
  rate('write.1-connection', 'throughput write 1 64 20000', PIPELINED),
  rate('write.8-connections', 'throughput write 8 64 20000', PIPELINED),
  ...(['read', 'write'] as const).map(
    (what): Case => ({
      name: `one-at-a-time.${what}.one-core`,
      placement: 'one core',
      command: `latency ${what} 3000`,
      target: 1.1,
      unit: 'us',
      value: ({ us }) => us[0] as number,
    }),
  ),
  rate('transaction.alone', 'transactions 1 8 1000', TRANSACTIONS),
  rate('transaction.contended', 'transactions 4 8 1000', TRANSACTIONS),
  rate('transaction.alone.one-core', 'transactions 1 8 1000', undefined, 'one core'),
  rate('transaction.alone.one-request-at-a-time', 'transactions 1 1 500'),
  rate('transaction.contended.one-request-at-a-time', 'transactions 4 1 500'),
];

/** What keeping the store in a file is measured at. */
const KEPT = ['write.1-connection', 'one-at-a-time.write.one-core', 'transaction.alone'];
/** What the least possible daemon is measured at. */
const LEAST = ['read.1-connection', 'one-at-a-time.read.one-core', 'transaction.alone'];

export const xenstore: Group = {
  name: 'xenstore',
  async measure(options) {
    const daemons: XenstoreLoad[] = [];
    try {
      const ours = await startOurs();
      daemons.push(ours);
      const c = await startC();
      daemons.push(c);
      const figures: Figure[] = [];
      for (const one of CASES) figures.push(await measure(one, ours, c, options));
      const kept = await startOurs('--state', temporary('state'));
      daemons.push(kept);
      for (const one of explaining('kept', KEPT)) figures.push(await measure(one, kept, ours, options));
      const least = await startLeast();
      daemons.push(least);
      for (const one of explaining('least', LEAST)) figures.push(await measure(one, ours, least, options));
      return figures;
    } finally {
      for (const daemon of daemons) await daemon.stop();
    }
  },
};

/** Cases again, without a target. */
function explaining(prefix: string, names: readonly string[]): Case[] {
  return CASES.filter(({ name }) => names.includes(name)).map(({ target: _, ...rest }) => ({
    ...rest,
    name: `${prefix}.${rest.name}`,
  }));
}

/** Rounds on both, by turns, once both have been warmed up: daemons live long. */
async function measure(one: Case, ours: XenstoreLoad, other: XenstoreLoad, { quick }: BenchOptions): Promise<Figure> {
  for (const daemon of [ours, other]) {
    await daemon.place(one.placement);
    const end = Date.now() + WARM_UP_MS;
    do await daemon.run(one.command);
    while (Date.now() < end);
  }
  const answers: { ours: Answer; other: Answer }[] = [];
  for (let i = 0; i < (quick ? QUICK_ROUNDS : ROUNDS); i++) {
    if (i % 2 === 0) {
      const first = await ours.run(one.command);
      answers.push({ ours: first, other: await other.run(one.command) });
    } else {
      const first = await other.run(one.command);
      answers.push({ ours: await ours.run(one.command), other: first });
    }
  }
  const rounds = answers.map(({ ours: a, other: b }): Round => {
    const p99 = (answer: Answer) => answer.us?.[1] ?? Number.NaN;
    return { value: [one.value(a), p99(a)], baseline: [one.value(b), p99(b)] };
  });
  const figure = fromRounds(rounds, {
    name: `xenstore.${one.name}`,
    unit: one.unit,
    against: other.name,
    note: noteOf(
      answers.map((a) => a.ours),
      answers.map((a) => a.other),
    ),
    ...(one.target === undefined ? {} : { target: one.target }),
  });
  if (one.unit === 'us') return figure;
  const { p99: _, baselineP99: __, ...withoutTail } = figure;
  return withoutTail;
}

function noteOf(ours: readonly Answer[], other: readonly Answer[]): string {
  const both = (of: (answer: Answer) => number, digits: number): string =>
    `${median(ours.map(of)).toFixed(digits)} and ${median(other.map(of)).toFixed(digits)}`;
  const again = ours[0]?.again === undefined ? '' : `; EAGAINs a commit ${both((answer) => answer.again, 3)}`;
  return `the daemon's processor time ${both((answer) => answer.cpu, 0)} ns${again}`;
}
