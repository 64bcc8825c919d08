/** Memory that was the program's when it was approved, and is somebody else's when it is used; and flags. */
import { XEN_DMOP_track_dirty_vram } from '../../abi/xen/dm-op.js';
import { type Attack, type Lab, track } from './attack.js';

const STALE = 'minutes: ranges set up ahead of time';

const trackInto = (lab: Lab, address: bigint) => ({
  domid: lab.mine,
  op: XEN_DMOP_track_dirty_vram,
  payload: track(512),
  blocks: [{ address, size: 64n }],
});

/** A process that is no longer the one that got the approval names the memory that it was for. */
function nameOf(lab: Lab, address: bigint): bigint {
  return lab.world.platform.addressing === 'physical' ? lab.world.physicalOf(lab.process.space, address) : address;
}

export const STALE_ATTACKS: readonly Attack[] = [
  {
    id: 'stale-unmap',
    name: 'Approved memory is unmapped, the kernel gets its frame, and a call uses it',
    group: 'stale approvals',
    breaks: ['kernel-integrity'],
    origin: STALE,
    run(lab) {
      const call = trackInto(lab, lab.block);
      const prepared = lab.prepare(call);
      lab.freeToKernel(lab.block);
      lab.go(prepared, call);
    },
  },
  {
    id: 'stale-remap',
    name: 'Approved memory is mapped anew, another program gets the old frame, and a call uses it',
    group: 'stale approvals',
    breaks: ['process-isolation'],
    origin: STALE,
    run(lab) {
      const call = trackInto(lab, lab.block);
      const prepared = lab.prepare(call);
      lab.freeToOther(lab.block);
      lab.process.mapFresh(lab.block, 'mapped anew');
      lab.go(prepared, call);
    },
  },
  {
    id: 'stale-fork',
    name: 'After fork, approved memory is copied on write and the old frame is the child’s',
    group: 'stale approvals',
    breaks: ['process-isolation'],
    origin: STALE,
    run(lab) {
      const call = trackInto(lab, lab.block);
      const prepared = lab.prepare(call);
      const { frame } = lab.process.space.walkUser(lab.block)!;
      if (frame.pins === 0) {
        frame.owner = 'other';
        frame.label = 'memory, the forked child’s';
        frame.original = frame.bytes.slice();
        lab.process.mapFresh(lab.block, 'copied on write');
        lab.note('forks and writes: the old frame stays with the child');
      } // a driver's own mapping is not inherited
      lab.go(prepared, call);
    },
  },
  {
    id: 'stale-exec',
    name: 'After exec, the new program uses memory that was approved for the old one',
    group: 'stale approvals',
    breaks: ['kernel-integrity'],
    origin: STALE,
    run(lab) {
      const { world } = lab;
      const old = nameOf(lab, lab.block);
      const next = world.process(101, 'attacker');
      const session = lab.session.inherit(next);
      lab.freeToKernel(lab.block);
      lab.note('execs: the file stays open, the memory goes');
      const call = trackInto(lab, old);
      lab.look(session.prepare(call).go());
    },
  },
  {
    id: 'other-device-model',
    name: 'Another device model starts and sets its ranges; this one names them',
    group: 'stale approvals',
    breaks: ['process-isolation'],
    origin: 'minutes: all device models are assumed to have the same layout',
    run(lab) {
      const { world } = lab;
      const session = lab.proposal.open(world, world.other);
      const theirs = session.memory(1);
      lab.note('another device model opens privcmd and declares its memory');
      const address = world.platform.addressing === 'physical' ? world.physicalOf(world.other.space, theirs) : theirs;
      lab.call(trackInto(lab, address));
    },
  },
  {
    id: 'flag-left-out',
    name: 'The program leaves out the flag that says "restricted"',
    group: 'flags',
    breaks: ['kernel-integrity'],
    origin: 'minutes: a flag in the dm op',
    run: (lab) => void lab.call({ ...trackInto(lab, lab.world.canary), leaveOutFlag: true }),
  },
  {
    id: 'flag-wrong',
    name: 'The word with the flag has every other bit set',
    group: 'flags',
    breaks: ['kernel-integrity'],
    origin: 'minutes: a flag in the dm op',
    run(lab) {
      const call = trackInto(lab, lab.world.canary);
      const prepared = lab.prepare(call);
      lab.process.write(prepared.where.struct + 4n, new Uint8Array([0xfe, 0xff, 0xff, 0xff]));
      lab.go(prepared, call);
    },
  },
];
