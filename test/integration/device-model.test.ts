/**
 * `postern run` from start to end: what a restricted device model asks for, as whom it runs, and what is left of a run
 * that is interrupted, or loses one of its processes, at any of its phases.
 */
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';

import { childrenOf, type Ended, processesOf, QEMU, Run, traceRecords, until } from './harness.js';

const IS_ROOT = process.getuid?.() === 0;
/** A run that was told to end, or has lost something, has this long. */
const END_LIMIT_MS = 30_000;
/** And a process that has lost its host this long. */
const ORPHAN_LIMIT_MS = 15_000;

interface Kind {
  /** Whether every phase is worth a run: the two device models share most of what is tested. */
  readonly isThorough: boolean;
  readonly kind: 'qemu' | 'builtin';
  /** What its start-up cannot do without, in order. */
  readonly calls: readonly string[];
}

const QEMU_KIND: Kind = {
  kind: 'qemu',
  isThorough: true,
  calls: [
    'privcmd open',
    'hypercall open',
    'privcmd UNIMPLEMENTED',
    'privcmd DM_OP',
    'evtchn open',
    'privcmd DM_OP create_ioreq_server',
    'privcmd MMAP_RESOURCE',
    'privcmd DM_OP get_ioreq_server_info',
    'privcmd DM_OP set_ioreq_server_state',
    'evtchn BIND_INTERDOMAIN',
    'evtchn BIND_INTERDOMAIN',
    'gntdev open',
    'privcmd DM_OP map_io_range_to_ioreq_server',
    'privcmd DM_OP unmap_io_range_from_ioreq_server',
    'hypercall mmap',
    'privcmd HYPERCALL multicall of memory_op/populate_physmap',
    'privcmd MMAPBATCH_V2',
    'privcmd DM_OP set_mem_type',
    'evtchn RESTRICT_DOMID',
    'privcmd RESTRICT',
    'privcmd RESTRICT',
    'privcmd RESTRICT',
    'privcmd RESTRICT',
    'privcmd DM_OP set_ioreq_server_state',
    'evtchn NOTIFY',
    'privcmd DM_OP set_ioreq_server_state',
    'privcmd DM_OP destroy_ioreq_server',
  ],
};

const BUILTIN_KIND: Kind = {
  kind: 'builtin',
  isThorough: false,
  calls: [
    'privcmd open',
    'privcmd DM_OP create_ioreq_server',
    'privcmd MMAP_RESOURCE',
    'privcmd DM_OP map_io_range_to_ioreq_server',
    'privcmd DM_OP set_ioreq_server_state',
    'privcmd RESTRICT',
    'evtchn NOTIFY',
  ],
};

/** What restricted files still take, and all that a restricted device model asks for. */
const AFTER_RESTRICTION =
  /^(privcmd (DM_OP \w+|MMAPBATCH_V2|RESTRICT)|evtchn (NOTIFY|RESTRICT_DOMID|BIND_INTERDOMAIN|UNBIND))$/;

interface Report {
  readonly deviceModel: { kind: string; pid: number; uid: number };
  readonly restricted: boolean;
  readonly requests: { served: number; p50Us: number; p99Us: number };
  readonly calls: Record<string, number>;
  readonly refusals: Record<string, number>;
}

let run: Run | undefined;
afterEach(async () => {
  await run?.clean();
  run = undefined;
});

function start(kind: Kind['kind'], ...more: string[]): Run {
  run = new Run(['run', '--device-model', kind, ...more]);
  return run;
}

/** The device model's process, as soon as there is one. */
async function deviceModelOf(started: Run): Promise<number> {
  let pid: number | undefined;
  const isIt = (child: number) => {
    const line = processesOf(started.temporary).find((one) => one.startsWith(`${child} `));
    return line !== undefined && /xen-domid|--domid/.test(line);
  };
  await until(
    'a device model is started',
    () => {
      pid = childrenOf(started.pid).find(isIt);
      return pid !== undefined || started.hasEnded;
    },
    END_LIMIT_MS * 2,
  );
  expect(pid, started.output).toBeDefined();
  return pid as number;
}

/** How the run ends, which must be soon. */
async function endOf(started: Run): Promise<Ended> {
  const late = setTimeout(() => started.child.kill('SIGQUIT'), END_LIMIT_MS);
  const ended = await started.ended;
  clearTimeout(late);
  expect(ended.signal, `the run ends by itself\n${started.output}`).not.toBe('SIGQUIT');
  return ended;
}

function expectNothingRemains(started: Run): void {
  expect(started.remains(), started.output).toEqual([]);
}

function statusOf(pid: number): Record<string, string> {
  const lines = readFileSync(`/proc/${pid}/status`, 'utf8').split('\n');
  return Object.fromEntries(lines.map((line) => line.split(/:\s*/, 2)));
}

/** The names that do not come in this order. */
function outOfOrder(names: readonly string[], expected: readonly string[]): string[] {
  let at = 0;
  return expected.filter((name) => {
    const next = names.indexOf(name, at);
    if (next >= 0) at = next + 1;
    return next < 0;
  });
}

function expectDeprivileged(pid: number): void {
  const status = statusOf(pid);
  expect(status.Uid?.split('\t')).toEqual(Array(4).fill('200001'));
  expect(status.Gid?.split('\t')).toEqual(Array(4).fill('200001'));
  expect(['', '200001']).toContain(status.Groups?.trim());
  for (const set of ['CapInh', 'CapPrm', 'CapEff', 'CapAmb']) expect(status[set], set).toBe('0000000000000000');
  expect(readlinkSync(`/proc/${pid}/root`)).toMatch(/\/root$/);
  expect(readdirSync(`/proc/${pid}/root/`)).toEqual([]);
}

function kinds(name: string, tests: (kind: Kind) => void): void {
  describe.skipIf(!QEMU.ok)(QEMU.named(`${name}: QEMU`), () => tests(QEMU_KIND));
  describe(`${name}: the built-in device model`, () => tests(BUILTIN_KIND));
}

kinds('a whole run', ({ kind, calls }) => {
  it('is restricted, serves requests, reports, and leaves nothing', async () => {
    const started = start(kind, '--seconds', '1', '--json', '--trace', 'HOME/trace');
    const trace = join(started.home, 'trace');
    const pid = await deviceModelOf(started);
    await until(
      'requests are served',
      () => started.hasEnded || traceRecords(trace).some(({ call }) => call === 'NOTIFY'),
    );
    if (IS_ROOT) expectDeprivileged(pid);
    expect(statusOf(pid).State).not.toMatch(/^Z/);

    const ended = await endOf(started);
    expect(ended.status, started.output).toBe(0);
    expectNothingRemains(started);
    const report = JSON.parse(ended.stdout.trim().split('\n').at(-1) as string) as Report;
    expect(report.deviceModel).toEqual({ kind, pid, uid: IS_ROOT ? 200_001 : process.getuid?.() });
    expect(report.restricted).toBe(true);
    expect(report.requests.served).toBeGreaterThan(100);
    expect(report.requests.p50Us).toBeGreaterThan(0);
    expect(report.requests.p99Us).toBeGreaterThanOrEqual(report.requests.p50Us);
    expect(report.calls.NOTIFY).toBeGreaterThan(100);
    expect(report.refusals).toEqual({});

    const records = traceRecords(trace).filter((record) => record.pid === pid);
    const names = records.map(({ device, call, operation }) => [device, call, operation].filter(Boolean).join(' '));
    expect(outOfOrder(names, calls)).toEqual([]);
    const restricted = Math.max(names.indexOf('evtchn RESTRICT_DOMID'), names.indexOf('privcmd RESTRICT'));
    const later = new Set(names.slice(restricted));
    expect([...later].filter((name) => !AFTER_RESTRICTION.test(name))).toEqual([]);
    const refused = records.filter(({ verdict }) => verdict === 'refused' || verdict === 'violation');
    expect(refused).toEqual([]);
  });

  it('plays a script of the user', async () => {
    const script = join(mkdtempSync(join(tmpdir(), 'postern-script-')), 'script.io');
    writeFileSync(script, 'inb 0x3fd\n');
    const started = start(kind, '--script', script, '--seconds', '1', '--json');
    const ended = await endOf(started);
    rmSync(dirname(script), { recursive: true });
    expect(ended.status, started.output).toBe(0);
    expect((JSON.parse(ended.stdout) as Report).requests.served).toBeGreaterThan(50);
    expectNothingRemains(started);
  });
});

/** By what a run says when it comes to a phase. */
const INTERRUPTIONS = [
  ['domain 1', 'SIGTERM'],
  ['device model', 'SIGINT'],
  ['restricted', 'SIGTERM'],
  ['running', 'SIGINT'],
  ['running', 'SIGTERM'],
] as const;

kinds('told to end', ({ kind, isThorough }) => {
  it.each(isThorough ? INTERRUPTIONS : INTERRUPTIONS.slice(1, 3))('at "%s" by %s', async (phase, signal) => {
    const started = start(kind);
    await started.says(phase);
    started.child.kill(signal);
    const ended = await endOf(started);
    expect(ended.signal, started.output).toBeNull();
    const ofSignal = signal === 'SIGINT' ? 130 : 143;
    expect(phase === 'running' ? [0] : [ofSignal, 0], started.output).toContain(ended.status);
    expect(ended.stderr).toBe('');
    expectNothingRemains(started);
  });

  it('before it has begun', async () => {
    const started = start(kind);
    await until('it has made its directory', () => started.remains().some((one) => one.startsWith('postern-')));
    started.child.kill('SIGTERM');
    await endOf(started);
    expectNothingRemains(started);
  });

  it('twice', async () => {
    const started = start(kind);
    await started.says('running');
    started.child.kill('SIGINT');
    started.child.kill('SIGINT');
    const ended = await endOf(started);
    expect(ended.status, started.output).toBe(0);
    expectNothingRemains(started);
  });
});

kinds('loses its device model', ({ kind, isThorough }) => {
  const phases = ['when it is started', 'restricted', 'device model', 'running'] as const;
  it.each(isThorough ? phases : phases.slice(0, 2))('at "%s"', async (phase) => {
    const started = start(kind);
    const pid = await deviceModelOf(started);
    if (phase !== 'when it is started') await started.says(phase);
    process.kill(pid, 'SIGKILL');
    const ended = await endOf(started);
    expect(ended.status, started.output).toBe(1);
    expect(ended.stderr).toMatch(/^postern: .*(device model|did not come up).*ended by SIGKILL/s);
    expect(ended.stderr, 'a message, not a stack').not.toMatch(/^ +at /m);
    expectNothingRemains(started);
  });
});

kinds('is killed itself', ({ kind, isThorough }) => {
  const phases = ['running', 'domain 1', 'restricted'] as const;
  it.each(isThorough ? phases : phases.slice(0, 1))('at "%s"', async (phase) => {
    const started = start(kind);
    const pid = await deviceModelOf(started);
    await started.says(phase);
    started.child.kill('SIGKILL');
    await started.ended;
    const alive = () => processesOf(started.temporary).filter((one) => one.startsWith(`${pid} `));
    await until(`the device model has ended: ${alive()}`, () => alive().length === 0, ORPHAN_LIMIT_MS);
  });
});
