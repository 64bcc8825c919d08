/** P2m against a plain map. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { P2M_GFN_LIMIT, P2M_INVALID, P2m, type P2mType } from '../../dist/hypervisor/p2m.js';

const RAM: P2mType[] = ['ram_rw', 'ram_ro', 'ram_logdirty', 'ioreq_server'];

/** Mostly neighbours, at chunk borders, and far apart. */
const gfns = fc.oneof(
  fc.integer({ min: 0, max: 40 }),
  fc.integer({ min: 500, max: 530 }),
  fc.constantFrom(0xfeff0, 2 ** 32 - 1, 2 ** 32, 2 ** 35 + 511, 2 ** 35 + 512, P2M_GFN_LIMIT - 1),
);

const step = fc.record({
  kind: fc.constantFrom('set', 'set', 'remove', 'change', 'read'),
  gfn: gfns,
  mfn: fc.integer({ min: 1, max: 2 ** 32 - 1 }),
  type: fc.constantFrom(...RAM),
  from: fc.constantFrom<P2mType>(...RAM, 'mmio_dm'),
});

test('P2m does what a map does', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
      const p2m = new P2m();
      const model = new Map<number, { mfn: number; type: P2mType }>();
      let highest = -1;
      for (const { kind, gfn, mfn, type, from } of steps) {
        const entry = model.get(gfn);
        if (kind === 'set') {
          p2m.set(gfn, mfn, type);
          model.set(gfn, { mfn, type });
          highest = Math.max(highest, gfn);
        } else if (kind === 'remove') {
          expect(p2m.remove(gfn)).toBe(entry?.mfn ?? P2M_INVALID);
          model.delete(gfn);
        } else if (kind === 'change') {
          expect(p2m.changeType(gfn, from, type)).toBe(entry?.type === from);
          if (entry?.type === from) entry.type = type;
        }
        const now = model.get(gfn);
        expect([p2m.mfn(gfn), p2m.type(gfn)]).toEqual([now?.mfn ?? P2M_INVALID, now?.type ?? 'mmio_dm']);
        expect([p2m.nrMapped, p2m.maxMappedGfn]).toEqual([model.size, highest]);
      }
      expect([...p2m.mappedGfns()].sort((a, b) => a - b)).toEqual([...model.keys()].sort((a, b) => a - b));
      while (p2m.dropChunk());
      expect([p2m.nrMapped, [...p2m.mappedGfns()], p2m.mfn(0)]).toEqual([0, [], P2M_INVALID]);
    }),
    { numRuns: 300 },
  );
});

test.each([-1, 0.5, P2M_GFN_LIMIT, 2 ** 40, 2 ** 53, Infinity, NaN])('gfn %d is a hole and stays one', (gfn) => {
  const p2m = new P2m();
  p2m.set(0, 1, 'ram_rw');
  expect([p2m.mfn(gfn), p2m.type(gfn), p2m.remove(gfn)]).toEqual([P2M_INVALID, 'mmio_dm', P2M_INVALID]);
  expect(p2m.changeType(gfn, 'mmio_dm', 'ram_rw')).toBe(false);
  expect(() => p2m.set(gfn, 1, 'ram_rw')).toThrow();
});
