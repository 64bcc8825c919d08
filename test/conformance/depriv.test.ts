/**
 * Debian's own test of deprivilege, depriv-fd-checker, on the descriptors that a restricted QEMU really holds: it takes
 * each, puts it in the place of a fresh one, and sees whether what worked before is refused now.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { type CompileResult, cCompiler, compileLibrary, compileProgram } from '../support/compile-c.js';
import { requires } from '../support/requires.js';
import { sourceOfProgram } from './programs.js';

const CLI = fileURLToPath(new URL('../../dist/cli/main.js', import.meta.url));
const CHECKER = '/usr/lib/xen-4.17/bin/depriv-fd-checker';
const START_LIMIT_MS = 60_000;
const CHECK_LIMIT_MS = 30_000;
const EXIT_LIMIT_MS = 10_000;
/** A restricted QEMU keeps privcmd for two device-model and two foreign-memory handles, and one evtchn. */
const HELD = { privcmd: 4, evtchn: 1 };

const checkerNeeds = requires({
  commands: ['cc', CHECKER],
  files: ['/usr/include/xenctrl.h'],
  packages: ['gcc', 'libc6-dev', 'libxen-dev', 'xen-utils-4.17'],
});
const qemuNeeds = requires({
  commands: ['cc', CHECKER, '/usr/libexec/xen-qemu-system-i386'],
  files: ['/usr/include/xenctrl.h'],
  root: true,
  packages: ['gcc', 'libc6-dev', 'libxen-dev', 'xen-utils-4.17', 'qemu-system-xen'],
});

interface TraceLine {
  readonly pid: number;
  readonly call: string;
  readonly ret: number;
}

function traceLines(path: string): TraceLine[] {
  let text = '';
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    return []; // not there yet
  }
  const whole = text.slice(0, text.lastIndexOf('\n') + 1);
  return whole
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as TraceLine);
}

/** The process that restricted all it holds, once it has. */
async function restrictedProcess(tracePath: string, run: ChildProcess, output: () => string): Promise<number> {
  for (const deadline = Date.now() + START_LIMIT_MS; Date.now() < deadline; await sleep(100)) {
    if (run.exitCode !== null) throw new Error(`postern run ended early:\n${output()}`);
    const lines = traceLines(tracePath).filter((line) => line.ret === 0);
    const last = lines.find((line) => line.call === 'RESTRICT_DOMID');
    if (!last) continue;
    const privcmd = lines.filter((line) => line.call === 'RESTRICT' && line.pid === last.pid);
    if (privcmd.length >= HELD.privcmd) return last.pid;
  }
  throw new Error(`no device model restricted itself:\n${output()}`);
}

/** The variables that tie a process to its host. */
function hostEnvironment(pid: number): Record<string, string> {
  const all = readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  const wanted = all.map((entry) => entry.split('=')).filter(([name]) => /^(LD_PRELOAD|POSTERN_\w+)$/.test(name ?? ''));
  return Object.fromEntries(wanted.map(([name, ...value]) => [name as string, value.join('=')]));
}

function verdicts(output: string): string[] {
  return output.split('\n').filter((line) => /^\w+ (pass|fail|maybe) /.test(line));
}

function built(result: CompileResult): string {
  expect(result.messages).toBe('');
  expect(result.ok).toBe(true);
  return result.path;
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exit = new Promise<void>((resolve) => child.once('exit', () => resolve()));
  child.kill('SIGINT');
  if (await Promise.race([exit.then(() => false), sleep(EXIT_LIMIT_MS, true)])) child.kill('SIGKILL');
  await exit;
}

describe.skipIf(!checkerNeeds.ok || !cCompiler.ok)(checkerNeeds.named('depriv-fd-checker on open descriptors'), () => {
  it('finds that a process which restricted nothing is not deprivileged', () => {
    const holder = built(compileProgram(sourceOfProgram('depriv-holder'), 'depriv-holder'));
    const library = built(compileLibrary(sourceOfProgram('without-grants'), 'without-grants.so'));
    const ran = spawnSync(process.execPath, [CLI, 'exec', '--', holder, CHECKER, library], {
      encoding: 'utf8',
      timeout: CHECK_LIMIT_MS,
    });
    expect(verdicts(ran.stdout), ran.stderr).toEqual([
      expect.stringMatching(/^privcmd fail .*unexpectedly succeeded/),
      expect.stringMatching(/^evtchn fail .*unexpectedly succeeded/),
    ]);
  });
});

describe.skipIf(!qemuNeeds.ok)(qemuNeeds.named('depriv-fd-checker on a restricted QEMU'), () => {
  let folder: string;
  let run: ChildProcess | undefined;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'postern-depriv-'));
  });
  afterEach(async () => {
    if (run) await ended(run);
    rmSync(folder, { recursive: true, force: true });
  });

  it('passes every privcmd and evtchn descriptor that it holds', async () => {
    const launcher = built(compileProgram(sourceOfProgram('depriv-launcher'), 'depriv-launcher'));
    const library = built(compileLibrary(sourceOfProgram('without-grants'), 'without-grants.so'));
    const tracePath = join(folder, 'trace.jsonl');
    let output = '';
    run = spawn(process.execPath, [CLI, 'run', '--device-model', 'qemu', '--trace', tracePath], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [run.stdout, run.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        output += text;
      });
    }
    const pid = await restrictedProcess(tracePath, run, () => output);
    const environment = hostEnvironment(pid);
    expect(environment).toHaveProperty('LD_PRELOAD');
    const checked = spawnSync(launcher, [String(pid), CHECKER], {
      encoding: 'utf8',
      timeout: CHECK_LIMIT_MS,
      env: { ...process.env, ...environment, LD_PRELOAD: `${library}:${environment.LD_PRELOAD}` },
    });
    const lines = verdicts(checked.stdout);
    expect(
      lines.filter((line) => !/^\w+ pass /.test(line)),
      checked.stderr,
    ).toEqual([]);
    expect(
      lines.filter((line) => line.startsWith('privcmd pass')),
      checked.stdout,
    ).toHaveLength(HELD.privcmd);
    expect(
      lines.filter((line) => line.startsWith('evtchn pass')),
      checked.stdout,
    ).toHaveLength(HELD.evtchn);
    expect(checked.status).toBe(0);
    expect(run.exitCode, `the device model and its host go on\n${output}`).toBeNull();
  });
});
