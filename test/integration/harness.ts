/**
 * What the tests of the running system share: the command line as a user types it, C programs under it, and what a
 * machine shows of processes, descriptors and files. Every run has a temporary directory of its own, so that what it
 * leaves behind is seen, whatever else runs on the machine.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

import { compileProgram } from '../support/compile-c.js';
import { requires } from '../support/requires.js';

export const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));

export const QEMU = requires({
  commands: ['cc', '/usr/libexec/xen-qemu-system-i386'],
  packages: ['gcc', 'libc6-dev', 'qemu-system-xen'],
});

const built = new Map<string, string>();

/** Compiles test/integration/c/NAME.c once. @returns the program's path */
export function program(name: string): string {
  const known = built.get(name);
  if (known !== undefined) return known;
  const source = fileURLToPath(new URL(`../../test/integration/c/${name}.c`, import.meta.url));
  const { ok, path, messages } = compileProgram(source, name, ['xenctrl']);
  expect(messages, `compiler's messages for ${name}.c`).toBe('');
  expect(ok).toBe(true);
  built.set(name, path);
  return path;
}

export interface Ended {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** One run of `postern`, in a temporary directory of its own. */
export class Run {
  /** A directory for the test's own files of this run. */
  readonly home: string;
  /** The system's temporary directory, as the run sees it: empty when all is well afterwards. */
  readonly temporary: string;
  readonly child: ChildProcess;
  stdout = '';
  stderr = '';
  readonly ended: Promise<Ended>;

  /** @param args of the command line; `HOME/` at an argument's start stands for the run's home */
  constructor(
    args: readonly string[],
    options: { env?: Record<string, string>; limitMs?: number; wrap?: string[] } = {},
  ) {
    this.home = mkdtempSync(join(tmpdir(), 'postern-test-'));
    this.temporary = join(this.home, 't');
    // Device models that have dropped their identity look their sockets up through these.
    mkdirSync(this.temporary, { mode: 0o755 });
    const here = args.map((arg) => (arg.startsWith('HOME/') ? join(this.home, arg.slice(5)) : arg));
    const command = [...(options.wrap ?? []), process.execPath, CLI, ...here];
    this.child = spawn(command[0] as string, command.slice(1), {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, TMPDIR: this.temporary, NO_COLOR: '1', ...options.env },
    });
    this.child.stdin?.on('error', () => {}); // a run that ends without reading its input
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
    });
    const limit = setTimeout(() => this.child.kill('SIGKILL'), options.limitMs ?? 300_000);
    this.ended = new Promise((resolve) => {
      this.child.once('close', (status, signal) => {
        clearTimeout(limit);
        resolve({ status, signal, stdout: this.stdout, stderr: this.stderr });
      });
    });
  }

  get pid(): number {
    return this.child.pid as number;
  }

  get hasEnded(): boolean {
    return this.child.exitCode !== null || this.child.signalCode !== null;
  }

  get output(): string {
    return `standard output:\n${this.stdout}\nstandard error:\n${this.stderr}`;
  }

  /** Waits for a line on standard output. */
  async says(text: string, limitMs = 30_000): Promise<void> {
    await until(`the run says "${text}"`, () => this.stdout.includes(text) || this.hasEnded, limitMs);
    expect(this.stdout, this.output).toContain(text);
  }

  /** What of the run is still on the machine: files in its temporary directory, and processes that know of it. */
  remains(): string[] {
    return [...readdirSync(this.temporary, { recursive: true }).map(String), ...processesOf(this.temporary)];
  }

  /** Everything that the run may have left, whatever state the test ended in. */
  async clean(): Promise<void> {
    if (!this.hasEnded) this.child.kill('SIGKILL');
    await this.ended;
    for (const remaining of processesOf(this.temporary)) {
      try {
        process.kill(Number.parseInt(remaining, 10), 'SIGKILL');
      } catch {
        // gone meanwhile
      }
    }
    rmSync(this.home, { recursive: true, force: true });
  }
}

/** Runs `postern` to its end and removes what it left; the caller looks at status and output. */
export async function postern(
  args: readonly string[],
  options: ConstructorParameters<typeof Run>[1] & { input?: string } = {},
): Promise<Ended> {
  const run = new Run(args, options);
  run.child.stdin?.end(options.input ?? '');
  try {
    return await run.ended;
  } finally {
    await run.clean();
  }
}

/** `PID command line` of every process whose command line or environment names the text. */
export function processesOf(text: string): string[] {
  const found: string[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')) continue;
      const command = readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ');
      if (command.includes(text) || readFileSync(`/proc/${pid}/environ`, 'latin1').includes(text)) {
        found.push(`${pid} ${command}`);
      }
    } catch {
      // gone, or none of ours
    }
  }
  return found;
}

/** A process's children. */
export function childrenOf(pid: number): number[] {
  const children: number[] = [];
  for (const name of readdirSync('/proc').filter((entry) => /^\d+$/.test(entry))) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      if (Number(fields[1]) === pid && fields[0] !== 'Z') children.push(Number(name));
    } catch {
      // gone
    }
  }
  return children;
}

/** What a process's descriptors are, as the kernel names them. */
export function descriptorsOf(pid: number | 'self'): string[] {
  return readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return [];
    }
  });
}

/** Resident memory in KiB. */
export function residentKib(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}

/** Waits until something holds; fails naming it. */
export async function until(what: string, holds: () => boolean | Promise<boolean>, limitMs = 10_000): Promise<void> {
  for (const deadline = Date.now() + limitMs; !(await holds()); await sleep(15)) {
    if (Date.now() > deadline) throw new Error(`waited ${limitMs} ms in vain until ${what}`);
  }
}

/** What a C program of these tests said of itself must be all good, and complete. */
export function expectAllGood(ended: Ended, minimum: number): void {
  const lines = ended.stdout.split('\n');
  expect(
    lines.filter((line) => line.startsWith('FAIL')),
    ended.stderr,
  ).toEqual([]);
  expect(lines, `${ended.stdout}\n${ended.stderr}\nstatus ${ended.status}`).toContain('done');
  expect(lines.filter((line) => line.startsWith('ok')).length).toBeGreaterThanOrEqual(minimum);
  expect(ended.status).toBe(0);
}

/** The records of a trace file that is complete. */
export function traceRecords(path: string): Record<string, unknown>[] {
  const text = readFileSync(path, 'utf8');
  return text
    .slice(0, text.lastIndexOf('\n') + 1)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}
