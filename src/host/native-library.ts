/** Builds the interposition library with the machine's C compiler when it is first needed, and keeps it in the cache. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { access, mkdir, readFile, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const NATIVE = new URL('../../native/', import.meta.url);
const FLAGS = ['-O2', '-fPIC', '-shared', '-fvisibility=hidden', '-Wall', '-Wextra'];

/** Something the user has to put right; the message says what and how. */
export class UserError extends Error {
  override readonly name = 'UserError';
}

function cacheDirectory(): string {
  return join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'postern');
}

/**
 * @returns the library's path, to be set as LD_PRELOAD
 * @throws UserError where there is no compiler, or it fails
 */
export async function nativeLibrary(): Promise<string> {
  const compiler = process.env.CC || 'cc';
  const sources = await Promise.all(['postern.c', 'protocol.h'].map((name) => readFile(new URL(name, NATIVE))));
  const hash = createHash('sha256').update(compiler).update(FLAGS.join(' '));
  for (const source of sources) hash.update(source);
  const directory = cacheDirectory();
  const library = join(directory, `libpostern-${hash.digest('hex').slice(0, 16)}.so`);
  try {
    await access(library);
    return library;
  } catch {
    // not built yet
  }
  await mkdir(directory, { recursive: true });
  await build(compiler, library);
  return library;
}

async function build(compiler: string, library: string): Promise<void> {
  const temporary = `${library}.${process.pid}`;
  const source = new URL('postern.c', NATIVE).pathname;
  try {
    await promisify(execFile)(compiler, [...FLAGS, '-o', temporary, source, '-ldl', '-lpthread']);
    await rename(temporary, library); // whole or not at all: others may be building it too
  } catch (error) {
    await rm(temporary, { force: true });
    const failure = error as NodeJS.ErrnoException & { stderr?: string };
    if (failure.code === 'ENOENT') {
      throw new UserError(
        `no C compiler: '${compiler}' was not found. Unmodified programs need a small library that is built once; ` +
          'install one (Debian, Ubuntu: apt-get install gcc libc6-dev) or name it in the environment variable CC.',
      );
    }
    throw new UserError(`${compiler} could not build the interposition library:\n${failure.stderr ?? failure.message}`);
  }
}
