/** Option values: what is taken, what is refused, and the domains they come to. */
import { InvalidArgumentError } from 'commander';
import { describe, expect, it } from 'vitest';
import { integer, planDomains, seconds, vcpuList } from '../../../dist/cli/options.js';

const outcome = <T>(parse: (text: string) => T, text: string): T | 'refused' => {
  try {
    return parse(text);
  } catch (error) {
    if (error instanceof InvalidArgumentError) return 'refused';
    throw error;
  }
};

describe('a whole number', () => {
  it.each<[string, number | 'refused']>([
    ['0', 0],
    ['7', 7],
    ['007', 7],
    ['1000', 1000],
    ['1001', 'refused'],
    ['-1', 'refused'],
    ['', 'refused'],
    [' ', 'refused'],
    ['1.5', 'refused'],
    ['1e2', 'refused'],
    ['0x10', 'refused'],
    ['7 ', 'refused'],
    ['NaN', 'refused'],
    ['Infinity', 'refused'],
    ['99999999999999999999', 'refused'],
    ['seven', 'refused'],
  ])('%j: %s', (text, result) => expect(outcome(integer(0, 1000), text)).toBe(result));

  it('says what would do', () => {
    expect(() => integer(1, 128)('0')).toThrow('a whole number from 1 to 128 is needed.');
    expect([outcome(integer(1, 128), '1'), outcome(integer(1, 128), '128')]).toEqual([1, 128]);
  });
});

it.each<[string, number[] | 'refused']>([
  ['1', [1]],
  ['2,1', [2, 1]],
  ['128,1,4', [128, 1, 4]],
  ['0', 'refused'],
  ['129', 'refused'],
  ['', 'refused'],
  ['2,', 'refused'],
  ['2,,1', 'refused'],
  ['2;1', 'refused'],
])('vCPUs %j: %j', (text, result) => expect(outcome(vcpuList, text)).toEqual(result));

it.each<[string, number | 'refused']>([
  ['1', 1],
  ['0.25', 0.25],
  ['2147483', 2147483],
  ['2147484', 'refused'], // more milliseconds than a timer counts: it would end at once
  ['Infinity', 'refused'],
  ['0', 'refused'],
  ['-1', 'refused'],
  ['', 'refused'],
  ['soon', 'refused'],
])('seconds %j: %s', (text, result) => expect(outcome(seconds, text)).toBe(result));

describe('planned domains', () => {
  it('are HVM ones first, then PV ones, each with its vCPUs', () => {
    expect(planDomains({ domains: 3, memory: 64, vcpus: [4, 2], pv: 1 })).toEqual([
      { kind: 'hvm', memoryMiB: 64, vcpus: 4 },
      { kind: 'hvm', memoryMiB: 64, vcpus: 2 },
      { kind: 'hvm', memoryMiB: 64, vcpus: 2 },
      { kind: 'pv', memoryMiB: 64, vcpus: 1 },
    ]);
  });

  it('can be none', () => expect(planDomains({ domains: 0, memory: 64, vcpus: [1] })).toEqual([]));

  it('can be PV ones alone', () => {
    expect(planDomains({ domains: 0, memory: 8, vcpus: [4], pv: 2 }).map((plan) => [plan.kind, plan.vcpus])).toEqual([
      ['pv', 1],
      ['pv', 1],
    ]);
  });
});
