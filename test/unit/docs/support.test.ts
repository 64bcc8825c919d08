/**
 * docs/SUPPORT.md is what the dispatch tables and the conformance exceptions say. `UPDATE_DOCS=1 npx vitest run
 * test/unit/docs` writes it.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { supportMarkdown } from '../../../dist/cli/support-matrix.js';
import { EXCEPTIONS } from '../../conformance/exceptions.js';

const FILE = new URL('../../../docs/SUPPORT.md', import.meta.url);

test('docs/SUPPORT.md is up to date', () => {
  const text = supportMarkdown(EXCEPTIONS);
  if (process.env.UPDATE_DOCS) writeFileSync(FILE, text);
  expect(readFileSync(FILE, 'utf8')).toBe(text);
});
