/** Policies: what is wrong with one is said, and where; what is right means what it says. */
import { describe, expect, it } from 'vitest';

import { BoundPolicy } from '../../../../dist/xenstore/gate/bound-policy.js';
import { BUILTIN_POLICIES, builtinPolicy } from '../../../../dist/xenstore/gate/builtin.js';
import { explainPath } from '../../../../dist/xenstore/gate/explain.js';
import { patternProblem } from '../../../../dist/xenstore/gate/pattern.js';
import { checkPolicy, LIMITS, type Policy, PolicyError } from '../../../../dist/xenstore/gate/policy.js';
import { Rate } from '../../../../dist/xenstore/gate/rate.js';
import { rightName, rightNames } from '../../../../dist/xenstore/gate/rights.js';

const GRANT = { paths: ['/a'], rights: ['read'] };
const grants = (grant: object) => ({ name: 'p', grants: [{ ...GRANT, ...grant }] });

describe('a policy', () => {
  const WRONG: [string, unknown, string][] = [
    ['no object', 7, 'an object is needed'],
    ['a list', [], 'an object is needed'],
    ['no name', { grants: [] }, 'name: a text is needed'],
    ['no grants', { name: 'p' }, 'grants: a list is needed'],
    [
      'an unknown key',
      { name: 'p', grants: [], grant: [] },
      'there is no key "grant" here; there are name, description, home, grants, introduced, limits',
    ],
    [
      'an unknown key of a rule',
      grants({ path: '/x' }),
      'grants[0]: there is no key "path" here; there are why, paths, rights, permissions',
    ],
    [
      'an unknown right',
      grants({ rights: ['read', 'raed'] }),
      'grants[0].rights[1]: there is no right "raed"; there are read, list, write, create, remove, perms, watch',
    ],
    ['no right', grants({ rights: [] }), 'grants[0].rights: no right is granted'],
    ['no path', grants({ paths: [] }), 'grants[0].paths: no path is named'],
    [
      'a path that is none',
      grants({ paths: ['/a', 'b'] }),
      'grants[0].paths[1]: "b" must begin with / (or @ for a special watch)',
    ],
    ['no text for a path', grants({ paths: [7] }), 'grants[0].paths[0]: a text is needed'],
    [
      'perms without lists',
      grants({ rights: ['perms'] }),
      'grants[0].permissions: the right perms needs the lists that may be set, or "any"',
    ],
    [
      'lists without perms',
      grants({ permissions: [['n0']] }),
      'grants[0].permissions: without the right perms this has no meaning',
    ],
    [
      'a list without an owner',
      grants({ rights: ['perms'], permissions: [[]] }),
      'grants[0].permissions[0]: an owner is needed',
    ],
    [
      'a strange permission',
      grants({ rights: ['perms'], permissions: [['n0', 'x1']] }),
      'grants[0].permissions[0][1]: "x1" is none of n, r, w, b with a domain, such as "r{domid}"',
    ],
    [
      'another right on a special watch',
      grants({ paths: ['@releaseDomain'] }),
      'grants[0].rights: a special watch (@releaseDomain) has no right but watch',
    ],
    [
      'a home with a pattern',
      { name: 'p', home: '/a/*', grants: [] },
      'home: "/a/*" must be one path, without patterns',
    ],
    [
      'a limit below zero',
      { name: 'p', grants: [], limits: { watches: -1 } },
      'limits.watches: a whole number is needed, 0 for no limit; it is -1',
    ],
    [
      'a limit that is no number',
      { name: 'p', grants: [], limits: { watches: '1' } },
      'limits.watches: a whole number is needed, 0 for no limit; it is "1"',
    ],
    [
      'an unknown limit',
      { name: 'p', grants: [], limits: { watch: 1 } },
      `limits: there is no key "watch" here; there are ${Object.keys(LIMITS).join(', ')}`,
    ],
    [
      'a strange domain',
      { name: 'p', grants: [], introduced: ['{x}'] },
      'introduced[0]: a number, "{domid}" or "{dm}" is needed',
    ],
    ['too much', { name: 'p', grants: new Array(1001).fill(GRANT) }, 'grants: has more than 1000 entries'],
  ];

  it.each(WRONG)('with %s is refused', (_, value, message) => {
    expect(() => checkPolicy(value)).toThrow(new PolicyError(message));
  });

  it.each(BUILTIN_POLICIES.map((policy) => [policy.name, policy] as const))(
    '%s can be printed and read again',
    (_, policy) => {
      expect(checkPolicy(JSON.parse(JSON.stringify(policy)))).toEqual(policy);
    },
  );

  it('has the limits that it does not name', () => {
    const { limits } = checkPolicy({ name: 'p', grants: [], limits: { watches: 3 } });
    expect(limits).toEqual({ ...Object.fromEntries(Object.entries(LIMITS).map(([k, [n]]) => [k, n])), watches: 3 });
  });
});

describe('a pattern', () => {
  const PATTERNS: [string, string | undefined][] = [
    ['/', undefined],
    ['/a/b-c_d@1', undefined],
    ['/a/*/b', undefined],
    ['/**', undefined],
    ['/a/**', undefined],
    ['/local/domain/{domid}/x', undefined],
    ['/a/x{domid}-{dm}', undefined],
    ['@introduceDomain', undefined],
    ['@releaseDomain/{domid}', undefined],
    ['', 'must begin with / (or @ for a special watch)'],
    ['a', 'must begin with / (or @ for a special watch)'],
    ['/a/', 'ends in /'],
    ['//a', 'has an empty name (//)'],
    ['/a//b', 'has an empty name (//)'],
    ['/a/**/b', 'has ** before its end'],
    ['/a/b*', 'has a * inside a name ("b*"): it stands for a whole one'],
    ['/a/***', 'has a * inside a name ("***"): it stands for a whole one'],
    ['/a/b.c', 'has a character that no path has ("b.c")'],
    ['/a/{x}', 'has an unknown parameter {x}: there are {domid} and {dm}'],
    ['/a/{domid', 'has a brace without its other'],
    ['@other', 'is no special watch: there are @introduceDomain, @releaseDomain[/<domid>]'],
    ['@releaseDomain/*', 'is no special watch: there are @introduceDomain, @releaseDomain[/<domid>]'],
    [`/${'a'.repeat(2048)}`, 'is longer than 2048 characters'],
  ];

  it.each(PATTERNS)('%s', (pattern, problem) => {
    expect(patternProblem(pattern)).toBe(problem);
  });
});

describe('an explanation', () => {
  const policy = new BoundPolicy(builtinPolicy('device-model') as Policy, { domid: 7, dm: 3 });
  const granted = (path: string) =>
    explainPath(policy, path)?.rights.flatMap(({ right, by }) => by.map(({ pattern }) => `${right} by ${pattern}`));

  it('says by which rule', () => {
    expect(granted('backend/console/7')).toEqual([
      'list by /local/domain/{dm}/backend/console/{domid}',
      'watch by /local/domain/{dm}/backend/console/{domid}',
    ]);
    expect(granted('/local/domain/3/device-model/7/backends/vkbd')).toEqual([
      'create by /local/domain/{dm}/device-model/{domid}/backends/vkbd',
      'perms by /local/domain/{dm}/device-model/{domid}/backends/vkbd',
    ]);
    expect(granted('/local/domain/0/backend/console/7')).toEqual([]);
    expect(granted('/')).toEqual([]);
  });

  it('says what no policy grants, and which permissions one does', () => {
    const explanation = explainPath(policy, 'device-model/7/backends/vkbd');
    expect(explanation?.never).toEqual([
      'CONTROL',
      'INTRODUCE',
      'RELEASE',
      'RESUME',
      'SET_TARGET',
      'RESTRICT',
      'GET_FEATURE',
      'SET_FEATURE',
      'GET_QUOTA',
      'SET_QUOTA',
    ]);
    expect(explanation?.rights.find(({ right }) => right === 'perms')?.by[0]?.permissions).toEqual(['n3 n7']);
    expect(explainPath(policy, '//x')).toBe(undefined);
    expect(explainPath(policy, '/ä')).toBe(undefined);
  });
});

describe('a rate', () => {
  it('has a second in store, and fills with time', () => {
    let now = 0;
    const rate = new Rate(10, () => now);
    const take = (n: number) => Array.from({ length: n }, () => rate.take()).filter(Boolean).length;
    expect(take(20)).toBe(10);
    expect(rate.nextMs()).toBeCloseTo(100);
    now = 99;
    expect(take(1)).toBe(0);
    now = 100;
    expect(take(2)).toBe(1);
    now = 100_000;
    expect(take(20)).toBe(10);
  });

  it('of 0 is none', () => {
    const rate = new Rate(0, () => 0);
    expect(Array.from({ length: 100 }, () => rate.take()).every(Boolean)).toBe(true);
  });
});

describe('rights', () => {
  it('have names', () => {
    expect(rightNames(1 | 4 | 64)).toEqual(['read', 'write', 'watch']);
    expect(rightName(8)).toBe('create');
    expect(() => rightName(0)).toThrow();
  });
});
