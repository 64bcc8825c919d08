/** A domain's frames under random reservations: none twice, none dirty, none lost, all accounted for. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { NEVER_PREEMPT } from '../../dist/boundary/operation.js';
import { DomainMemory } from '../../dist/hypervisor/domain-memory.js';
import { MachineMemory } from '../../dist/hypervisor/machine-memory.js';
import { PlainExtents } from '../support/toolstack.js';

const step = fc.record({
  kind: fc.constantFrom('allocate', 'allocate', 'free', 'free', 'limit', 'reserve'),
  count: fc.oneof(fc.nat(40), fc.constantFrom(4095, 4096, 5000)),
  pick: fc.nat(),
});

test('frames are handed out once, zeroed, within the limit', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.integer({ min: 1, max: 3 }), (steps, left) => {
      const extents = new PlainExtents();
      extents.left = left;
      const machine = new MachineMemory(extents);
      const memory = new DomainMemory(machine);
      const owned: number[] = [];
      memory.maxPages = 9000;
      for (const { kind, count, pick } of steps) {
        if (kind === 'limit') memory.maxPages = count * 2;
        else if (kind === 'free') {
          for (let i = 0; i < count && owned.length > 0; i++) {
            memory.free(owned.splice((pick + i * 7) % owned.length, 1)[0]!);
          }
        } else if (kind === 'reserve') {
          const before = memory.totPages;
          if (tryTo(() => memory.reserve(count))) memory.unreserve(count);
          expect(memory.totPages).toBe(before);
        } else {
          const fits = owned.length + count <= memory.maxPages;
          const isReserved = tryTo(() => memory.reserve(count));
          if (!fits) expect(isReserved).toBe(false);
          for (let i = 0; isReserved && i < count; i++) {
            const mfn = memory.take();
            const frame = machine.frame(mfn);
            if (frame[0] !== 0 || frame[4095] !== 0) throw new Error(`mfn ${mfn} is dirty`);
            frame[0] = 1;
            frame[4095] = 2;
            owned.push(mfn);
          }
        }
        expect(memory.totPages).toBe(owned.length);
        expect(extents.live).toBe(memory.nrExtents);
      }
      expect(new Set(owned).size).toBe(owned.length);
      while (!memory.relinquish(NEVER_PREEMPT));
      expect([memory.totPages, memory.nrExtents, extents.live, machine.nrExtents]).toEqual([0, 0, 0, 0]);
    }),
    { numRuns: 30 },
  );
});

test('a frame that isn’t the domain’s cannot be freed by it', () => {
  const machine = new MachineMemory(new PlainExtents());
  const [mine, theirs] = [new DomainMemory(machine), new DomainMemory(machine)];
  mine.maxPages = theirs.maxPages = 10;
  const mfn = theirs.allocate();
  expect(() => mine.free(mfn)).toThrow('somebody else');
  theirs.free(mfn);
  expect(() => theirs.free(mfn)).toThrow();
  expect(() => theirs.take()).toThrow('not reserved');
});

function tryTo(action: () => void): boolean {
  try {
    action();
    return true;
  } catch (error) {
    if ((error as { code?: string }).code === 'ENOMEM') return false;
    throw error;
  }
}
