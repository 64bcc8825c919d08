/**
 * Starts an unmodified Xen QEMU as libxl does with dm_restrict: the same argument list, an identity of its own and an
 * empty root where that is possible. @spec xen:tools/libs/light/libxl_dm.c
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:fs';
import { access, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { QmpClient, QmpError } from '../qmp/client.js';
import { type DeviceModelProcess, endOf, lastWords, stopProcess, uidFor } from './device-model-process.js';

/** Where distributions put the QEMU that has Xen support built in. */
const CANDIDATES = [
  '/usr/libexec/xen-qemu-system-i386',
  '/usr/lib/xen/bin/qemu-system-i386',
  '/usr/local/lib/xen/bin/qemu-system-i386',
];

const START_TIMEOUT_MS = 15_000;

export interface QemuOptions {
  readonly binary: string;
  readonly domid: number;
  readonly name: string;
  /** The guest's RAM: the domain's memory less the video memory. */
  readonly memoryMiB: number;
  /** An empty directory of this run's own. */
  readonly directory: string;
  /** LD_PRELOAD, POSTERN_HOST, XENSTORED_PATH. */
  readonly environment: Readonly<Record<string, string>>;
  /** Where QEMU's own messages go. */
  readonly onMessage: (text: string) => void;
  /** Gives the start-up up. */
  readonly signal?: AbortSignal;
}

export interface QemuProcess extends DeviceModelProcess {
  readonly qmp: QmpClient;
}

/** @returns the first installed Xen QEMU, `POSTERN_QEMU` before all others */
export async function findQemu(): Promise<string | undefined> {
  const candidates = process.env.POSTERN_QEMU ? [process.env.POSTERN_QEMU] : CANDIDATES;
  for (const path of candidates) {
    try {
      await access(path, constants.X_OK);
      return path;
    } catch {
      // not this one
    }
  }
  return undefined;
}

/** Video memory, which libxl takes off the domain's memory: the device model populates it. */
export const VIDEO_MIB = 16;

export function qemuArguments(options: QemuOptions, socket: string, uid: number | undefined): string[] {
  const { domid, directory, name, memoryMiB } = options;
  const chardev = (id: string, path: string) => ['-chardev', `socket,id=${id},path=${path},server=on,wait=off`];
  const mon = (id: string) => ['-mon', `chardev=${id},mode=control`];
  return [
    ...['-xen-domid', String(domid), '-no-shutdown', ...chardev('libxl-cmd', socket), '-S', ...mon('libxl-cmd')],
    ...[...chardev('libxenstat-cmd', join(directory, 'qmp-libxenstat')), ...mon('libxenstat-cmd')],
    ...['-nodefaults', '-no-user-config', '-name', name, '-vnc', 'none', '-display', 'none', '-serial', 'pty'],
    ...['-device', `VGA,vgamem_mb=${VIDEO_MIB}`, '-boot', 'order=c', '-net', 'none', '-xen-domid-restrict'],
    ...(uid === undefined ? [] : ['-chroot', join(directory, 'root')]),
    ...['-machine', 'xenfv,suppress-vmdesc=on,max-ram-below-4g=4026531840', '-m', String(memoryMiB)],
    ...(uid === undefined ? [] : ['-runas', `${uid}:${uid}`]),
  ];
}

/**
 * Starts QEMU and waits until it answers on QMP, restricted, and has been told to go on.
 * @throws Error with what QEMU said where it does not come up
 */
export async function startQemu(options: QemuOptions): Promise<QemuProcess> {
  const uid = uidFor(options.domid);
  const socket = join(options.directory, 'qmp-libxl');
  await mkdir(join(options.directory, 'root'), { recursive: true });
  const child = spawn(options.binary, qemuArguments(options, socket, uid), {
    env: environmentOf(options),
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = lastWords([child.stdout, child.stderr], options.onMessage);
  const ended = endOf(child);
  const giveUp = () => child.kill('SIGKILL');
  options.signal?.addEventListener('abort', giveUp);
  try {
    const qmp = await connectQmp(socket, ended);
    await qmp.execute('cont');
    return {
      kind: 'qemu',
      pid: child.pid as number,
      uid: uid ?? (process.getuid?.() as number),
      ended,
      qmp,
      stop: () => stopQemu(child, qmp, ended),
    };
  } catch (error) {
    const why = await Promise.race([ended, undefined]).then((how) => (how ? `it ${how}` : (error as Error).message));
    child.kill('SIGKILL');
    await ended; // nothing of it is left when the caller hears of it
    throw new Error(`${options.binary} did not come up: ${why}\n${said()}`);
  } finally {
    options.signal?.removeEventListener('abort', giveUp);
  }
}

function environmentOf({ environment, domid }: QemuOptions): Record<string, string> {
  const path = process.env.PATH ?? '/usr/bin:/bin';
  return { PATH: path, ...environment, POSTERN_EXIT_WITH_HOST: '1', XEN_DOMAIN_ID: String(domid) };
}

/** QEMU's socket appears when its start-up is done with it; restriction comes before the main loop answers on it. */
async function connectQmp(path: string, ended: Promise<string>): Promise<QmpClient> {
  const deadline = Date.now() + START_TIMEOUT_MS;
  let end: string | undefined;
  void ended.then((how) => {
    end = how;
  });
  for (;;) {
    if (end !== undefined) throw new Error(`it ${end}`);
    try {
      return await QmpClient.connect(path);
    } catch (error) {
      if (!(error instanceof QmpError) || Date.now() > deadline) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

async function stopQemu(child: ChildProcess, qmp: QmpClient, ended: Promise<string>): Promise<void> {
  await stopProcess(child, ended, () => qmp.execute('quit').catch(() => child.kill('SIGTERM')));
  qmp.close();
}
