/** Building the interposition library: once, whole or not at all, and with an answer for machines without a compiler. */
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { nativeLibrary, UserError } from '../../../dist/host/native-library.js';

let folder: string;
let cache: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'postern-library-'));
  cache = join(folder, 'cache');
  vi.stubEnv('XDG_CACHE_HOME', cache);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

/** A compiler that notes each run, with `body` to do after it has written its output. */
function compiler(name: string, body = ''): string {
  const path = join(folder, name);
  const script = `#!/bin/sh
echo run >> '${folder}/runs'
while [ $# -gt 0 ]; do [ "$1" = -o ] && printf '%s' 'made by ${name}' > "$2"; shift; done
${body}
`;
  writeFileSync(path, script);
  chmodSync(path, 0o755);
  vi.stubEnv('CC', path);
  return path;
}

const nrRuns = () => readFileSync(join(folder, 'runs'), 'utf8').split('\n').length - 1;
const kept = () => readdirSync(join(cache, 'postern'));

it('says what to install where there is no compiler', async () => {
  vi.stubEnv('CC', '/nonexistent/cc');
  const error = await nativeLibrary().catch((caught: Error) => caught);
  expect(error).toBeInstanceOf(UserError);
  expect((error as Error).message).toMatch(/'\/nonexistent\/cc' was not found.*apt-get install gcc libc6-dev.*CC/s);
  expect(kept()).toEqual([]);
});

it('passes on what a compiler that fails says, and keeps nothing', async () => {
  const path = compiler('broken', 'echo "postern.c:1: what is this?" >&2; exit 1');
  const error = await nativeLibrary().catch((caught: Error) => caught);
  expect(error).toBeInstanceOf(UserError);
  expect((error as Error).message).toMatch(/could not build .*:\npostern.c:1: what is this\?\n$/);
  expect((error as Error).message).toContain(path);
  expect(kept()).toEqual([]);
});

it('builds once, and keeps one library for each compiler', async () => {
  compiler('one');
  const library = await nativeLibrary();
  expect([await nativeLibrary(), readFileSync(library, 'utf8'), nrRuns()]).toEqual([library, 'made by one', 1]);
  compiler('two');
  const other = await nativeLibrary();
  expect(readFileSync(other, 'utf8')).toBe('made by two');
  expect(kept().sort()).toEqual([library, other].map((path) => path.slice(path.lastIndexOf('/') + 1)).sort());
});

it('can be asked for twice at once', async () => {
  compiler('slow', 'sleep 0.1');
  const [one, two] = await Promise.all([nativeLibrary(), nativeLibrary()]);
  expect([two, readFileSync(one, 'utf8'), kept().length]).toEqual([one, 'made by slow', 1]);
});
