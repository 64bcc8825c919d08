/** The generated parts of docs/design/dm-op.md: tables between markers, made from a report. */
import type { AuditReport, SchemeReport } from './audit.js';
import { INVARIANTS } from './model/breach.js';
import { PLATFORMS } from './model/platform.js';

type Row = readonly string[];

/** Every generated part by its marker's name. `cost` depends on the machine. */
export function documentParts(report: AuditReport): Readonly<Record<string, string>> {
  return {
    summary: summary(report),
    attacks: attackMatrix(report),
    failures: failures(report),
    properties: properties(report),
    cost: cost(report),
    invariants: table(['Invariant', 'It says'], Object.entries(INVARIANTS)),
  };
}

const begin = (name: string) => `<!-- generated: ${name}: begin -->`;
const end = (name: string) => `<!-- generated: ${name}: end -->`;

/** @throws Error where a marker is missing */
export function replacePart(text: string, name: string, content: string): string {
  const from = text.indexOf(begin(name));
  const to = text.indexOf(end(name));
  if (from < 0 || to < from) throw new Error(`the document has no markers for '${name}'`);
  return `${text.slice(0, from + begin(name).length)}\n${content}\n${text.slice(to)}`;
}

/** What is between the markers now. */
export function partOf(text: string, name: string): string {
  return text.slice(text.indexOf(begin(name)) + begin(name).length, text.indexOf(end(name))).trim();
}

function table(head: Row, rows: readonly Row[]): string {
  const line = (cells: Row) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

function label({ proposal }: SchemeReport, i: number): string {
  return proposal.product ? `**${i + 1}. ${proposal.name}**` : `${i + 1}. ${proposal.name}`;
}

function summary({ schemes, seed, runs }: AuditReport): string {
  const rows = schemes.map((scheme, i) => {
    const through = scheme.outcomes.filter(({ outcome }) => !outcome.blocked);
    const broken = new Set(through.flatMap(({ outcome }) => outcome.run.breaches.map(({ invariant }) => invariant)));
    return [
      label(scheme, i),
      `${scheme.outcomes.length - through.length} of ${scheme.outcomes.length}`,
      [...broken].sort().join(', ') || 'none',
    ];
  });
  return `${table(['Proposal', 'Attacks stopped', 'Invariants broken'], rows)}\n\nSeed ${seed}, ${runs} runs.`;
}

function attackMatrix({ schemes }: AuditReport): string {
  const attacks = schemes[0]?.outcomes.map(({ attack }) => attack) ?? [];
  const rows = attacks.map((attack, row) => [
    `\`${attack.id}\``,
    attack.name,
    ...schemes.map(({ outcomes }) => (outcomes[row]?.outcome.blocked ? '·' : '**✗**')),
  ]);
  return table(['Attack', '', ...schemes.map((_, i) => `${i + 1}`)], rows);
}

function failures({ schemes }: AuditReport): string {
  return schemes
    .map((scheme, i) => {
      const through = scheme.outcomes.filter(({ outcome }) => !outcome.blocked);
      const head = `**${i + 1}. ${scheme.proposal.name}**`;
      if (through.length === 0) return `${head}: none gets through.`;
      const lines = through.map(
        ({ attack, outcome }) => `- \`${attack.id}\`, on ${outcome.run.platform}: ${outcome.reason}`,
      );
      return `${head}\n\n${lines.join('\n')}`;
    })
    .join('\n\n');
}

function properties({ schemes }: AuditReport): string {
  const yes = (is: boolean) => (is ? 'yes' : 'no');
  const rows = schemes.map((scheme, i) => {
    const {
      placesForNewOperation: places,
      blocks,
      variesPerCall,
      boundToCall,
      rangesTold,
      worksOn,
      lines,
    } = scheme.properties;
    return [
      label(scheme, i),
      `${places.length}: ${places.join('; ')}`,
      blocks.kernel === blocks.hypervisor ? `${blocks.kernel}` : `${blocks.kernel} / ${blocks.hypervisor}`,
      yes(variesPerCall),
      yes(boundToCall),
      PLATFORMS.map(({ id }) => rangesTold[id]).join(' / '),
      yes(worksOn.includes('physical')),
      scheme.properties.wrongHelper,
      `${lines.kernel ?? '?'} + ${lines.hypervisor ?? '?'}`,
    ];
  });
  const head = [
    'Proposal',
    'Places to change for a new operation',
    'Blocks: kernel / Xen',
    'Undeclared memory',
    'Opens only what it names',
    'Ranges told',
    'Physical addressing',
    'Wrong copy helper',
    'Lines: kernel + Xen',
  ];
  return table(head, rows);
}

function cost({ schemes }: AuditReport): string {
  return table(
    ['Proposal', 'ns a call'],
    schemes.map((scheme, i) => [label(scheme, i), `${scheme.nsPerCall}`]),
  );
}
