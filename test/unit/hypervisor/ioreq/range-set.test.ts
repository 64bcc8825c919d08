import { describe, expect, test } from 'vitest';
import { RangeSet } from '../../../../dist/hypervisor/ioreq/range-set.js';
import { verdictOf } from '../../../support/dm-op.js';

function setOf(limit: number, ...ranges: [bigint, bigint][]): RangeSet {
  const set = new RangeSet(limit);
  for (const [start, end] of ranges) set.add(start, end);
  return set;
}

const list = (set: RangeSet) => [...set].map(({ start, end }) => [start, end]);

describe('adding', () => {
  test.each<[string, [bigint, bigint][], [bigint, bigint][]]>([
    [
      'apart',
      [
        [10n, 20n],
        [30n, 40n],
        [1n, 2n],
      ],
      [
        [1n, 2n],
        [10n, 20n],
        [30n, 40n],
      ],
    ],
    [
      'touching below',
      [
        [10n, 20n],
        [21n, 25n],
      ],
      [[10n, 25n]],
    ],
    [
      'touching above',
      [
        [10n, 20n],
        [5n, 9n],
      ],
      [[5n, 20n]],
    ],
    [
      'filling a gap',
      [
        [10n, 20n],
        [22n, 30n],
        [21n, 21n],
      ],
      [[10n, 30n]],
    ],
  ])('%s', (_, ranges, expected) => {
    expect(list(setOf(8, ...ranges))).toEqual(expected);
  });

  test('a full set takes what touches its lower neighbour and nothing else', () => {
    const set = setOf(2, [10n, 20n], [30n, 40n]);
    expect(verdictOf(() => set.add(50n, 50n))).toBe('ENOMEM');
    expect(verdictOf(() => set.add(29n, 29n))).toBe('ENOMEM');
    expect(verdictOf(() => set.add(41n, 45n))).toBe('OK');
    expect(verdictOf(() => set.add(21n, 29n))).toBe('OK');
    expect(list(set)).toEqual([[10n, 45n]]);
  });

  test.each([
    [20n, 21n],
    [5n, 10n],
    [12n, 13n],
    [5n, 25n],
  ])('%i to %i, which overlaps', (start, end) => {
    const set = setOf(2, [10n, 20n]);
    expect(set.add(start, end)).toBe(false);
    expect(list(set)).toEqual([[10n, 20n]]);
  });
});

describe('removing', () => {
  test.each<[string, bigint, bigint, [bigint, bigint][]]>([
    ['all of it', 10n, 20n, []],
    ['the start', 10n, 12n, [[13n, 20n]]],
    ['the end', 15n, 20n, [[10n, 14n]]],
    [
      'the middle',
      12n,
      15n,
      [
        [10n, 11n],
        [16n, 20n],
      ],
    ],
  ])('%s', (_, start, end, expected) => {
    const set = setOf(4, [10n, 20n]);
    set.remove(start, end);
    expect(list(set)).toEqual(expected);
  });

  test('a full set cannot be split', () => {
    const set = setOf(1, [10n, 20n]);
    expect(verdictOf(() => set.remove(15n, 15n))).toBe('ENOMEM');
    expect(list(set)).toEqual([[10n, 20n]]);
  });

  test.each([
    [20n, 21n],
    [9n, 10n],
    [21n, 22n],
    [0n, 5n],
  ])('%i to %i, which is not all there', (start, end) => {
    const set = setOf(2, [10n, 20n]);
    expect(set.remove(start, end)).toBe(false);
    expect(list(set)).toEqual([[10n, 20n]]);
  });
});

describe('asking', () => {
  const set = setOf(4, [10n, 20n], [30n, 40n]);
  test.each([
    [10n, 20n, true],
    [15n, 15n, true],
    [9n, 10n, false],
    [20n, 30n, false],
    [21n, 29n, false],
    [0n, 9n, false],
    [41n, 50n, false],
    [0n, 50n, false],
  ])('%i to %i', (start, end, contains) => {
    expect(set.contains(start, end)).toBe(contains);
  });
});
