/** Every dispatch table's rows in one place, for `postern support` and docs/SUPPORT.md. */
import { DEVICE_SUPPORT } from '../dom0/kernel.js';
import { supportMatrix as hypercallRows } from '../hypervisor/hypercalls/table.js';
import { OPERATIONS } from '../xenstore/operations/index.js';

export interface SupportLine {
  readonly name: string;
  readonly status: 'supported' | 'partial' | 'refused';
  readonly errno?: string | undefined;
  readonly note: string;
}

export type SupportMatrix = Readonly<Record<string, readonly SupportLine[]>>;

export function supportMatrix(): SupportMatrix {
  const matrix: Record<string, SupportLine[]> = { devices: DEVICE_SUPPORT.map((row) => ({ ...row })) };
  for (const [table, rows] of Object.entries(hypercallRows())) {
    matrix[table] = rows.map(({ name, status, errno, note = '' }) => ({
      name,
      status,
      ...(errno !== undefined && { errno }),
      note: errno === undefined ? note : `${errno}: ${note}`,
    }));
  }
  matrix.xenstore = OPERATIONS.flatMap((operation) => (operation ? [xenstoreLine(operation)] : []));
  return matrix;
}

/** An extension to the protocol is off unless it is asked for. */
function xenstoreLine({ name, support, note = '' }: NonNullable<(typeof OPERATIONS)[number]>): SupportLine {
  if (support === 'extension') return { name, status: 'partial', note: `extension, off by default. ${note}`.trim() };
  return { name, status: support, note };
}

/** A row of the conformance tests where we answer differently from real Xen, and why. */
export interface Exception {
  readonly program: string;
  readonly group: string;
  readonly call: string;
  readonly ours: string;
  readonly reason: string;
}

/** docs/SUPPORT.md. */
export function supportMarkdown(exceptions: readonly Exception[]): string {
  const lines = [
    '# What is supported',
    '',
    'Generated from the dispatch tables (`postern support` prints the same) and from the conformance tests. Written by',
    '`UPDATE_DOCS=1 npx vitest run test/unit/docs`; a test fails when it is stale.',
    '',
  ];
  for (const [title, rows] of Object.entries(supportMatrix())) {
    const count = (status: string) => rows.filter((row) => row.status === status).length;
    lines.push(`## ${title}`, '');
    lines.push(`${count('supported')} supported, ${count('partial')} partial, ${count('refused')} refused.`, '');
    lines.push('| operation | status | note |', '|---|---|---|');
    for (const row of rows) lines.push(`| ${row.name} | ${row.status} | ${cell(row.note)} |`);
    lines.push('');
  }
  lines.push('## Where the answers differ from real Xen 4.17', '');
  lines.push(
    'The conformance programs (`test/conformance/c`) ran in the dom0 of a real Xen 4.17 with Linux 6.1; every row that is',
    'not listed here is answered the same.',
    '',
    '| group | call | answer here | reason |',
    '|---|---|---|---|',
  );
  for (const { group, call, ours, reason } of exceptions) {
    lines.push(`| ${cell(group)} | ${cell(call)} | ${cell(ours)} | ${cell(reason)} |`);
  }
  return `${lines.join('\n')}\n`;
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\t', ' ');
}
