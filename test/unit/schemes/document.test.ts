/** docs/design/dm-op.md: its tables are what the audit says now. `postern audit --write-doc` brings them up to date. */
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { ATTACKS, audit, documentParts, PROPOSALS, partOf, replacePart } from '../../../dist/schemes/index.js';

const file = (path: string) => readFileSync(new URL(`../../../${path}`, import.meta.url), 'utf8');
const text = file('docs/design/dm-op.md');

const report = audit({ seed: 1, proposals: PROPOSALS, attacks: ATTACKS, nowNs: () => 0, readSource: file });

test.each(Object.entries(documentParts(report)).filter(([name]) => name !== 'cost'))(
  '%s is not stale',
  (name, content) => {
    expect(partOf(text, name)).toBe(content);
  },
);

test('the costs are of the proposals there are', () => {
  const rows = partOf(text, 'cost').split('\n').slice(2);
  expect(rows.map((row) => row.replace(/\*\*|^\| \d\. |^\| \*\*\d\. | \|.*$/g, ''))).toEqual(
    PROPOSALS.map(({ name }) => name),
  );
  for (const row of rows) expect(Number(row.split('|')[2])).toBeGreaterThan(100);
});

test('every proposal has a section in the order of the tables, and every attack the text names exists', () => {
  const sections = [...text.matchAll(/^### (\d)\. /gm)].map((match) => Number(match[1]));
  expect(sections).toEqual(PROPOSALS.map((_, i) => i + 1));
  const known = new Set([...ATTACKS.map(({ id }) => id), 'stale-*']);
  for (const [, name] of text.matchAll(/\(`([a-z]+-[a-z*-]+)`\)/g)) expect(known).toContain(name);
});

test('a part is replaced between its markers, and a document without them is refused', () => {
  expect(replacePart('a\n<!-- generated: x: begin -->\nold\n<!-- generated: x: end -->\nb', 'x', 'new')).toBe(
    'a\n<!-- generated: x: begin -->\nnew\n<!-- generated: x: end -->\nb',
  );
  expect(() => replacePart('a', 'x', 'new')).toThrow(/no markers/);
});
