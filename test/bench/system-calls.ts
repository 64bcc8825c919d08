/**
 * How many system calls something makes, by strace where it is there: what a figure could gain at most by making fewer.
 * Counted apart from the measuring, which it would ruin.
 */
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';
import { temporary } from './programs.js';

const STRACE = 'strace';

/** The `total` line of `strace -c`: share, seconds, microseconds a call, calls, … */
async function totalCalls(summary: string): Promise<number> {
  const columns = /^100\.00\s+.*\btotal$/m.exec(await readFile(summary, 'utf8'))?.[0].split(/\s+/);
  return Number(columns?.[3] ?? Number.NaN);
}

/**
 * Calls of all threads of a process while `work` is done.
 * @returns undefined where they cannot be counted: no strace, or not allowed
 */
export async function callsOf(pid: number, work: () => Promise<unknown>): Promise<number | undefined> {
  const summary = temporary('strace-attached');
  const tracer = spawn(STRACE, ['-f', '-c', '-o', summary, '-p', String(pid)], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const ended = once(tracer, 'exit').catch(() => 'failed');
  const attached = await Promise.race([once(tracer.stderr, 'data').catch(() => 'failed'), ended]);
  if (!Array.isArray(attached) || !String(attached[0]).includes('attached')) return undefined;
  await work();
  tracer.kill('SIGINT');
  await ended;
  return totalCalls(summary);
}

/** Calls of one program from start to end. @param variables for it and not for strace @returns undefined likewise */
export async function callsOfProgram(
  command: readonly string[],
  variables: Readonly<Record<string, string>>,
): Promise<number | undefined> {
  const summary = temporary('strace-program');
  const set = Object.entries(variables).flatMap(([name, value]) => ['-E', `${name}=${value}`]);
  try {
    await promisify(execFile)(STRACE, ['-c', '-o', summary, ...set, ...command]);
  } catch {
    return undefined;
  }
  return totalCalls(summary);
}
