/** Starts the built-in device model as a process of its own, restricted. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { type DeviceModelProcess, endOf, lastWords, stopProcess, uidFor } from './device-model-process.js';

export interface BuiltinOptions {
  readonly domid: number;
  readonly socketPath: string;
  readonly directory: string;
  /** Gives the start-up up. */
  readonly signal?: AbortSignal;
}

const PROGRAM = fileURLToPath(new URL('../devices/main.js', import.meta.url));

/** @throws Error with what the process said where it does not become ready */
export async function startBuiltin(options: BuiltinOptions): Promise<DeviceModelProcess> {
  const { domid, socketPath, directory } = options;
  const uid = uidFor(domid);
  const root = join(directory, 'root');
  await mkdir(root, { recursive: true });
  const identity = uid === undefined ? [] : ['--uid', String(uid), '--chroot', root];
  const args = [PROGRAM, '--domid', String(domid), '--host', socketPath, '--restrict', ...identity];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const said = lastWords([child.stderr]);
  const ended = endOf(child);
  const lines = createInterface({ input: child.stdout });
  const giveUp = () => child.kill('SIGKILL');
  options.signal?.addEventListener('abort', giveUp);
  const first = await Promise.race([once(lines, 'line') as Promise<[string]>, ended]);
  options.signal?.removeEventListener('abort', giveUp);
  if (typeof first === 'string') throw new Error(`the built-in device model did not come up: it ${first}\n${said()}`);
  return {
    kind: 'builtin',
    pid: child.pid as number,
    uid: uid ?? (process.getuid?.() as number),
    ended,
    stop: () => stopProcess(child, ended, () => child.kill('SIGTERM')),
  };
}
