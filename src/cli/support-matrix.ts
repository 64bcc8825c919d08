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
