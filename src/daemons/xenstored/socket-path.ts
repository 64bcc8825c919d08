/** Where the daemon's socket is, and making sure that nobody else's is there. */
import { lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import { dirname } from 'node:path';
import { ERRNO } from '../../abi/errno.js';
import { libc, SOCK_STREAM, SystemError } from '../../host/libc.js';
import { UserError } from '../../host/native-library.js';
import { connectUnix } from '../../host/unix-socket.js';

const RUN_DIRECTORY = '/run/xenstored';

/** Where libxenstore looks. */
export function defaultSocketPath(environment: NodeJS.ProcessEnv): string {
  return environment.XENSTORED_PATH ?? `${environment.XENSTORED_RUNDIR ?? RUN_DIRECTORY}/socket`;
}

/** Lets a socket be made there: removes one that a killed daemon has left. @throws UserError where one is in use */
export function clearSocketPath(path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket()) throw new UserError(`${path} is there and is no socket`);
  try {
    libc.close(connectUnix(path, SOCK_STREAM));
  } catch (error) {
    if (!(error instanceof SystemError) || error.errno !== ERRNO.ECONNREFUSED) throw error;
    unlinkSync(path);
    return;
  }
  throw new UserError(`a XenStore daemon is running at ${path} already; choose another path with --socket`);
}
