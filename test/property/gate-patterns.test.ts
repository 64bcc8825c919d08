/**
 * The tree of patterns against the plain reading of a pattern: for any policy and any path the same rights, the same
 * answer about children, and the same about what may not be made above.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { BoundPolicy } from '../../dist/xenstore/gate/bound-policy.js';
import { matches, patternProblem } from '../../dist/xenstore/gate/pattern.js';
import { checkPolicy } from '../../dist/xenstore/gate/policy.js';
import { RIGHT_NAMES, RIGHTS, rightNames } from '../../dist/xenstore/gate/rights.js';
import { Path } from '../../dist/xenstore/path.js';
import { oracleOf } from '../fuzz/gate-oracle.js';

const NUMBERS = { domid: 5, dm: 0 };

const name = fc.constantFrom('a', 'b', 'ab', '5', '0', '@x');
const path = fc.array(name, { maxLength: 5 }).map((names) => `/${names.join('/')}`);
const pattern = fc
  .tuple(fc.array(fc.oneof(name, fc.constantFrom('*', '{domid}', 'a{dm}')), { maxLength: 4 }), fc.boolean())
  .map(([names, deep]) => `/${[...names, ...(deep ? ['**'] : [])].join('/')}`);
const grant = fc.record({
  paths: fc.array(pattern, { minLength: 1, maxLength: 3 }),
  rights: fc.subarray(RIGHT_NAMES.filter((right) => right !== 'perms') as string[], { minLength: 1 }),
});
const policy = fc.array(grant, { maxLength: 6 }).map((grants) => checkPolicy({ name: 'p', grants }));

function parsed(text: string): Path {
  const result = new Path(0x5eed);
  const bytes = Buffer.from(text, 'latin1');
  expect(result.parse(bytes, 0, bytes.length, Buffer.from('/home'), 2048)).toBe(true);
  return result;
}

describe('patterns', () => {
  it('generated here are sound', () => {
    fc.assert(fc.property(pattern, (text) => patternProblem(text) === undefined));
  });

  it('match as their regular expressions do', () => {
    fc.assert(
      fc.property(pattern, path, (text, where) => {
        const one = checkPolicy({ name: 'p', grants: [{ paths: [text], rights: ['read'] }] });
        const filled = text.replaceAll('{domid}', '5').replaceAll('{dm}', '0');
        expect(matches(filled, where)).toBe(oracleOf(one, NUMBERS).rights(where).has('read'));
      }),
      { numRuns: 2000 },
    );
  });

  it('grant the same through the tree, again and again', () => {
    fc.assert(
      fc.property(policy, fc.array(path, { minLength: 1, maxLength: 8 }), (rules, paths) => {
        const bound = new BoundPolicy(rules, NUMBERS);
        const oracle = oracleOf(rules, NUMBERS);
        for (const where of [...paths, ...paths]) {
          const decision = bound.decide(parsed(where));
          expect(new Set<string>(rightNames(decision.rights))).toEqual(oracle.rights(where));
          expect(new Set<string>(bound.explain(where).flatMap(({ rights }) => rights))).toEqual(oracle.rights(where));
        }
      }),
      { numRuns: 1000 },
    );
  });

  it('show the children that they lead to', () => {
    fc.assert(
      fc.property(policy, path, name, (rules, where, child) => {
        const bound = new BoundPolicy(rules, NUMBERS);
        const bytes = Buffer.from(child);
        const shown = bound.childrenOf(parsed(where)).shows(bytes, 0, bytes.length);
        const full = where === '/' ? `/${child}` : `${where}/${child}`;
        expect(shown).toBe(oracleOf(rules, NUMBERS).mayList(full));
        if (bound.decide(parsed(where)).showsAll) expect(shown).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });

  it('name the nearest node above that may not be made', () => {
    fc.assert(
      fc.property(policy, path, (rules, where) => {
        const { guard } = new BoundPolicy(rules, NUMBERS).decide(parsed(where));
        const oracle = oracleOf(rules, NUMBERS);
        const names = where === '/' ? [] : where.slice(1).split('/');
        let above = names.slice(0, -1);
        while (above.length > 0 && oracle.rights(`/${above.join('/')}`).has('create')) above = above.slice(0, -1);
        expect(guard).toBe(above.length === 0 ? 0 : `/${above.join('/')}`.length);
      }),
      { numRuns: 2000 },
    );
  });

  it('say whether there is something below to be known of', () => {
    fc.assert(
      fc.property(policy, path, path, (rules, where, more) => {
        const below = `${where === '/' ? '' : where}${more}`;
        if (more === '/' || !oracleOf(rules, NUMBERS).mayKnow(below)) return;
        expect(new BoundPolicy(rules, NUMBERS).decide(parsed(where)).leadsOn).toBe(true);
      }),
      { numRuns: 3000 },
    );
  });

  it('have one bit a right', () => {
    const bits = RIGHT_NAMES.map((right) => RIGHTS[right][0] as number);
    expect(bits.reduce((sum, bit) => sum | bit, 0)).toBe(2 ** bits.length - 1);
  });
});
