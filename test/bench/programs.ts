/** Programs the bench builds and runs: its C baselines, the host, and whom the kernel may run where. */
import { type ChildProcess, execFile, execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { NotMeasured } from './figure.js';

const root = new URL('../../', import.meta.url);
export const POSTERN = fileURLToPath(new URL('dist/cli/main.js', root));
const C_SOURCES = fileURLToPath(new URL('test/bench/c/', root));
const NATIVE = fileURLToPath(new URL('native/', root));

const START_TIMEOUT_MS = 20_000;

let folder: string | undefined;

/** This run's own folder, gone at the end. */
export function temporary(name: string): string {
  if (folder === undefined) {
    const made = mkdtempSync(join(tmpdir(), 'postern-bench-'));
    process.once('exit', () => rmSync(made, { recursive: true, force: true }));
    folder = made;
  }
  return join(folder, name);
}

/** @returns the program's path @throws NotMeasured without a compiler or the libraries */
export async function buildProgram(name: string, libraries: readonly string[] = []): Promise<string> {
  const program = temporary(name);
  const flags = ['-std=gnu11', '-O2', '-Wall', '-Wextra', '-Werror', `-I${NATIVE}`];
  try {
    const source = join(C_SOURCES, `${name}.c`);
    await promisify(execFile)(process.env.CC || 'cc', [...flags, source, '-o', program, ...libraries]);
  } catch (error) {
    const said = ((error as { stderr?: string }).stderr ?? (error as Error).message).split('\n')[0];
    throw new NotMeasured(`cannot build ${name}.c (Debian: apt-get install gcc libc6-dev libxen-dev): ${said}`);
  }
  return program;
}

/** CPUs of this process, by number. */
export function cpus(): string {
  return /:\s*(\S+)\s*$/.exec(execFileSync('taskset', ['-cp', String(process.pid)], { encoding: 'utf8' }))?.[1] ?? '0';
}

export const firstCpu = (): string => /^\d+/.exec(cpus())?.[0] ?? '0';

/** Where all threads of a process may run. @param list as taskset takes it */
export function setCpus(pid: number, list: string): void {
  execFileSync('taskset', ['-acp', list, String(pid)], { stdio: 'ignore' });
}

/** The lines a program prints, as they come; ends when it does. @throws Error where it fails */
export async function* linesOf(command: string, args: readonly string[], variables: Readonly<Record<string, string>>) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'], env: { ...process.env, ...variables } });
  const ended = new Promise<string | undefined>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('exit', (code, signal) => resolve(code === 0 ? undefined : `ended with ${signal ?? code}`));
  });
  try {
    yield* createInterface({ input: child.stdout });
    const failure = await ended;
    if (failure !== undefined) throw new Error(`${command} ${failure}`);
  } finally {
    child.kill('SIGKILL');
  }
}

export interface HostProcess {
  readonly pid: number;
  /** What programs that are to use it have to be given. */
  readonly variables: Readonly<Record<string, string>>;
  stop(): Promise<void>;
}

/** Starts `postern host` with domain 1. @param options further ones */
export async function startHost(name: string, ...options: string[]): Promise<HostProcess> {
  const args = [POSTERN, 'host', '--socket', temporary(name), '--domains', '1', ...options];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  process.once('exit', () => child.kill('SIGKILL'));
  const tooLong = setTimeout(() => child.kill('SIGKILL'), START_TIMEOUT_MS);
  const variables: Record<string, string> = {};
  for await (const line of createInterface({ input: child.stdout })) {
    const [, key, value] = /^export (\w+)=(.*)$/.exec(line) ?? [];
    if (key !== undefined) variables[key] = value as string;
    if (key === 'XENSTORED_PATH') break;
  }
  clearTimeout(tooLong);
  if (variables.LD_PRELOAD === undefined) throw new NotMeasured('the host has not come up with its library');
  return { pid: child.pid as number, variables, stop: () => stopProcess(child) };
}

async function stopProcess(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 3000);
  await ended;
  clearTimeout(timer);
}
