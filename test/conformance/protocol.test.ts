/** The connection protocol is declared twice, in C and in TypeScript: the compiler says whether they are the same. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import * as protocol from '../../dist/host/protocol.js';
import { buildFolder, compileOnly } from '../support/compile-c.js';
import { requires } from '../support/requires.js';
import { constantAssertion, isStruct, structAssertions } from './header-assertions.js';

const HEADER = fileURLToPath(new URL('../../native/protocol.h', import.meta.url));
const needs = requires({ commands: ['cc'], packages: ['gcc', 'libc6-dev'] });

function assertions(): string[] {
  return Object.entries(protocol).flatMap(([name, value]) => {
    if (isStruct(value)) return structAssertions(value);
    return name.startsWith('POSTERN_') ? [constantAssertion(name, value as number)] : [];
  });
}

function compile(name: string, lines: readonly string[]) {
  const file = join(buildFolder(), name);
  writeFileSync(file, [`#include "${HEADER}"`, ...lines, ''].join('\n'));
  return compileOnly(file);
}

describe.skipIf(!needs.ok)(needs.named('native/protocol.h'), () => {
  it('says the same as src/host/protocol.ts', () => {
    const lines = assertions();
    expect(lines.length).toBeGreaterThan(50);
    expect(compile('protocol.c', lines)).toMatchObject({ ok: true, messages: '' });
  });

  it('would fail if it did not', () => {
    expect(compile('wrong.c', [constantAssertion('POSTERN_HELLO', 99)]).ok).toBe(false);
  });
});
