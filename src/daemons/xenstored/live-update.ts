/**
 * Live update: this process becomes the new daemon, by exec. It keeps its process id, its sockets stay open, and the state
 * goes with it as a stream in a memory file. What clients send meanwhile waits in their sockets.
 *
 *     CONTROL live-update -s, or SIGHUP ──▶ dump ──▶ exec ──▶ restore ──▶ replies that waited, the OK among them
 *                                                     └─(fails)──▶ everything goes on here, the reply says why
 */
import { accessSync, constants, fstatSync, readSync, realpathSync, statSync, writeSync } from 'node:fs';
import { errno, F_SETFD, FD_CLOEXEC, libc, MFD_CLOEXEC, SystemError } from '../../host/libc.js';
import { UserError } from '../../host/native-library.js';
import { HANDOVER_VARIABLE, type Program } from './options.js';

/** Why a file can't be the next daemon; null where it can. */
export function checkProgram(file: string): string | null {
  try {
    if (!statSync(file).isFile()) return `${file} is not a file`;
    accessSync(file, isScript(file) ? constants.R_OK : constants.X_OK);
    return null;
  } catch (error) {
    return `${file} can't be run: ${(error as Error).message}`;
  }
}

function isScript(file: string): boolean {
  return /\.m?js$/.test(realpathSync(file));
}

/** The same program again, or another one with its own or other arguments. */
export function commandFor(program: Program, file: string | null, commandLine: string | null): string[] {
  const words = commandLine === null ? program.arguments : commandLine.split(/\s+/).filter((word) => word !== '');
  if (file === null) return [program.node, ...program.nodeArguments, program.script, ...words];
  return isScript(file) ? [program.node, ...program.nodeArguments, file, ...words] : [file, ...words];
}

/**
 * Becomes the next daemon. Does not return, unless it fails.
 * @param keep descriptors that the next one needs
 */
export function becomeNext(command: readonly string[], stream: Uint8Array, keep: readonly number[]): SystemError {
  const [file] = command as [string, ...string[]];
  const memory = libc.memfdCreate('xenstored-handover', MFD_CLOEXEC);
  if (memory < 0) return new SystemError('memfd_create', errno());
  for (let at = 0; at < stream.length; ) at += writeSync(memory, stream, at);
  // Node has marked its standard streams as not to be inherited.
  const files = [0, 1, 2, memory, ...keep];
  for (const fd of files) libc.dup(fd, F_SETFD, 0);
  const environment = { ...process.env, [HANDOVER_VARIABLE]: String(memory) };
  const variables = Object.entries(environment).map(([name, value]) => `${name}=${value}`);
  libc.execve(file, [...command, null], [...variables, null]);
  const error = new SystemError('execve', errno(), file);
  for (const fd of files) libc.dup(fd, F_SETFD, FD_CLOEXEC);
  libc.close(memory);
  return error;
}

/** What the predecessor left. @throws UserError */
export function takeHandover(fd: number): Uint8Array {
  let size: number;
  try {
    size = fstatSync(fd).size;
  } catch {
    throw new UserError(`there is nothing to take over at descriptor ${fd} (${HANDOVER_VARIABLE})`);
  }
  const stream = new Uint8Array(size);
  for (let at = 0, n = 1; n > 0; at += n) n = readSync(fd, stream, at, size - at, at);
  libc.close(fd);
  return stream;
}

/** A descriptor that a predecessor named: a socket, and no longer one for what this process starts. */
export function isSocket(fd: number): boolean {
  try {
    if (fd < 0 || !fstatSync(fd).isSocket()) return false;
  } catch {
    return false;
  }
  return libc.dup(fd, F_SETFD, FD_CLOEXEC) === 0;
}
