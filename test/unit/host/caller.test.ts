/** What becomes of a mapping that a call has made: delivered to the process, or given up. */
import { expect, test } from 'vitest';
import type { Extent } from '../../../dist/boundary/extent.js';
import { Caller } from '../../../dist/host/caller.js';
import { ProcessMappings } from '../../../dist/host/process-mappings.js';
import { POSTERN_MAX_FILES } from '../../../dist/host/protocol.js';

function mapping(nrExtents = 1) {
  const runs = Array.from({ length: nrExtents }, (_, page) => {
    const extent: Extent = { nrFrames: 1, bytes: new Uint8Array(0), release() {} };
    return { page, nrPages: 1, extent, frame: 0 };
  });
  const probe = { runs, errors: [], released: 0, release: () => void probe.released++ };
  return probe;
}

test('delivered, it is the process’s', () => {
  const [caller, mappings, probe] = [new Caller(), new ProcessMappings(), mapping()];
  caller.mapFrames(0x10000, probe);
  expect(caller.deliver(mappings)).toBe(probe.runs);
  caller.abandon();
  expect([mappings.nrRanges, probe.released]).toEqual([1, 0]);
  expect(caller.deliver(mappings)).toEqual([]);
  mappings.unmap(0x10000, 1);
  expect(probe.released).toBe(1);
});

test('given up, nobody has it', () => {
  const [caller, mappings, probe] = [new Caller(), new ProcessMappings(), mapping()];
  caller.mapFrames(0x10000, probe);
  caller.abandon();
  caller.abandon();
  expect([caller.deliver(mappings).length, mappings.nrRanges, probe.released]).toEqual([0, 0, 1]);
});

test('in too many pieces, or one too many, it is given up', () => {
  const scattered = mapping(POSTERN_MAX_FILES + 1);
  const caller = new Caller();
  expect(() => caller.mapFrames(0x10000, scattered)).toThrow('ENOMEM');
  caller.abandon();
  const late = mapping();
  caller.mapFrames(0x10000, late);
  expect(() => caller.deliver(new ProcessMappings(0))).toThrow('ENOMEM');
  caller.abandon();
  expect([scattered.released, late.released]).toEqual([1, 1]);
});
