/**
 * Conformance: unmodified C programs get from `postern exec` what the recorded Xen 4.17 gave them, row by row. What is
 * known to differ is declared in exceptions.ts.
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';

import { cCompiler, compileProgram } from '../support/compile-c.js';
import { EXCEPTIONS, type Exception } from './exceptions.js';
import { answer, key, PROGRAMS, type Program, parseRows, type Row, recorded, sourceOfProgram } from './programs.js';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const PROGRAM_LIMIT_MS = 30_000;

describe('recorded answers', () => {
  const all = PROGRAMS.flatMap((program) => recorded(program.name));

  it('has every row of the facts table, the same', () => {
    const answers = new Map<string, string[]>();
    for (const row of all) answers.set(key(row), [...(answers.get(key(row)) ?? []), answer(row)]);
    const facts = recorded('facts');
    const missing = facts.filter((row) => !answers.get(key(row))?.includes(answer(row)));
    expect(missing.map((row) => `${key(row)} = ${answer(row)}`)).toEqual([]);
    expect(facts.length).toBeGreaterThan(250);
    expect(all.length).toBeGreaterThan(1000);
  });

  it.each(PROGRAMS.map((program) => program.name))('%s names each row once', (name) => {
    // After a fork two processes print rows of the same program: only there may a name come twice, in order.
    const keys = recorded(name).map(key);
    if (name !== 'oracle-restrict-fd') expect(new Set(keys).size).toBe(keys.length);
    expect(keys.length).toBeGreaterThan(5);
  });

  it('has exceptions for rows that exist, once each', () => {
    const known = new Set(PROGRAMS.flatMap((p) => recorded(p.name).map((row) => `${p.name} ${key(row)}`)));
    const declared = EXCEPTIONS.map((e) => `${e.program} ${e.group}: ${e.call}`);
    expect(declared.filter((name) => !known.has(name))).toEqual([]);
    expect(new Set(declared).size).toBe(declared.length);
  });
});

interface Ran {
  readonly rows: Row[];
  readonly status: number | null;
  readonly errors: string;
}

/** Runs a program under an ephemeral host. */
function exec(program: Program, path: string): Promise<Ran> {
  const domains = ['--domains', String(program.hvm.length), '--pv', String(program.pv)];
  const vcpus = program.hvm.length > 0 ? ['--vcpus', program.hvm.join(',')] : [];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [CLI, 'exec', ...domains, ...vcpus, '--', path], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const timer = setTimeout(() => child.kill('SIGTERM'), PROGRAM_LIMIT_MS);
    let out = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors += text;
    });
    child.once('error', reject);
    child.once('close', (status) => {
      clearTimeout(timer);
      try {
        resolve({ rows: parseRows(out), status, errors });
      } catch (error) {
        reject(error);
      }
    });
  });
}

/** Each difference as a line; the two lists are aligned by name, so that one missing row does not shift the others. */
function differences(name: string, expected: readonly Row[], actual: readonly Row[]): string[] {
  const exceptions = new Map(EXCEPTIONS.filter((e) => e.program === name).map((e) => [`${e.group}: ${e.call}`, e]));
  const left = new Map<string, Row[]>();
  for (const row of actual) left.set(key(row), [...(left.get(key(row)) ?? []), row]);
  const lines: string[] = [];
  for (const row of expected) {
    const ours = left.get(key(row))?.shift();
    const line = compareRow(row, ours, exceptions.get(key(row)));
    if (line !== undefined) lines.push(`${key(row)}: ${line}`);
  }
  for (const rows of left.values()) lines.push(...rows.map((row) => `${key(row)}: not on Xen; here ${answer(row)}`));
  return lines;
}

function compareRow(xen: Row, ours: Row | undefined, exception: Exception | undefined): string | undefined {
  if (ours === undefined) return `Xen ${answer(xen)}; missing here`;
  const same = answer(xen) === answer(ours);
  if (exception === undefined) return same ? undefined : `Xen ${answer(xen)}; here ${answer(ours)}`;
  if (same) return 'matches now: remove its exception';
  return exception.ours === answer(ours) ? undefined : `declared ${exception.ours}; here ${answer(ours)}`;
}

describe.skipIf(!cCompiler.ok)(cCompiler.named('unmodified C programs under postern exec'), () => {
  for (const program of PROGRAMS) {
    const title = program.notRun === undefined ? program.name : `${program.name} [skipped: ${program.notRun}]`;
    it.skipIf(program.notRun !== undefined)(title, async () => {
      expect(existsSync(CLI), 'run `npm run build` first').toBe(true);
      const built = compileProgram(sourceOfProgram(program.name), program.name);
      expect(built.messages).toBe('');
      const ran = await exec(program, built.path);
      const lines = differences(program.name, recorded(program.name), ran.rows);
      expect(lines, `${ran.errors}(status ${ran.status})`).toEqual([]);
      expect(ran.status).toBe(0);
    });
  }
});
