/** The interposition library under programs that use it in every way but the intended one. The programs are in c/. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, it } from 'vitest';

import { cCompiler } from '../support/compile-c.js';
import { type Ended, expectAllGood, postern, program, Run } from './harness.js';

function exec(name: string, options: { domains?: number; vcpus?: string; args?: string[] } = {}): Promise<Ended> {
  const { domains = 1, vcpus = '1', args = [] } = options;
  return postern(['exec', '--domains', String(domains), '--vcpus', vcpus, '--', program(name), ...args]);
}

describe.skipIf(!cCompiler.ok)(cCompiler.named('the interposition library'), () => {
  it('answers bad user pointers with EFAULT and crashes nobody', async () => {
    expectAllGood(await exec('bad-pointers'), 100);
  });

  it('refuses ioctls that do not exist', async () => {
    expectAllGood(await exec('odd-ioctls'), 90);
  });

  it('keeps a restriction over dup, dup2, fork and exec', async () => {
    expectAllGood(await exec('restrict-survives', { domains: 2 }), 60);
  });

  it('gives threads and processes that share a file their own answers', async () => {
    expectAllGood(await exec('one-file-many-users', { domains: 2, vcpus: '2,1' }), 4);
  });

  it('transfers whole ports and masks as the event channel driver does', async () => {
    expectAllGood(await exec('evtchn-transfers'), 55);
  });

  it('maps foreign frames in any order, in parts and in bulk', async () => {
    expectAllGood(await exec('mapping-order', { domains: 2 }), 25);
  });

  it('shows its files to whatever looks at a path, and no others', async () => {
    expectAllGood(await exec('paths'), 55);
  });

  it('keeps out of the way of the descriptors that the program has', async () => {
    expectAllGood(await exec('low-descriptors'), 15);
  });
});

describe.skipIf(!cCompiler.ok)(cCompiler.named('files of one host in many processes'), () => {
  let folder: string;
  let host: Run;
  let socket: string;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'postern-files-'));
    socket = join(folder, 'host');
    host = new Run(['host', '--socket', socket, '--domains', '2']);
    await host.says('host is up');
  });
  afterAll(async () => {
    await host.clean();
    rmSync(folder, { recursive: true, force: true });
  });

  it('keeps a restriction when the file goes to a process that has nothing to do with the opener', async () => {
    const path = join(folder, 'meeting');
    const receiver = new Run(['exec', '--host', socket, '--', program('pass-fd'), 'receive', path]);
    try {
      await receiver.says('listening');
      expectAllGood(await postern(['exec', '--host', socket, '--', program('pass-fd'), 'send', path]), 3);
      expectAllGood(await receiver.ended, 12);
    } finally {
      await receiver.clean();
    }
  });
});
