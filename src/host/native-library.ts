/** Builds what is in native/ with the machine's C compiler when it is first needed, and keeps it in the cache. */
import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { access, mkdir, readFile, rename, rm } from 'node:fs/promises';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';

const NATIVE = new URL('../../native/', import.meta.url);
const LIBRARY_SOURCES = ['exports', 'paths', 'files', 'areas', 'ioctls', 'connection', 'user-memory'];
const LIBRARY_FLAGS = ['-O2', '-fPIC', '-shared', '-fvisibility=hidden', '-Wall', '-Wextra'];
const PROGRAM_FLAGS = ['-O2', '-Wall', '-Wextra'];

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
export function nativeLibrary(): Promise<string> {
  const sources = LIBRARY_SOURCES.map((name) => `library/${name}.c`);
  return built([...sources, 'library/library.h', 'protocol.h'], LIBRARY_FLAGS, (hash) => `libpostern-${hash}.so`);
}

/** A program of native/'s, by its source's path there, without the extension. @throws UserError likewise */
export function nativeProgram(source: string): Promise<string> {
  return built([`${source}.c`], PROGRAM_FLAGS, (hash) => `${basename(source)}-${hash}`);
}

/** @param sources the .c files are compiled, the others are part of what the result depends on */
async function built(
  sources: readonly string[],
  flags: readonly string[],
  nameFor: (hash: string) => string,
): Promise<string> {
  const compiler = process.env.CC || 'cc';
  const hash = createHash('sha256').update(compiler).update(flags.join(' '));
  for (const name of sources) hash.update(await readFile(new URL(name, NATIVE)));
  const directory = cacheDirectory();
  const result = join(directory, nameFor(hash.digest('hex').slice(0, 16)));
  try {
    await access(result);
    return result;
  } catch {
    // not built yet
  }
  await mkdir(directory, { recursive: true });
  const compiled = sources.filter((name) => name.endsWith('.c'));
  await build(compiler, flags, compiled, result);
  return result;
}

async function build(
  compiler: string,
  flags: readonly string[],
  names: readonly string[],
  result: string,
): Promise<void> {
  const temporary = `${result}.${randomUUID()}`;
  const sources = names.map((name) => new URL(name, NATIVE).pathname);
  try {
    await promisify(execFile)(compiler, [...flags, '-o', temporary, ...sources, '-ldl', '-lpthread']);
    await rename(temporary, result); // whole or not at all: others may be building it too
  } catch (error) {
    await rm(temporary, { force: true });
    const failure = error as NodeJS.ErrnoException & { stderr?: string };
    if (failure.code === 'ENOENT') {
      throw new UserError(
        `no C compiler: '${compiler}' was not found. Unmodified programs need a small library that is built once; ` +
          'install one (Debian, Ubuntu: apt-get install gcc libc6-dev) or name it in the environment variable CC.',
      );
    }
    throw new UserError(`${compiler} could not build ${basename(result)}:\n${failure.stderr ?? failure.message}`);
  }
}
