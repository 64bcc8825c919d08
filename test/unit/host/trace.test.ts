/** Counters that a client cannot make grow, and the trace's lines. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type CallRecord, Trace, verdictOf } from '../../../dist/host/trace.js';

const allowed: CallRecord = {
  time: 1.5,
  pid: 7,
  device: 'privcmd',
  call: 'DM_OP',
  domid: 1,
  ret: 0,
  verdict: 'allowed',
};
const refused: CallRecord = { ...allowed, ret: -1, errno: 'EPERM', verdict: 'refused', reason: 'restricted' };

let folder: string;
let file: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'postern-trace-'));
  file = join(folder, 'calls.jsonl');
});
afterEach(() => rmSync(folder, { recursive: true }));

const lines = () => readFileSync(file, 'utf8').split('\n');

it.each([
  ['EPERM', 'refused'],
  ['EACCES', 'refused'],
  ['E2BIG', 'refused'],
  ['EFAULT', 'refused'],
  ['ENOENT', 'failed'],
  ['EINVAL', 'failed'],
  ['ESRCH', 'failed'],
])('%s means %s', (errno, verdict) => expect(verdictOf(errno)).toBe(verdict));

describe('counters', () => {
  it('count calls by operation, most frequent first', () => {
    const trace = new Trace();
    trace.countAllowed('open');
    for (let i = 0; i < 3; i++) trace.countAllowed('DM_OP', 'XEN_DMOP_nr_vcpus');
    trace.record({ ...allowed, operation: 'XEN_DMOP_set_mem_type' });
    trace.record({ ...allowed, operation: 'XEN_DMOP_set_mem_type' });
    expect(Object.entries(trace.counts().calls)).toEqual([
      ['DM_OP XEN_DMOP_nr_vcpus', 3],
      ['DM_OP XEN_DMOP_set_mem_type', 2],
      ['open', 1],
    ]);
    expect(trace.counts().refusals).toEqual({});
  });

  it('count refusals and violations with their reasons, failures only as calls', () => {
    const trace = new Trace();
    trace.record(refused);
    trace.record(refused);
    trace.record({
      ...refused,
      errno: undefined,
      call: 'connection',
      verdict: 'violation',
      reason: 'message of 3 bytes',
    });
    trace.record({ ...refused, errno: 'ENOENT', verdict: 'failed' });
    expect(trace.counts()).toEqual({
      calls: { DM_OP: 3, connection: 1 },
      refusals: { 'EPERM DM_OP: restricted': 2, 'closed connection: message of 3 bytes': 1 },
    });
  });

  it('keep a bounded number of names, whatever clients make up, and lose no count', () => {
    const trace = new Trace();
    for (let i = 0; i < 3000; i++) {
      trace.record({ ...refused, call: `ioctl ${i % 1500}`, reason: `reason ${i}` });
      trace.countAllowed('DM_OP', `operation ${i}`);
    }
    for (const [total, counts] of [
      [6000, trace.counts().calls],
      [3000, trace.counts().refusals],
    ] as const) {
      expect(Object.keys(counts).length).toBeLessThanOrEqual(520);
      expect(counts['(others)']).toBeGreaterThan(0);
      expect(Object.values(counts).reduce((sum, n) => sum + n, 0)).toBe(total);
    }
  });

  it('go on counting known names once they are full', () => {
    const trace = new Trace();
    trace.countAllowed('first');
    for (let i = 0; i < 600; i++) trace.countAllowed(`call ${i}`);
    for (let i = 0; i < 9; i++) trace.countAllowed('first');
    expect(trace.counts().calls).toMatchObject({ first: 10 });
  });
});

describe('the trace', () => {
  it('is only written where it is asked for', () => {
    expect([new Trace().detailed, new Trace(file).detailed]).toEqual([false, true]);
  });

  it('has one JSON object a line, whatever is in it', () => {
    const trace = new Trace(file);
    const odd = { ...refused, reason: 'a "quote"\nand \u2028 a\tline\0', operation: undefined };
    trace.record(allowed);
    trace.record(odd);
    expect(lines()).toEqual(['']);
    trace.flush();
    expect(lines().slice(0, -1).map((line) => JSON.parse(line))).toEqual([allowed, JSON.parse(JSON.stringify(odd))]); // biome-ignore format: one row
    expect(lines().at(-1)).toBe('');
    trace.close();
  });

  it('is written in order, in pieces of bounded size, and wholly once it is closed', () => {
    const trace = new Trace(file);
    for (let i = 0; i < 2000; i++) trace.record({ ...allowed, ret: i });
    const before = lines().length;
    expect(before).toBeGreaterThan(1000); // written without being asked to: only so much is kept
    trace.close();
    expect(lines().slice(0, -1).map((line) => (JSON.parse(line) as CallRecord).ret)).toEqual([...Array(2000).keys()]); // biome-ignore format: one row
  });

  it('replaces an older one', () => {
    for (const ret of [1, 2]) {
      const trace = new Trace(file);
      trace.record({ ...allowed, ret });
      trace.close();
    }
    expect(lines()).toEqual([JSON.stringify({ ...allowed, ret: 2 }), '']);
  });
});
