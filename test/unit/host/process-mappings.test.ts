/** Which of a process's foreign mappings are left: each is released once, when its last page goes. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { FrameRun, Mapping } from '../../../dist/boundary/extent.js';
import { ProcessMappings } from '../../../dist/host/process-mappings.js';

const PAGE = 4096;
const extent = { nrFrames: 1 << 20, bytes: new Uint8Array(0), release() {} };

/** A mapping of some pages, which says when it has been released. */
class Probe implements Mapping {
  readonly runs: FrameRun[];
  readonly errors = [];
  released = 0;
  readonly release = (): void => void this.released++;

  constructor(...runs: [page: number, nrPages: number][]) {
    this.runs = runs.map(([page, nrPages]) => ({ page, nrPages, extent, frame: 0 }));
  }
}

describe('a mapping is released', () => {
  test('with its last page, whatever the order', () => {
    const mappings = new ProcessMappings();
    const probe = new Probe([0, 4]);
    mappings.add(0x10000, probe);
    mappings.unmap(0x10000 + PAGE, 1);
    mappings.unmap(0x10000 + 3 * PAGE, 5);
    expect([mappings.nrRanges, probe.released]).toEqual([2, 0]);
    mappings.unmap(0x10000, 1);
    mappings.unmap(0x10000, 1);
    expect(probe.released).toBe(0);
    mappings.unmap(0, 1 << 20);
    expect([mappings.nrRanges, probe.released]).toEqual([0, 1]);
  });

  test('when another takes its place', () => {
    const mappings = new ProcessMappings();
    const [first, second] = [new Probe([0, 2]), new Probe([0, 2])];
    mappings.add(0x10000, first);
    mappings.add(0x10000 + PAGE, second);
    expect([first.released, mappings.nrRanges]).toEqual([0, 2]);
    mappings.add(0x10000, new Probe([0, 1]));
    expect([first.released, second.released]).toEqual([1, 0]);
  });

  test('its holes, which others fill, are not its own', () => {
    const mappings = new ProcessMappings();
    const [holey, filler] = [new Probe([0, 1], [2, 1], [3, 1]), new Probe([0, 1])];
    mappings.add(0x10000, holey);
    expect(mappings.nrRanges).toBe(2);
    mappings.add(0x10000 + PAGE, filler);
    mappings.unmap(0x10000, 1);
    mappings.unmap(0x10000 + 2 * PAGE, 2);
    expect([holey.released, filler.released]).toEqual([1, 0]);
  });

  test('at once where nothing of it is there', () => {
    const mappings = new ProcessMappings(0);
    const probe = new Probe();
    mappings.add(0x10000, probe);
    expect([probe.released, mappings.nrRanges]).toEqual([1, 0]);
  });

  test('with the process', () => {
    const mappings = new ProcessMappings();
    const probes = [new Probe([0, 1], [2, 2]), new Probe([0, 1])];
    for (const [i, probe] of probes.entries()) mappings.add(0x10000 * (i + 1), probe);
    mappings.releaseAll();
    mappings.releaseAll();
    expect(probes.map((probe) => probe.released)).toEqual([1, 1]);
  });
});

describe('there is a limit', () => {
  test('to mappings; the one too many stays the caller’s', () => {
    const mappings = new ProcessMappings(3);
    for (const at of [0x10000, 0x20000, 0x30000]) mappings.add(at, new Probe([0, 3]));
    const probe = new Probe([0, 1]);
    expect(() => mappings.add(0x40000, probe)).toThrow('ENOMEM');
    expect([mappings.nrRanges, probe.released]).toEqual([3, 0]);
  });

  test('to their pieces: past it one stays whole until all of it goes', () => {
    const mappings = new ProcessMappings(1);
    const probe = new Probe([0, 3]);
    mappings.add(0x10000, probe);
    mappings.unmap(0x10000 + PAGE, 1);
    expect(mappings.nrRanges).toBe(1);
    mappings.unmap(0x10000, 1);
    mappings.unmap(0x10000 + 2 * PAGE, 1);
    expect(probe.released).toBe(0);
    mappings.unmap(0x10000, 3);
    expect(probe.released).toBe(1);
  });
});

test('like one owner a page, whatever is mapped and unmapped', () => {
  const runs = fc
    .array(fc.tuple(fc.nat(3), fc.integer({ min: 1, max: 4 })), { minLength: 0, maxLength: 4 })
    .map((gaps) => {
      let page = 0;
      return gaps.map(([gap, nrPages]): [number, number] => {
        const run: [number, number] = [page + gap, nrPages];
        page += gap + nrPages;
        return run;
      });
    });
  const step = fc.record({ at: fc.nat(24), runs: fc.option(runs), nrPages: fc.nat(8) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const mappings = new ProcessMappings();
      const owners = new Map<number, Probe>();
      const probes: Probe[] = [];
      for (const { at, runs, nrPages } of steps) {
        if (runs) {
          const probe = new Probe(...runs);
          probes.push(probe);
          for (const [page, n] of runs) for (let i = 0; i < n; i++) owners.set(at + page + i, probe);
          mappings.add(at * PAGE, probe);
        } else {
          for (let i = 0; i < nrPages; i++) owners.delete(at + i);
          mappings.unmap(at * PAGE, nrPages);
        }
        const live = new Set(owners.values());
        expect(probes.map((probe) => probe.released)).toEqual(probes.map((probe) => (live.has(probe) ? 0 : 1)));
      }
      mappings.releaseAll();
      expect(probes.every((probe) => probe.released === 1)).toBe(true);
    }),
  );
});
