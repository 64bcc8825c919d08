/**
 * Compiles the C programs that tests put to the host. Each process has a folder of its own in that of the run
 * (build-folder.ts), which is removed after the last test.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { BUILD_VARIABLE } from './build-folder.js';
import { requires } from './requires.js';

/** A compiler and Xen's public libraries and headers. */
export const cCompiler = requires({
  commands: ['cc'],
  files: ['/usr/include/xenctrl.h', '/usr/include/xendevicemodel.h', '/usr/include/xen/sys/privcmd.h'],
  packages: ['gcc', 'libc6-dev', 'libxen-dev'],
});

/** Xen's libraries, in an order that a linker accepts. */
export const XEN_LIBRARIES = [
  'xenctrl',
  'xendevicemodel',
  'xenforeignmemory',
  'xenevtchn',
  'xengnttab',
  'xencall',
  'xentoolcore',
];

let folder: string | undefined;

/** This process's folder for what it compiles. */
export function buildFolder(): string {
  if (folder === undefined) {
    const ofRun = process.env[BUILD_VARIABLE];
    if (ofRun === undefined) throw new Error(`no ${BUILD_VARIABLE}: build-folder.ts has not been run`);
    folder = mkdtempSync(join(ofRun, 'c-'));
  }
  return folder;
}

export interface CompileResult {
  readonly ok: boolean;
  /** Where the program or object is. */
  readonly path: string;
  /** What the compiler said, warnings included. */
  readonly messages: string;
}

/** Compiles and links one source file with Xen's libraries; a warning is in `messages`, not a failure. */
export function compileProgram(
  source: string,
  name: string,
  libraries: readonly string[] = XEN_LIBRARIES,
): CompileResult {
  const path = join(buildFolder(), name);
  return run([source, '-o', path, ...libraries.map((library) => `-l${library}`), '-lpthread'], path);
}

/** Compiles a library to preload. */
export function compileLibrary(source: string, name: string): CompileResult {
  const path = join(buildFolder(), name);
  return run(['-shared', '-fPIC', source, '-o', path], path);
}

/** Checks a source file without producing anything: for static assertions. */
export function compileOnly(source: string): CompileResult {
  return run(['-fsyntax-only', source], source);
}

/** The macros that a source file sees once its includes are read. */
export function definedMacros(source: string): ReadonlySet<string> {
  const ran = spawnSync('cc', ['-std=gnu11', '-D_GNU_SOURCE', '-E', '-dM', source], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  if (ran.status !== 0) throw new Error(`cc -E failed: ${ran.stderr}`);
  return new Set([...ran.stdout.matchAll(/^#define (\w+)/gm)].map((match) => match[1] as string));
}

function run(args: readonly string[], path: string): CompileResult {
  const ran = spawnSync('cc', ['-std=gnu11', '-D_GNU_SOURCE', '-O1', '-Wall', '-Wextra', ...args], {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    timeout: 60_000,
  });
  return { ok: ran.status === 0, path, messages: ran.stderr ?? '' };
}
