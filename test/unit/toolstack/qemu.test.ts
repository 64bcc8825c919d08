/** QEMU as libxl starts it with dm_restrict, and what becomes of programs that are no QEMU. */
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { UID_BASE } from '../../../dist/toolstack/device-model-process.js';
import { findQemu, type QemuOptions, qemuArguments, startQemu, VIDEO_MIB } from '../../../dist/toolstack/qemu.js';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'postern-qemu-'));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(directory, { recursive: true });
});

const options = (fields: Partial<QemuOptions> = {}): QemuOptions => ({
  binary: '/nonexistent/qemu',
  domid: 7,
  name: 'a guest',
  memoryMiB: 48,
  directory,
  environment: { POSTERN_HOST: '/run/host' },
  onMessage: () => {},
  ...fields,
});

/** A program with the given text. */
function program(name: string, text: string, mode = 0o755): string {
  const path = join(directory, name);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

describe('the argument list', () => {
  // @spec xen:tools/libs/light/libxl_dm.c libxl__build_device_model_args_new, for an HVM guest without disks and networks
  const before = [
    ...['-xen-domid', '7', '-no-shutdown'],
    ...[
      '-chardev',
      'socket,id=libxl-cmd,path=/run/cmd,server=on,wait=off',
      '-S',
      '-mon',
      'chardev=libxl-cmd,mode=control',
    ],
    ...['-chardev', 'socket,id=libxenstat-cmd,path=/run/7/qmp-libxenstat,server=on,wait=off'],
    ...['-mon', 'chardev=libxenstat-cmd,mode=control', '-nodefaults', '-no-user-config', '-name', 'a guest'],
    ...['-vnc', 'none', '-display', 'none', '-serial', 'pty', '-device', 'VGA,vgamem_mb=16'],
    ...['-boot', 'order=c', '-net', 'none', '-xen-domid-restrict'],
  ];
  const machine = ['-machine', 'xenfv,suppress-vmdesc=on,max-ram-below-4g=4026531840', '-m', '48'];
  const list = (uid?: number) => qemuArguments(options({ directory: '/run/7' }), '/run/cmd', uid);

  it('is libxl’s with dm_restrict', () => {
    const restricted = [...before, '-chroot', '/run/7/root', ...machine, '-runas', '200007:200007'];
    expect(list(200007)).toEqual(restricted);
  });

  it('goes without a new root and identity where those are not possible, and is restricted all the same', () => {
    expect(list()).toEqual([...before, ...machine]);
  });

  it('keeps a name with odd characters one argument', () => {
    const name = 'x,-S "$(id)"\n';
    const args = qemuArguments(options({ name }), '/run/cmd', undefined);
    expect(args[args.indexOf('-name') + 1]).toBe(name);
  });

  it('gives every domain an identity that is no user’s', () => {
    expect(UID_BASE).toBeGreaterThan(65535);
    expect(VIDEO_MIB).toBe(16);
  });
});

describe('finding it', () => {
  it('takes what POSTERN_QEMU names, and only that', async () => {
    const found = program('my-qemu', '');
    vi.stubEnv('POSTERN_QEMU', found);
    expect(await findQemu()).toBe(found);
    for (const wrong of [join(directory, 'not-there'), join(directory, 'my-qemu', 'x')]) {
      vi.stubEnv('POSTERN_QEMU', wrong);
      expect(await findQemu()).toBeUndefined();
    }
    vi.stubEnv('POSTERN_QEMU', program('no-program', '', 0o644));
    expect(await findQemu()).toBeUndefined();
  });
});

describe('starting it', () => {
  it.each<[string, string, RegExp]>([
    ['says what it said and how it ended', 'echo "xen: no such domain" >&2; exit 3', /status 3\nxen: no such domain/],
    ['that a signal ends', 'kill -9 $$', /ended by SIGKILL/],
  ])('fails with a program that %s', async (_name, body, message) => {
    const binary = program('qemu', `#!/bin/sh\n${body}\n`);
    const error = await startQemu(options({ binary })).catch((caught: Error) => caught);
    expect((error as Error).message).toMatch(message);
    expect((error as Error).message).toMatch(/did not come up/);
  });

  it('fails with a program that is not there', async () => {
    await expect(startQemu(options())).rejects.toThrow(/did not come up.*ENOENT/s);
  });

  it('waits until it answers, lets it run, passes its messages on, and quits it', async () => {
    const fake = `#!${process.execPath}
const args = process.argv.slice(2);
require('fs').writeFileSync('${directory}/seen', JSON.stringify({ args, env: process.env }));
console.log('hello from the device model');
const path = args[args.indexOf('-chardev') + 1].match(/path=([^,]*)/)[1];
const done = [];
require('net').createServer((socket) => {
  socket.write('{"QMP":{}}\\n');
  socket.on('data', (chunk) => {
    for (const line of chunk.toString().trim().split('\\n')) {
      const { execute, id } = JSON.parse(line);
      done.push(execute);
      require('fs').writeFileSync('${directory}/done', JSON.stringify(done));
      socket.write(JSON.stringify({ return: {}, id }) + '\\n', () => execute === 'quit' && process.exit(0));
    }
  });
}).listen(path);
`;
    vi.stubEnv('OF_THE_TOOLSTACK', 'none of a device model’s business');
    let said = '';
    const binary = program('qemu', fake);
    const qemu = await startQemu(options({ binary, onMessage: (text) => (said += text) }));
    const seen = JSON.parse(readFileSync(join(directory, 'seen'), 'utf8')) as { args: string[]; env: object };
    expect(seen.args).toEqual(
      qemuArguments(options(), join(directory, 'qmp-libxl'), process.getuid?.() === 0 ? UID_BASE + 7 : undefined),
    );
    expect(seen.env).toMatchObject({ XEN_DOMAIN_ID: '7', POSTERN_HOST: '/run/host' });
    expect(Object.keys(seen.env)).not.toContain('OF_THE_TOOLSTACK');
    expect(qemu.uid).toBe(process.getuid?.() === 0 ? UID_BASE + 7 : process.getuid?.());
    await qemu.stop();
    expect(await qemu.ended).toBe('ended with status 0');
    const done = JSON.parse(readFileSync(join(directory, 'done'), 'utf8')) as string[];
    expect(done[0]).toBe('qmp_capabilities');
    expect(done.at(-1)).toBe('quit');
    expect(said).toBe('hello from the device model\n');
  });
});
