/** The support matrix: complete, without contradictions, and printable. */
import { describe, expect, it } from 'vitest';
import { ERRNO } from '../../../dist/abi/errno.js';
import * as dmOp from '../../../dist/abi/xen/dm-op.js';
import { supportMarkdown, supportMatrix } from '../../../dist/cli/support-matrix.js';

const matrix = supportMatrix();

it('has the devices, the hypercalls and XenStore', () => {
  for (const title of ['devices', 'dm_op', 'xenstore']) expect(Object.keys(matrix)).toContain(title);
  expect(matrix.devices?.map((row) => row.name)).toEqual(expect.arrayContaining(['privcmd', 'evtchn', 'gntdev']));
});

it('has every device model operation there is', () => {
  const names = (matrix.dm_op ?? []).map((row) => row.name);
  const flags = ['XEN_DMOP_no_gfns'];
  const defined = Object.keys(dmOp).filter((name) => /^XEN_DMOP_[a-z]/.test(name) && !flags.includes(name));
  expect(defined).toHaveLength(20);
  const missing = defined.filter((name) => !names.some((one) => one === name || `XEN_DMOP_${one}` === name));
  expect(missing).toEqual([]);
});

describe.each(Object.entries(matrix))('%s', (_title, rows) => {
  it('has rows, each once', () => {
    expect(rows.length).toBeGreaterThan(0);
    expect(new Set(rows.map((row) => row.name)).size).toBe(rows.length);
  });

  it.each(rows.map((row) => [row.name, row] as const))('says of %s what a reader has to know', (_name, row) => {
    expect(row.name).toMatch(/^\S+( \S+)*$/);
    expect(['supported', 'partial', 'refused']).toContain(row.status);
    if (row.status !== 'supported') expect(row.note).not.toBe('');
    if (row.errno !== undefined) {
      expect(Object.keys(ERRNO)).toContain(row.errno);
      expect(row.note.startsWith(row.errno)).toBe(true);
    }
  });
});

describe('as a document', () => {
  it('has every row in the table of its title, and counts them', () => {
    const text = supportMarkdown([]);
    for (const [title, rows] of Object.entries(matrix)) {
      const section = text.split(`## ${title}\n`)[1]?.split('\n## ')[0] as string;
      const cells = section.split('\n').filter((line) => line.startsWith('| ') && !line.startsWith('| operation'));
      expect(cells.map((line) => line.split(' | ')[0]?.slice(2))).toEqual(rows.map((row) => row.name));
      expect(section).toContain(`${rows.filter((row) => row.status === 'supported').length} supported`);
    }
  });

  it('keeps what would break a table out of it', () => {
    const odd = { program: 'p', group: 'a|b', call: 'c\td', ours: '-1 EINVAL', reason: 'x | y' };
    expect(supportMarkdown([odd])).toContain('| a\\|b | c d | -1 EINVAL | x \\| y |\n');
  });
});
