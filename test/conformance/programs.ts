/**
 * The oracle programs: what each needs prepared and where its recorded answers are. The same program runs on a real Xen
 * (that is how recorded/*.tsv came to be) and under `postern exec`.
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export interface Program {
  readonly name: string;
  /** vCPUs of the HVM domains 1 to n. */
  readonly hvm: readonly number[];
  /** PV domains after them. */
  readonly pv: number;
  /** Why it is recorded but not run here yet. */
  readonly notRun?: string;
}

const NONE = { hvm: [], pv: 0 };
/** A (HVM, 2 vCPUs), B (HVM, 1 vCPU) and P (PV). */
const ABP = { hvm: [2, 1], pv: 1 };

export const PROGRAMS: readonly Program[] = [
  { name: 'oracle-create', ...NONE },
  { name: 'oracle-devicemodel', ...NONE },
  { name: 'oracle-raw', ...ABP },
  { name: 'oracle-ops', ...ABP },
  { name: 'oracle-buffers', ...ABP },
  { name: 'oracle-privcmd', ...ABP },
  { name: 'oracle-resource', ...ABP },
  { name: 'oracle-restrict-fd', ...ABP },
  { name: 'oracle-evtchn', ...ABP },
  { name: 'oracle-memory', ...ABP },
  { name: 'oracle-dirty', ...ABP },
  { name: 'oracle-layout', ...ABP },
  { name: 'oracle-threads', ...ABP },
  { name: 'oracle-destroy', ...ABP },
  { name: 'oracle-xenbus', ...NONE },
  { name: 'oracle-grant', ...ABP, notRun: 'gntdev and gntalloc come with the block backend' },
];

/** One answer: what a call returned, the errno it left, and what else is worth comparing. */
export interface Row {
  readonly group: string;
  readonly call: string;
  readonly result: string;
  readonly errno: string;
  readonly extra: string;
}

export const sourceOfProgram = (name: string): string =>
  fileURLToPath(new URL(`../../test/conformance/c/${name}.c`, import.meta.url));

export function parseRows(text: string): Row[] {
  return text
    .split('\n')
    .filter((line) => line !== '' && !line.startsWith('#'))
    .map((line) => {
      const [group = '', call = '', result = '', errno = '', extra = '', ...more] = line.split('\t');
      if (errno === '' || more.length > 0) throw new Error(`not a row: ${line}`);
      return { group, call, result, errno, extra };
    });
}

/** The rows of recorded/NAME.tsv. */
export function recorded(name: string): Row[] {
  return parseRows(readFileSync(new URL(`../../test/conformance/recorded/${name}.tsv`, import.meta.url), 'utf8'));
}

export const key = (row: Row): string => `${row.group}: ${row.call}`;

/** What a row answered, as one line. */
export function answer(row: Row): string {
  return [row.result, row.errno === '-' ? '' : row.errno, row.extra].filter((part) => part !== '').join(' ');
}
