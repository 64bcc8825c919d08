/** `postern audit`: every proposal for the DM op interface against the same attacks, and what each is like. */
import { readFileSync, writeFileSync } from 'node:fs';
import { Command } from 'commander';
import { UserError } from '../host/native-library.js';
import {
  ATTACKS,
  type AuditReport,
  audit,
  auditJson,
  documentParts,
  PROPOSALS,
  replacePart,
} from '../schemes/index.js';
import { explain } from './audit-explain.js';
import { auditLive } from './audit-live.js';
import { integer } from './options.js';
import { colors, print, printJson, say, table } from './output.js';

interface AuditCommandOptions {
  scheme?: string;
  attack?: string;
  seed: number;
  json?: true;
  explain?: string;
  live?: true;
  host?: string;
  writeDoc?: string;
}

const STATUS_GOT_THROUGH = 1;

export function auditCommand(): Command {
  return new Command('audit')
    .description(
      'Attack the proposals for the DM op interface in a model of a dom0; fails if the product lets one through.',
    )
    .option('--scheme <id>', 'one proposal only')
    .option('--attack <id>', 'one attack only')
    .option('--seed <n>', 'what all random choices come from', integer(0, 0xffffffff), 1)
    .option('--json', 'print one JSON object')
    .option('--explain <attack>', 'steps, interleaving and memory hit of one attack')
    .option('--live', 'the attacks as a real, restricted program against a host')
    .option('--host <socket>', 'with --live: a running host (postern host) instead of one started for it')
    .option('--write-doc <file>', 'bring the generated tables of a document up to date')
    .addHelpText(
      'after',
      `
Examples:
  postern audit
  postern audit --scheme array-shipped --json | jq '.schemes[0].attacks[] | select(.blocked | not)'
  postern audit --explain clear-flag --scheme approved-ranges
  postern audit --live --host /tmp/xen/host

Proposals: ${PROPOSALS.map(({ id }) => id).join(', ')}
Attacks: ${ATTACKS.map(({ id }) => id).join(', ')}`,
    )
    .action(run);
}

async function run(options: AuditCommandOptions): Promise<void> {
  if (options.live) {
    process.exitCode = (await auditLive(options.host, options.json ?? false)) ? 0 : STATUS_GOT_THROUGH;
    return;
  }
  const proposals = chosen(PROPOSALS, options.scheme, 'proposal');
  if (options.explain !== undefined) {
    const [attack] = chosen(ATTACKS, options.explain, 'attack');
    if (attack) explain(attack, proposals, options.seed);
    return;
  }
  const report = audit({
    seed: options.seed,
    proposals,
    attacks: chosen(ATTACKS, options.attack, 'attack'),
    nowNs: () => Number(process.hrtime.bigint()),
    readSource,
    ...(process.stderr.isTTY && { onProgress: progress }),
  });
  if (process.stderr.isTTY) process.stderr.write('\r\u001b[K');
  if (options.writeDoc !== undefined) writeDocument(options.writeDoc, report);
  else if (options.json) printJson(auditJson(report));
  else show(report);
  const productFails = report.schemes.some(
    ({ proposal, outcomes }) => proposal.product && outcomes.some(({ outcome }) => !outcome.blocked),
  );
  if (productFails) process.exitCode = STATUS_GOT_THROUGH;
}

function chosen<T extends { readonly id: string }>(
  all: readonly T[],
  id: string | undefined,
  what: string,
): readonly T[] {
  if (id === undefined) return all;
  const found = all.filter((one) => one.id === id);
  if (found.length === 0)
    throw new UserError(`there is no ${what} '${id}'; there are: ${all.map((one) => one.id).join(', ')}`);
  return found;
}

/** The project's sources lie beside what is compiled from them; where they don't, there is nothing to count. */
function readSource(file: string): string | undefined {
  try {
    return readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8');
  } catch {
    return undefined;
  }
}

function progress(done: number, all: number, { id }: { id: string }, attack: { id: string }): void {
  const percent = Math.floor((done / all) * 100);
  process.stderr.write(`\r\u001b[K${`${percent}`.padStart(3)} %  ${id}: ${attack.id}`);
}

function writeDocument(file: string, report: AuditReport): void {
  let text = readFileSync(file, 'utf8');
  for (const [name, content] of Object.entries(documentParts(report))) text = replacePart(text, name, content);
  writeFileSync(file, text);
  say(`${file} is up to date`);
}

function show({ schemes, seed, runs }: AuditReport): void {
  const mark = (blocked: boolean) => (blocked ? colors.green('·') : colors.red('✗'));
  schemes.forEach(({ proposal }, i) => {
    print(
      `${i + 1}  ${proposal.id.padEnd(18)} ${proposal.product ? colors.bold(`${proposal.name} (the product)`) : proposal.name}`,
    );
  });
  print('');
  const rows = (schemes[0]?.outcomes ?? []).map(({ attack }, row) => [
    attack.id,
    ...schemes.map(({ outcomes }) => mark(outcomes[row]?.outcome.blocked ?? false)),
    attack.name,
  ]);
  print(table(['attack', ...schemes.map((_, i) => `${i + 1}`), ''], rows));
  print('');
  const summary = schemes.map(({ proposal, outcomes, nsPerCall, properties }) => {
    const stopped = outcomes.filter(({ outcome }) => outcome.blocked).length;
    return [
      proposal.product ? colors.bold(proposal.id) : proposal.id,
      stopped === outcomes.length
        ? colors.green(`${stopped} of ${outcomes.length}`)
        : colors.red(`${stopped} of ${outcomes.length}`),
      `${nsPerCall}`,
      `${properties.placesForNewOperation.length}`,
      properties.worksOn.join(' '),
      `${properties.lines.kernel ?? '?'} + ${properties.lines.hypervisor ?? '?'}`,
    ];
  });
  print(
    table(
      ['proposal', 'stopped', 'ns a call', 'places for a new op', 'works on', 'lines: kernel + hypervisor'],
      summary,
    ),
  );
  print(colors.dim(`\nseed ${seed}, ${runs} runs; postern audit --explain ATTACK tells how one goes`));
}
