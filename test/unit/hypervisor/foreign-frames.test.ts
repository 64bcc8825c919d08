/** Mapping another domain's memory: runs of frames, and an errno for each page that isn't there. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { createHvmDomain, createPvDomain } from '../../../dist/hypervisor/build-domain.js';
import { Toolstack } from '../../support/toolstack.js';

const xen = new Toolstack();
const domain = createHvmDomain(xen.hypervisor, { memoryMiB: 8 });
const calls = xen.hypervisor.callsOfDom0();
const range = (first: number, count: number) => Array.from({ length: count }, (_, i) => BigInt(first + i));

test.each<[string, bigint[], { page: number; nrPages: number }[], { page: number; nrPages: number }[]]>([
  ['nothing', [], [], []],
  ['1 MiB from the start', range(0, 256), [{ page: 0, nrPages: 256 }], []],
  ['the VGA ROM: 16 pages, then holes', range(2032, 256), [{ page: 0, nrPages: 16 }], [{ page: 16, nrPages: 240 }]],
  [
    'backwards',
    [2n, 1n],
    [
      { page: 0, nrPages: 1 },
      { page: 1, nrPages: 1 },
    ],
    [],
  ],
  [
    'one page twice',
    [5n, 5n],
    [
      { page: 0, nrPages: 1 },
      { page: 1, nrPages: 1 },
    ],
    [],
  ],
  [
    'a hole between',
    [5n, 9999n, 6n],
    [
      { page: 0, nrPages: 1 },
      { page: 2, nrPages: 1 },
    ],
    [{ page: 1, nrPages: 1 }],
  ],
  ['no such gfn', [(1n << 64n) - 1n], [], [{ page: 0, nrPages: 1 }]],
])('%s', (_, gfns, runs, errors) => {
  const mapping = calls.foreignFrames(domain.domid, gfns);
  expect(mapping.runs).toMatchObject(runs);
  expect(mapping.runs).toHaveLength(runs.length);
  expect(mapping.errors).toEqual(errors.map((e) => ({ ...e, errno: 22 })));
});

test.each([
  [0n, 1],
  [7n, 1],
  [1n << 41n, 1],
  [(1n << 40n) - 1n, 22],
  [(1n << 64n) - 1n, 22],
])('frame %d, which is not the PV domain’s, is errno %i', (gfn, errno) => {
  const pv = createPvDomain(xen.hypervisor);
  expect(calls.foreignFrames(pv.domid, [gfn])).toMatchObject({ runs: [], errors: [{ page: 0, nrPages: 1, errno }] });
});

test('a domain that isn’t there', () => {
  expect(() => calls.foreignFrames(999, [0n])).toThrow('ESRCH');
});

test('pages of two extents never share a run', () => {
  const small = new Toolstack();
  const domid = small.hvm();
  small.setMaxMem(domid, 4096 * 4);
  expect(small.populate(domid, 0, 4096)).toBe(4096);
  small.setMaxMem(domid, 4 * 4096 * 2);
  expect(small.populate(domid, 4096, 10)).toBe(10);
  const { runs } = small.hypervisor.callsOfDom0().foreignFrames(domid, range(4090, 16));
  expect(runs).toMatchObject([
    { page: 0, nrPages: 6, frame: 4090 },
    { page: 6, nrPages: 10, frame: 0 },
  ]);
  expect(runs[0]?.extent).not.toBe(runs[1]?.extent);
});

describe('whatever is asked for', () => {
  test('runs and errors cover each page once, and lead to the right frames', () => {
    const gfn = fc.oneof(fc.integer({ min: 0, max: 30 }), fc.integer({ min: 2040, max: 2060 }), fc.nat(1 << 20));
    fc.assert(
      fc.property(fc.array(gfn, { maxLength: 100 }), (gfns) => {
        const { runs, errors } = calls.foreignFrames(domain.domid, gfns.map(BigInt));
        const seen = gfns.map(() => 0);
        for (const { page, nrPages, extent, frame } of runs) {
          for (let i = 0; i < nrPages; i++) {
            seen[page + i]!++;
            const place = xen.hypervisor.machine.place(domain.p2m.mfn(gfns[page + i]!));
            expect([place.extent === extent, place.frame]).toEqual([true, frame + i]);
          }
        }
        for (const { page, nrPages } of errors) {
          for (let i = 0; i < nrPages; i++) {
            seen[page + i]!++;
            expect(domain.p2m.mfn(gfns[page + i]!)).toBe(-1);
          }
        }
        expect(seen).toEqual(gfns.map(() => 1));
      }),
    );
  });
});
