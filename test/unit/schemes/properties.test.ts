/** Honest calls, and the properties that the document compares. */
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { costs } from '../../../dist/schemes/cost.js';
import { PLATFORMS, PROPOSALS, type Properties, propertiesOf } from '../../../dist/schemes/index.js';
import { worksHonestly } from '../../../dist/schemes/properties.js';

const readSource = (file: string) => readFileSync(new URL(`../../../${file}`, import.meta.url), 'utf8');
const properties = new Map(PROPOSALS.map((one) => [one.id, propertiesOf(one, 1, readSource)]));
const of = (id: string) => properties.get(id) as Properties;

describe('an honest device model is served', () => {
  test.each(PROPOSALS.map(({ id }) => id))('%s, wherever hypercalls name virtual memory', (id) => {
    const proposal = PROPOSALS.find((one) => one.id === id)!;
    for (const platform of PLATFORMS.filter(({ addressing }) => addressing === 'virtual')) {
      expect(worksHonestly(proposal, platform, 3)).toBe(true);
    }
  });

  test('with physical addressing, by those that translate or never use addresses', () => {
    const ids = [...properties].filter(([, { worksOn }]) => worksOn.includes('physical')).map(([id]) => id);
    expect(ids).toEqual(['op-aware', 'physical-buffers', 'array-minuted', 'array-shipped']);
  });
});

test('only a kernel that knows operations, or special cases, change with a new one', () => {
  const changing = [...properties].filter(([, p]) =>
    p.placesForNewOperation.some((place) => place.startsWith('kernel')),
  );
  expect(changing.map(([id]) => id)).toEqual(['pass-through', 'op-aware', 'special-area']);
  expect(of('array-minuted').placesForNewOperation).toEqual(['hypervisor: the operation']);
  expect(of('array-shipped').placesForNewOperation).toEqual([
    'hypervisor: the operation',
    'hypervisor: room for a third buffer',
  ]);
});

test('the shipped form passes 16 buffers by the kernel and 2 by the hypervisor, as real Xen does', () => {
  expect(of('array-shipped').blocks).toEqual({ kernel: 15, hypervisor: 1 });
  expect(of('array-minuted').blocks).toEqual({ kernel: 'any', hypervisor: 'any' });
});

test('only the arrays open up no more than what a call names', () => {
  expect([...properties].filter(([, p]) => p.boundToCall).map(([id]) => id)).toEqual([
    'array-minuted',
    'array-shipped',
  ]);
});

test('ranges are many where memory is physical', () => {
  const { rangesTold } = of('restriction-array');
  expect(rangesTold['x86-64']).toBe(1);
  expect(rangesTold.physical).toBeGreaterThan(1);
  expect(of('array-shipped').rangesTold).toEqual({ 'x86-32': 0, 'x86-64': 0, physical: 0 });
});

test('lines are counted in the files', () => {
  for (const { lines } of properties.values()) {
    expect(lines.kernel).toBeGreaterThan(5);
    expect(lines.hypervisor).toBeGreaterThan(5);
  }
  expect(propertiesOf(PROPOSALS[0]!, 1, () => undefined).lines).toEqual({ kernel: undefined, hypervisor: undefined });
});

test('the cost of a call is what the clock says', () => {
  let now = 0;
  const found = costs(PROPOSALS, 1, () => {
    now += 4000;
    return now;
  });
  expect([...found.keys()]).toEqual(PROPOSALS.map(({ id }) => id));
  expect([...found.values()].every((ns) => ns === 10)).toBe(true); // 4000 ns for 400 calls
});
