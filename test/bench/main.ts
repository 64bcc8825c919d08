/**
 * `npm run bench [-- --json] [--quick] [--only NAME]`: how fast it is, as ratios to C programs that are built and run
 * here and now, or to a bound; one round of one right after a round of the other, medians over the rounds. No test:
 * a ratio that is missed is said, not failed.
 */
import { parseArgs } from 'node:util';
import { colors, print, printJson, say, table } from '../../dist/cli/output.js';
import { dmOpLibrary } from './dm-op-library.js';
import { type Figure, type Group, NotMeasured } from './figure.js';
import { idleMemory } from './idle-memory.js';
import { dmOpInProcess, growth } from './in-process.js';
import { ioRequest } from './io-request.js';
import { xenstore } from './xenstore.js';
import { xenstoreGate, xenstoreXenbus } from './xenstore-gate.js';
import { xenstoreSize } from './xenstore-size.js';
import { xenstoreWatches } from './xenstore-watches.js';

const GROUPS: readonly Group[] = [
  dmOpInProcess,
  dmOpLibrary,
  ioRequest,
  idleMemory,
  growth,
  xenstore,
  xenstoreWatches,
  xenstoreSize,
  xenstoreGate,
  xenstoreXenbus,
];

const digits = (value: number): string => value.toFixed(value < 100 ? 1 : 0);

function verdict({ ratio, target }: Figure): string {
  if (target === undefined) return '';
  if (ratio <= target) return colors.green('met');
  return colors.red(`missed by ${((ratio / target - 1) * 100).toFixed(0)} %`);
}

function row(figure: Figure): string[] {
  const { name, value, p99, baseline, baselineP99, unit, ratio, target, against } = figure;
  const withP99 = (p50: number, tail: number | undefined) =>
    tail === undefined ? `${digits(p50)} ${unit}` : `${digits(p50)} / ${digits(tail)} ${unit}`;
  return [
    name,
    withP99(value, p99),
    `${withP99(baseline, baselineP99)} (${against})`,
    ratio.toFixed(2),
    target === undefined ? '' : `<= ${Number(target.toFixed(3))}`,
    verdict(figure),
  ];
}

async function main(): Promise<void> {
  const { values: options } = parseArgs({
    options: {
      json: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      only: { type: 'string', default: '' },
    },
  });
  const groups = GROUPS.filter(({ name }) => name.includes(options.only));
  if (groups.length === 0) {
    say(`bench: no group is called ${options.only}; there are ${GROUPS.map((g) => g.name).join(', ')}`);
    process.exitCode = 2;
    return;
  }
  const figures: Figure[] = [];
  for (const group of groups) {
    try {
      const measured = await group.measure({ quick: options.quick });
      figures.push(...measured);
      if (options.json)
        for (const { name, value, unit, baseline, ratio, target, ...rest } of measured)
          printJson({ name, value, unit, baseline, ratio, target, ...rest });
    } catch (error) {
      if (!(error instanceof NotMeasured)) throw error;
      say(`${group.name}: not measured: ${error.message}`);
    }
  }
  if (options.json) return;
  print('Medians over the rounds; where there are two numbers, p50 / p99. Smaller is better everywhere.\n');
  print(table(['figure', 'value', 'baseline', 'ratio', 'target', ''], figures.map(row)));
  for (const { name, note } of figures) if (note !== undefined) print(`${name}: ${note}`);
}

for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1)); // what is started ends with it
await main();
