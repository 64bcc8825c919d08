/** The commands as scripts rely on them: exit statuses, output, what an error says, and what a long-running host keeps. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { askHost } from '../../dist/host/control.js';
import { cCompiler } from '../support/compile-c.js';
import { descriptorsOf, expectAllGood, postern, program, Run, residentKib, traceRecords, until } from './harness.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'postern-cli-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** An error for people: what is wrong, no stack. */
async function expectRefusal(args: readonly string[], message: RegExp, options: Parameters<typeof postern>[1] = {}) {
  const { status, stdout, stderr } = await postern(args, options);
  expect(stderr).toMatch(message);
  expect(stderr, 'no stack').not.toMatch(/^ +at /m);
  expect(stdout).toBe('');
  expect(status).toBe(1);
}

describe.skipIf(!cCompiler.ok)(cCompiler.named('exec'), () => {
  it.each([
    ['status', 42, 42],
    ['signal', 9, 137],
    ['signal', 11, 139],
  ])('ends as the program does: %s %i', async (how, number, expected) => {
    const run = new Run(['exec', '--', program('exit-with'), how, String(number)]);
    const { status, stderr } = await run.ended;
    expect(status).toBe(expected);
    expect(stderr).toBe('');
    expect(run.remains()).toEqual([]);
    await run.clean();
  });

  it('passes standard input and output through', async () => {
    const { status, stdout } = await postern(['exec', '--', 'cat'], { input: 'as it is\n' });
    expect(stdout).toBe('as it is\n');
    expect(status).toBe(0);
  });

  it('passes options after the program to the program', async () => {
    const { stdout } = await postern(['exec', '--domains', '1', 'echo', '--domains', '--', '-x']);
    expect(stdout).toBe('--domains -- -x\n');
  });

  it.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)('hands %s on and cleans up', async (signal) => {
    const run = new Run(['exec', '--', 'sh', '-c', 'echo here; exec sleep 60']);
    try {
      await run.says('here');
      run.child.kill(signal);
      const { status } = await run.ended;
      expect(status).toBe({ SIGTERM: 143, SIGINT: 130, SIGHUP: 129 }[signal]);
      expect(run.remains()).toEqual([]);
    } finally {
      await run.clean();
    }
  });

  it('cleans up when it is told to end before the program has begun', async () => {
    const run = new Run(['exec', '--domains', '20', '--', 'sleep', '60']);
    try {
      await until('it has begun', () => run.remains().some((one) => one.startsWith('postern-')));
      run.child.kill('SIGTERM');
      expect((await run.ended).status).toBe(143);
      expect(run.remains()).toEqual([]);
    } finally {
      await run.clean();
    }
  });

  it('says when there is no such program', async () => {
    await expectRefusal(['exec', '--', '/nonexistent/program'], /cannot run \/nonexistent\/program: there is no such/);
    await expectRefusal(['exec', '--', folder], /cannot run .*EACCES/);
  });

  it('says what to do when there is no compiler', async () => {
    const env = { CC: '/nonexistent/cc', XDG_CACHE_HOME: join(folder, 'cache') };
    await expectRefusal(['exec', '--', 'true'], /no C compiler: '\/nonexistent\/cc' was not found.*apt-get install/s, {
      env,
    });
    const broken = join(folder, 'broken-cc');
    writeFileSync(broken, '#!/bin/sh\necho this cannot work >&2\nexit 1\n', { mode: 0o755 });
    await expectRefusal(['exec', '--', 'true'], /broken-cc could not build .*:\nthis cannot work/, {
      env: { ...env, CC: broken },
    });
  });

  it('builds its library once, for many at the same time', async () => {
    const env = { XDG_CACHE_HOME: join(folder, 'fresh') };
    const runs = await Promise.all([1, 2, 3].map(() => postern(['exec', '--', program('odd-ioctls')], { env })));
    for (const ended of runs) expectAllGood(ended, 90);
  });

  it('says when no host answers', async () => {
    await expectRefusal(
      ['exec', '--host', join(folder, 'nobody'), '--', 'true'],
      /no host answers at .*nobody.*postern host --socket/s,
    );
  });

  it('writes a trace of the documented form', async () => {
    const trace = join(folder, 'trace.jsonl');
    expectAllGood(await postern(['exec', '--trace', trace, '--', program('bad-pointers')]), 100);
    const records = traceRecords(trace);
    expect(readFileSync(trace, 'utf8').endsWith('}\n')).toBe(true);
    const known = ['time', 'pid', 'device', 'call', 'domid', 'operation', 'ret', 'errno', 'verdict', 'reason'];
    let last = 0;
    for (const record of records) {
      expect(Object.keys(record).filter((key) => !known.includes(key))).toEqual([]);
      expect(record).toEqual(
        expect.objectContaining({
          time: expect.any(Number),
          pid: expect.any(Number),
          device: expect.stringMatching(/^(privcmd|evtchn|hypercall)$/),
          call: expect.any(String),
          ret: expect.any(Number),
          verdict: expect.stringMatching(/^(allowed|refused|failed)$/),
        }),
      );
      expect(Math.abs((record.time as number) - Date.now())).toBeLessThan(120_000);
      expect(record.time as number).toBeGreaterThanOrEqual(last);
      last = record.time as number;
      if (record.verdict === 'allowed') expect(record).not.toHaveProperty('errno');
      else expect(record).toEqual(expect.objectContaining({ errno: expect.any(String), reason: expect.any(String) }));
      if ((record.ret as number) < 0) expect(record.verdict).not.toBe('allowed');
    }
    expect(records).toContainEqual(expect.objectContaining({ call: 'DM_OP', operation: 'nr_vcpus', domid: 1, ret: 0 }));
    expect(records).toContainEqual(expect.objectContaining({ call: 'DM_OP', errno: 'EFAULT', verdict: 'refused' }));
  });

  it('says when the trace cannot be written', async () => {
    await expectRefusal(
      ['exec', '--trace', join(folder, 'no', 'such', 'place'), '--', 'true'],
      /no such file or directory.*place/,
    );
  });
});

describe('the command line itself', () => {
  it('has help everywhere, with examples', async () => {
    const commands = ['', 'exec', 'run', 'domain create', 'io'];
    const helps = await Promise.all(commands.map((name) => postern([...name.split(' ').filter(Boolean), '--help'])));
    for (const [i, { status, stdout }] of helps.entries()) {
      expect(stdout).toMatch(/^Usage: postern/);
      if (commands[i] !== 'domain create') expect(stdout, `help of ${commands[i]}`).toMatch(/Examples?:/);
      expect(status).toBe(0);
    }
  });

  it('says what is wrong with its arguments, and where to look', async () => {
    const mistakes: [string[], RegExp][] = [
      [['exec', '--vcpus', '1,0', '--', 'true'], /a whole number from 1 to 128/],
      [['run', '--seconds', '0'], /a number of seconds greater than 0/],
      [['run', '--device-model', 'bochs'], /Allowed choices are qemu, builtin/],
      [['frobnicate'], /unknown command 'frobnicate'/],
      [['domain', 'create'], /required option '--host/],
    ];
    const said = await Promise.all(mistakes.map(([args]) => postern(args)));
    for (const [i, { status, stderr }] of said.entries()) {
      expect(stderr).toMatch(mistakes[i]?.[1] as RegExp);
      expect(stderr).toMatch(/--help/);
      expect(status).toBe(1);
    }
  });

  it('says when there is no QEMU', async () => {
    await expectRefusal(
      ['run', '--device-model', 'qemu', '--json'],
      /no QEMU with Xen support found.*apt-get install/,
      {
        env: { POSTERN_QEMU: '/nonexistent/qemu' },
      },
    );
  });

  it('says what a device model said that does not come up', async () => {
    const fake = join(folder, 'fake-qemu');
    writeFileSync(fake, '#!/bin/sh\necho no such machine >&2\nexit 3\n', { mode: 0o755 });
    await expectRefusal(
      ['run', '--device-model', 'qemu', '--json'],
      /did not come up: it ended with status 3\nno such machine/,
      {
        env: { POSTERN_QEMU: fake },
      },
    );
  });

  it('says what is wrong with a script', async () => {
    await expectRefusal(
      ['run', '--device-model', 'builtin', '--json', '--script', join(folder, 'none')],
      /cannot read the script/,
    );
    const bad = join(folder, 'bad.io');
    writeFileSync(bad, 'inb 0x3fd\nfrobnicate 1\n');
    await expectRefusal(['run', '--device-model', 'builtin', '--json', '--script', bad], /2/);
  });
});

describe('a long-running host', () => {
  let socket: string;
  let host: Run;
  const on = (...args: string[]) => postern([...args, '--host', socket]);

  beforeAll(async () => {
    socket = join(folder, 'run', 'host');
    host = new Run(['host', '--socket', socket, '--domains', '1', '--vcpus', '2']);
    await host.says('host is up');
  });
  afterAll(async () => await host.clean());

  it('says how to use it', async () => {
    expect(host.stdout).toContain(`host is up: ${socket}`);
    if (!cCompiler.ok) return;
    const usage = /^export LD_PRELOAD=.*\nexport POSTERN_HOST=.*\nexport XENSTORED_PATH=.*\n/m;
    await until('it has said how, once its library is built', () => usage.test(host.stdout), 60_000);
  });

  it('makes, lists, pauses and ends domains', async () => {
    expect((await on('domain', 'create', '--memory', '32', '--vcpus', '3')).stdout).toBe('2\n');
    expect(JSON.parse((await on('domain', 'create', '--pv', '--memory', '16', '--json')).stdout)).toEqual({ domid: 3 });
    const rows = JSON.parse((await on('domain', 'list', '--json')).stdout);
    expect(rows).toEqual([
      { domid: 1, kind: 'hvm', memoryMiB: 64, vcpus: 2, state: 'paused' },
      { domid: 2, kind: 'hvm', memoryMiB: 32, vcpus: 3, state: 'paused' },
      { domid: 3, kind: 'pv', memoryMiB: expect.any(Number), vcpus: 1, state: 'paused' },
    ]);
    expect((await on('domain', 'unpause', '2')).status).toBe(0);
    const { stdout } = await on('domain', 'list');
    expect(stdout).toMatch(/domid.*kind.*memory/);
    expect(stdout).toMatch(/2 +hvm +32 MiB +3 +running/);
    expect((await on('domain', 'pause', '2')).status).toBe(0);
    for (const domid of ['2', '3']) expect((await on('domain', 'destroy', domid)).status).toBe(0);
    expect(JSON.parse((await on('domain', 'list', '--json')).stdout)).toHaveLength(1);
  });

  it('refuses what cannot be, and says why', async () => {
    for (const action of ['destroy', 'pause', 'unpause']) {
      await expectRefusal(['domain', action, '77', '--host', socket], /there is no domain 77/);
    }
    await expectRefusal(
      ['domain', 'list', '--host', join(folder, 'nobody')],
      /no host answers at .*postern host --socket/,
    );
    await expectRefusal(['host', '--socket', socket], /a host is running at .* already/);
    await expectRefusal(
      ['host', '--socket', join(folder, 'x'.repeat(120))],
      /socket path is \d+ bytes long, at most \d+/,
    );
    expect((await on('domain', 'list')).status, 'the host that was there still is').toBe(0);
  });

  it('plays I/O: reads that nobody claims are all ones', async () => {
    const text = await postern(['io', '--host', socket], { input: 'inb 0x3fd\ninl 0xcf8\n' });
    expect(text.stdout).toMatch(/0xff\b.*\n.*0xffffffff\b/);
    expect(text.status).toBe(0);
    const json = await postern(['io', '--host', socket, '--json'], { input: 'inw 0x80\n' });
    expect(JSON.stringify(JSON.parse(json.stdout))).toContain('ffff');
    await expectRefusal(['io', '--host', socket, '--domid', '9'], /there is no domain 9/, { input: 'inb 1\n' });
    await expectRefusal(['io', '--host', socket, '--vcpu', '5'], /domain 1 has no vCPU 5/, { input: 'inb 1\n' });
    await expectRefusal(['io', '--host', socket], /frobnicate/, { input: 'frobnicate\n' });
  });

  it.skipIf(!cCompiler.ok)('survives a thousand opens, gives files back, and refuses what is too much', async () => {
    const before = descriptorsOf(host.pid).length;
    const thousand = await postern(['exec', '--host', socket, '--', program('many-opens'), '1000']);
    expectAllGood(thousand, 6);
    expect(thousand.stdout).toContain('opened\t1000\t-');
    const all = await postern(['exec', '--host', socket, '--', program('many-opens'), '15000']);
    expectAllGood(all, 6);
    expect(all.stdout).toMatch(/opened\t(\d{4})\tE\w+/);
    await until('the host has given all of it back', () => descriptorsOf(host.pid).length <= before);
    expect((await on('domain', 'list')).status).toBe(0);
  });

  it('keeps nothing of 200 domains', async () => {
    const churn = async (times: number) => {
      for (let i = 0; i < times; i++) {
        const { domid } = await askHost(socket, 'createDomain', { kind: 'hvm', memoryMiB: 16, vcpus: 1 });
        await askHost(socket, 'destroyDomain', { domid });
      }
    };
    await churn(40); // as large as it gets anyway
    const descriptors = descriptorsOf(host.pid).length;
    const resident = residentKib(host.pid);
    await churn(200);
    await until('descriptors are given back', () => descriptorsOf(host.pid).length <= descriptors);
    // 200 domains of 16 MiB would be 3 GiB; garbage that is not collected yet is allowed for
    expect(residentKib(host.pid) - resident).toBeLessThan(48 * 1024);
    const memory = descriptorsOf(host.pid).filter((name) => name.includes('postern-guest'));
    expect(memory.length, 'memory files').toBeLessThanOrEqual(4);
  });

  it('ends at SIGTERM and leaves nothing', async () => {
    const mine = join(folder, 'other');
    const other = new Run(['host', '--socket', mine]);
    await other.says('host is up');
    other.child.kill('SIGTERM');
    expect((await other.ended).status).toBe(0);
    for (const suffix of ['', '.control', '.xenstored']) expect(existsSync(`${mine}${suffix}`)).toBe(false);
    await other.clean();
  });

  it('takes over the socket of a host that was killed', async () => {
    const mine = join(folder, 'killed');
    const first = new Run(['host', '--socket', mine]);
    await first.says('host is up');
    first.child.kill('SIGKILL');
    await first.ended;
    expect(existsSync(mine)).toBe(true);
    const second = new Run(['host', '--socket', mine]);
    await second.says('host is up');
    expect((await postern(['domain', 'list', '--host', mine, '--json'])).stdout).toBe('[]\n');
    second.child.kill('SIGINT');
    expect((await second.ended).status).toBe(0);
    await Promise.all([first.clean(), second.clean()]);
  });
});

describe('a host that has few descriptors', () => {
  it.skipIf(!cCompiler.ok)('refuses opens and goes on', async () => {
    const socket = join(folder, 'few');
    const host = new Run(['host', '--socket', socket, '--domains', '1']);
    try {
      await host.says('host is up');
      const limit = descriptorsOf(host.pid).length + 40;
      expect(spawnSync('prlimit', ['--pid', String(host.pid), `--nofile=${limit}:${limit}`]).status).toBe(0);
      const crowd = await postern(['exec', '--host', socket, '--', program('many-opens'), '500']);
      expectAllGood(crowd, 6);
      expect(crowd.stdout).toMatch(/opened\t\d{1,2}\tE\w+/);
      expect((await postern(['domain', 'create', '--memory', '16', '--json', '--host', socket])).stdout).toBe(
        '{"domid":2}\n',
      );
      expectAllGood(await postern(['exec', '--host', socket, '--', program('odd-ioctls')]), 90);
      expect(host.hasEnded, host.output).toBe(false);
    } finally {
      await host.clean();
    }
  });
});
