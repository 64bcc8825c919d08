/** IndexSet against a plain sorted set. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { IndexSet } from '../../dist/hypervisor/index-set.js';

type Step = { kind: 'toggle' | 'lowestFrom' | 'take' | 'grow'; at: number };

const steps = fc.array(
  fc.record({
    kind: fc.constantFrom<Step['kind']>('toggle', 'toggle', 'lowestFrom', 'take', 'grow'),
    at: fc.nat(3000),
  }),
  { maxLength: 120 },
);

test('IndexSet does what a sorted set does', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 2000 }), fc.constantFrom('full', 'empty'), steps, (size, start, list) => {
      const set = new IndexSet(size, start as 'full' | 'empty');
      const model = new Set(start === 'full' ? Array.from({ length: size }, (_, i) => i) : []);
      let limit = size;
      const lowest = (from: number) => {
        let found = -1;
        for (const i of model) if (i >= from && (found < 0 || i < found)) found = i;
        return found;
      };
      for (const { kind, at } of list) {
        if (kind === 'grow') {
          for (let i = limit; i < at; i++) model.add(i);
          limit = Math.max(limit, at);
          set.growFull(at);
        } else if (kind === 'lowestFrom') {
          expect(set.lowestFrom(at)).toBe(lowest(at));
        } else if (kind === 'take') {
          const expected = lowest(0);
          expect(set.takeLowest()).toBe(expected);
          model.delete(expected);
        } else if (at >= limit) {
          expect(set.has(at)).toBe(false);
          expect(() => set.add(at)).toThrow();
          expect(() => set.delete(at)).toThrow();
        } else if (model.delete(at)) {
          set.delete(at);
          expect(() => set.delete(at)).toThrow();
        } else {
          model.add(at);
          set.add(at);
          expect(() => set.add(at)).toThrow();
        }
        expect([set.count, set.limit, set.has(at)]).toEqual([model.size, limit, model.has(at)]);
      }
      const members: number[] = [];
      for (let at = set.lowestFrom(0); at >= 0; at = set.lowestFrom(at + 1)) members.push(at);
      expect(members).toEqual([...model].sort((a, b) => a - b));
    }),
    { numRuns: 100 },
  );
});
