/**
 * Broken forms whose fault is in the hypervisor and not in how memory is named: a check or a care is taken out of the
 * project's own code, in one world, to show that the attack on it can succeed.
 */
import type { HvmState } from '../../hypervisor/domain.js';
import type { World } from '../model/world.js';
import type { Proposal } from '../proposal.js';
import { arrayMinuted } from './array-minuted.js';

function hvmOf({ mine }: World): HvmState {
  if (!mine.hvm) throw new Error('the domain is not HVM');
  return mine.hvm;
}

function weakened(id: string, name: string, weaken: (world: World) => void): Proposal {
  return { ...arrayMinuted, id: `array-minuted/${id}`, name, brokenFormOf: 'array-minuted', weaken };
}

export const WEAKENED: readonly Proposal[] = [
  weakened('inverted-ranges', 'I/O ranges are claimed without a look at their ends', (world) => {
    const servers = hvmOf(world).ioreq;
    servers.mapRange = (_emulator, id, type, start, end) => void servers.get(id)?.ranges[type]?.add(start, end);
  }),
  weakened('waits-for-ever', 'A request whose state makes no sense is waited for', (world) => {
    Object.assign(hvmOf(world).ioreq.dispatcher, { crash: () => {} });
  }),
  weakened('dirty-memory', 'Memory is not zeroed before it is shared', ({ hypervisor: { machine }, stackMark }) => {
    const allocate = machine.allocate.bind(machine);
    machine.allocate = (nrFrames) => {
      const place = allocate(nrFrames);
      const { bytes } = place.extent;
      new BigUint64Array(bytes.buffer, bytes.byteOffset, bytes.length / 8).fill(stackMark, 16);
      return place;
    };
  }),
  weakened('recycles-pages', 'Memory that is still mapped is given to the next', ({ hypervisor: { machine } }) => {
    const allocate = machine.allocate.bind(machine);
    const before = new Map<number, ReturnType<typeof allocate>>();
    machine.release = () => {};
    machine.allocate = (nrFrames) => {
      const place = before.get(nrFrames) ?? allocate(nrFrames);
      before.set(nrFrames, place);
      return place;
    };
  }),
  weakened('logs-by-itself', 'Marking a page brings the log back', (world) => {
    const { logDirty } = hvmOf(world);
    const markDirty = logDirty.markDirty.bind(logDirty);
    logDirty.markDirty = (gfn) => {
      if (!logDirty.isEnabled) logDirty.enable(false);
      markDirty(gfn);
    };
  }),
];
