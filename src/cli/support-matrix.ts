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

/** What is known to differ and no conformance row shows; each has its reason where the code departs (`@deviates`). */
const DIFFERENCES = [
  'Hypercall arguments must lie in memory mapped from /dev/xen/hypercall; anything else is EFAULT.',
  'Grant tables are not there yet: gntdev answers the start-up probe only, gntalloc is ENOENT.',
  'A read of an event channel file into memory that is unmapped is EFAULT as in Linux, but loses the event.',
  'A child forked by a process that can no longer reach the host (chroot, another uid) gets EIO from its calls.',
  'After a partial munmap of a privcmd area the domain is no longer kept for the part that is left.',
  'An unbound event channel meant for a domain that has gone cannot be bound by the next domain with its domid.',
  'Buffered writes that the ring has no form for go the synchronous way; Xen drops them.',
  "Xen's map-cache invalidation towards device models is not sent when a p2m entry goes.",
  'AMD extended configuration cycles are not decoded; an MSI with vector 0 reaches no pirq.',
  'XENVER_extraversion is `.0-postern`.',
] as const;

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
  if (exceptions.length === 0) lines.push('| none | | | |');
  for (const { group, call, ours, reason } of exceptions) {
    lines.push(`| ${cell(group)} | ${cell(call)} | ${cell(ours)} | ${cell(reason)} |`);
  }
  lines.push('', '## Known differences beyond those rows', '', ...DIFFERENCES.map((text) => `- ${text}`));
  return `${lines.join('\n')}\n`;
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('\t', ' ');
}
