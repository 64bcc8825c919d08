/**
 * Tables of operations: how a hypercall finds what to do, and what the support matrix is printed from. Every number that
 * Xen defines has an entry, so that a refusal is a decision with a reason.
 */
import type { ErrnoName } from '../../abi/errno.js';
import { XenError } from '../../boundary/xen-error.js';

/** An operation that is carried out. `partial` says in its note what differs from Xen. */
export interface Implemented<Run> {
  readonly name: string;
  readonly status: 'supported' | 'partial';
  readonly note?: string;
  readonly run: Run;
}

/** An operation that always fails the same way, and why. */
interface Refused {
  readonly name: string;
  readonly status: 'refused';
  readonly errno: ErrnoName;
  readonly note: string;
}

type OperationEntry<Run> = Implemented<Run> | Refused;
export type OperationTable<Run> = ReadonlyMap<number, OperationEntry<Run>>;

/** What the support matrix shows of an entry. */
export interface SupportRow {
  readonly number: number;
  readonly name: string;
  readonly status: OperationEntry<unknown>['status'];
  readonly errno?: ErrnoName;
  readonly note?: string;
}

/**
 * A table from the numbers Xen defines: those without an implementation are refused.
 * @param numbers Xen's name and number of every operation
 * @param refusals what is refused for another reason than the common one
 */
export function operationTable<Run>(
  numbers: Readonly<Record<string, number>>,
  implemented: readonly Implemented<Run>[],
  common: { readonly errno: ErrnoName; readonly note: string },
  refusals: Readonly<Record<string, { readonly errno: ErrnoName; readonly note: string }>> = {},
): OperationTable<Run> {
  const byName = new Map(implemented.map((entry) => [entry.name, entry]));
  const table = new Map<number, OperationEntry<Run>>();
  for (const [name, number] of Object.entries(numbers)) {
    table.set(number, byName.get(name) ?? { name, status: 'refused', ...(refusals[name] ?? common) });
    byName.delete(name);
  }
  if (byName.size > 0) throw new Error(`no such operation: ${[...byName.keys()].join(', ')}`);
  return table;
}

/** The implementation of an operation. @throws XenError what the table says, or `unknown` for a number it lacks */
export function implementation<Run>(
  table: OperationTable<Run>,
  number: number,
  hypercall: string,
  unknown: ErrnoName,
): Implemented<Run> {
  const entry = table.get(number);
  if (!entry) throw new XenError(unknown, `${hypercall} has no operation ${number}`);
  if (entry.status === 'refused') throw new XenError(entry.errno, `${hypercall} ${entry.name}: ${entry.note}`);
  return entry;
}

/** The rows of a table for the support matrix, by number. */
export function supportRows(table: OperationTable<unknown>): SupportRow[] {
  return [...table]
    .sort(([a], [b]) => a - b)
    .map(([number, entry]) => ({
      number,
      name: entry.name,
      status: entry.status,
      ...(entry.status === 'refused' ? { errno: entry.errno } : {}),
      ...(entry.note === undefined ? {} : { note: entry.note }),
    }));
}
