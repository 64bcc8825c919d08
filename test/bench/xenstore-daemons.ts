/**
 * The XenStore daemons of the bench: ours, its gate, Debian's C xenstored and the least a daemon could do; each under a
 * load of its own, so that a round of one can follow a round of the other at once.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { NotMeasured } from './figure.js';
import { buildProgram, POSTERN, temporary } from './programs.js';
import { endsWithUs, XenstoreLoad } from './xenstore-load.js';

const START_TIMEOUT_MS = 10_000;
/** Debian keeps one a Xen version; `/usr/sbin/xenstored` is a script that wants Xen to be running. */
const XEN_FOLDERS = '/usr/lib';

let started = 0;
const fresh = (name: string): string => temporary(`${name}-${started++}`);

/** @param options of `postern xenstored` */
export function startOurs(...options: string[]): Promise<XenstoreLoad> {
  const path = fresh('ours');
  const command = [process.execPath, POSTERN, 'xenstored', '--socket', path, ...options];
  return start('postern xenstored', command, path);
}

/** @param options of `postern gate` */
export function startGate(...options: string[]): Promise<XenstoreLoad> {
  const path = fresh('gate');
  return start('postern gate', [process.execPath, POSTERN, 'gate', '--socket', path, ...options], path);
}

/**
 * Debian's own binary; what it asks of Xen before it serves is answered by c/xenstored-alone.c. No quota is lifted: they
 * bind guests, and clients of the socket are dom0.
 */
export async function startC(): Promise<XenstoreLoad> {
  const program = await findC();
  const library = await buildProgram('xenstored-alone', ['-shared', '-fPIC', '-ldl']);
  const folder = fresh('c');
  mkdirSync(folder);
  const path = `${folder}/socket`;
  return start('C xenstored', [program, '-N', '--pid-file', `${folder}/pid`], path, {
    LD_PRELOAD: library,
    XENSTORED_RUNDIR: folder,
    XENSTORED_ROOTDIR: folder,
    XENSTORED_PATH: path,
  });
}

async function findC(): Promise<string> {
  for (const name of await readdir(XEN_FOLDERS)) {
    const program = `${XEN_FOLDERS}/${name}/bin/xenstored`;
    if (name.startsWith('xen-') && existsSync(program)) return program;
  }
  throw new NotMeasured('there is no C xenstored (Debian: apt-get install xen-utils)');
}

export async function startLeast(): Promise<XenstoreLoad> {
  const program = await buildProgram('xenstore-least');
  const path = fresh('least');
  return start('the least in C', [program, path], path);
}

async function start(
  name: string,
  command: readonly string[],
  path: string,
  variables: Readonly<Record<string, string>> = {},
): Promise<XenstoreLoad> {
  const [program, ...args] = command as [string, ...string[]];
  const daemon = spawn(program, args, {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, ...variables },
  });
  endsWithUs(daemon);
  const end = Date.now() + START_TIMEOUT_MS;
  while (daemon.exitCode === null && daemon.signalCode === null && Date.now() < end) {
    if (await answers(path)) return XenstoreLoad.on(name, daemon, path);
    await sleep(20);
  }
  daemon.kill('SIGKILL');
  throw new NotMeasured(`${name} has not come up`);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    }).on('error', () => resolve(false));
  });
}
