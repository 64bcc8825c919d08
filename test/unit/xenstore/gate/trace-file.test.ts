/** The gate's trace file: whole lines, and no more of them than the limit, whatever the client does. */
import { mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';

import { GateTrace, RECORDS_PER_SECOND } from '../../../../dist/daemons/gate/trace-file.js';

let home: string;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'postern-test-'));
});

afterEach(() => rmSync(home, { recursive: true, force: true }));

const record = (time: number) => ({ time, domid: 1, connection: 1, operation: 'READ', verdict: 'denied' }) as const;

it('is appended to, by its owner only', () => {
  const file = join(home, 'trace');
  for (let i = 0; i < 2; i++) {
    const trace = new GateTrace(file);
    trace.write(record(i * 1000));
    trace.close();
  }
  const lines = readFileSync(file, 'utf8').trim().split('\n');
  expect(lines.map((line) => (JSON.parse(line) as { operation: string }).operation)).toEqual(['READ', 'READ']);
  expect(statSync(file).mode & 0o777).toBe(0o600);
});

it('counts what is too much', () => {
  const file = join(home, 'trace');
  const trace = new GateTrace(file);
  for (let i = 0; i < RECORDS_PER_SECOND + 7; i++) trace.write(record(500));
  trace.write(record(1500));
  trace.close();
  const lines = readFileSync(file, 'utf8').trim().split('\n');
  expect(lines).toHaveLength(RECORDS_PER_SECOND + 2);
  expect(lines.at(-2)).toBe('{"skipped":7}');
});
