/** Addresses that a restricted process has no business with, in every place where an interface takes one. */
import { XEN_DMOP_modified_memory, XEN_DMOP_nr_vcpus, XEN_DMOP_track_dirty_vram } from '../../abi/xen/dm-op.js';
import { OP_exchange_memory } from '../operations.js';
import { type Attack, type Lab, track, words } from './attack.js';

const PAGE = 4096n;

/** A page of the attacker's at the very end of its reach, with kernel memory right behind it. @returns its last bytes */
function lastBytes(lab: Lab, bytes: bigint): bigint {
  const { world, process } = lab;
  const { platform } = world;
  if (platform.addressing === 'physical') {
    const address = process.allocate(1, 'last page before a kernel frame');
    lab.session.declare(address, 4096);
    const frame = process.space.walkUser(address)!.frame;
    if (!world.memory.frames.has(frame.pfn + 1)) world.memory.allocateBehind(frame, 'kernel', 'kernel frame behind');
    return address + PAGE - bytes;
  }
  const top = platform.userEnd - PAGE;
  process.mapFresh(top, 'top of user space');
  lab.session.declare(top, 4096);
  return top + PAGE - bytes;
}

export const ADDRESS_ATTACKS: readonly Attack[] = [
  {
    id: 'kernel-struct',
    name: 'The struct itself is at a kernel address',
    group: 'addresses',
    breaks: ['kernel-secrecy', 'kernel-integrity'],
    origin: 'minutes: dom0 must not be compromised through the interface',
    run: (lab) => void lab.call({ domid: lab.mine, op: XEN_DMOP_nr_vcpus, first: { address: lab.world.secret } }),
  },
  {
    id: 'kernel-argument',
    name: 'The pointer in the ioctl’s argument is a kernel address',
    group: 'addresses',
    breaks: ['kernel-secrecy'],
    origin: 'class: pointer to a pointer',
    run(lab) {
      const call = { domid: lab.mine, op: XEN_DMOP_nr_vcpus };
      const prepared = lab.prepare(call);
      lab.process.writeU64(prepared.where.domid + 8n, prepared.where.handleFor(lab.world.secret));
      lab.note('points the argument at kernel memory');
      lab.go(prepared, call);
    },
  },
  {
    id: 'kernel-bitmap',
    name: 'The bitmap of dirty VRAM goes to kernel memory',
    group: 'addresses',
    breaks: ['kernel-integrity'],
    origin: 'minutes: Track dirty VRAM',
    run(lab) {
      const blocks = [{ address: lab.world.canary, size: 64n }];
      lab.call({ domid: lab.mine, op: XEN_DMOP_track_dirty_vram, payload: track(512), blocks });
    },
  },
  {
    id: 'kernel-extents',
    name: 'The extents of modified_memory are kernel memory',
    group: 'addresses',
    breaks: ['kernel-secrecy'],
    origin: 'minutes: others may emerge',
    run(lab) {
      lab.world.mine.hvm?.logDirty.enable(false);
      const blocks = [{ address: lab.world.secret, size: 64n }];
      lab.call({ domid: lab.mine, op: XEN_DMOP_modified_memory, payload: words(4), blocks });
    },
  },
  {
    id: 'kernel-second-block',
    name: 'A new operation’s second block is kernel memory',
    group: 'addresses',
    breaks: ['kernel-integrity'],
    origin: 'minutes: future DM ops',
    newOperations: true,
    run(lab) {
      const blocks = [
        { address: lab.block, size: 32n },
        { address: lab.world.canary, size: 32n },
      ];
      lab.call({ domid: lab.mine, op: OP_exchange_memory, payload: words(32, 0, 5), blocks });
    },
  },
  {
    id: 'kernel-exfiltration',
    name: 'A new operation carries kernel memory to the guest and from there to the program',
    group: 'addresses',
    breaks: ['kernel-secrecy'],
    origin: 'minutes: future DM ops',
    newOperations: true,
    run(lab) {
      const payload = words(64, 0, 5);
      const to = { address: lab.out, size: 64n };
      const from = { address: lab.world.secret, size: 64n };
      lab.call({ domid: lab.mine, op: OP_exchange_memory, payload, blocks: [from, to] });
      lab.call({ domid: lab.mine, op: OP_exchange_memory, payload, blocks: [{ address: lab.block, size: 64n }, to] });
    },
  },
  {
    id: 'wraps-to-user',
    name: 'A block begins in the kernel and its end wraps round into user space',
    group: 'addresses',
    breaks: ['kernel-integrity'],
    origin: 'class: address + size overflows',
    run(lab) {
      const { platform, canary } = lab.world;
      const size = (1n << BigInt(platform.addressBits)) - canary + 64n;
      const blocks = [{ address: canary, size }];
      lab.call({ domid: lab.mine, op: XEN_DMOP_track_dirty_vram, payload: track(512), blocks });
    },
  },
  {
    id: 'largest-size',
    name: 'A block of 2^64-1 bytes, at the end of user space',
    group: 'addresses',
    breaks: ['kernel-integrity'],
    origin: 'class: address + size overflows',
    run(lab) {
      const blocks = [{ address: lastBytes(lab, 8n), size: 0xffff_ffff_ffff_ffffn }];
      lab.call({ domid: lab.mine, op: XEN_DMOP_track_dirty_vram, payload: track(512), blocks });
    },
  },
  {
    id: 'straddles-split',
    name: 'A block begins in the last bytes of user space and goes on in the kernel',
    group: 'addresses',
    breaks: ['kernel-integrity'],
    origin: 'minutes: valid ranges differ by platform',
    run(lab) {
      const blocks = [{ address: lastBytes(lab, 8n), size: 64n }];
      lab.call({ domid: lab.mine, op: XEN_DMOP_track_dirty_vram, payload: track(512), blocks });
    },
  },
  {
    id: 'struct-straddles-split',
    name: 'The struct begins in the last bytes of user space',
    group: 'addresses',
    breaks: ['kernel-secrecy', 'kernel-integrity'],
    origin: 'class: only the start of a range is checked',
    run: (lab) =>
      void lab.call({ domid: lab.mine, op: XEN_DMOP_nr_vcpus, first: { address: lastBytes(lab, 16n), size: 32n } }),
  },
  {
    id: 'other-process-frame',
    name: 'A block is another program’s physical memory',
    group: 'addresses',
    breaks: ['process-isolation'],
    origin: 'minutes: each QEMU needs its own set of physical buffers',
    run(lab) {
      const frame = lab.world.other.space.userFrames()[0]!;
      const blocks = [{ address: BigInt(frame.pfn) * PAGE, size: 64n }];
      lab.call({ domid: lab.mine, op: XEN_DMOP_track_dirty_vram, payload: track(512), blocks });
    },
  },
  {
    id: 'fragment-gap',
    name: 'A block crosses two pages whose frames are apart, with somebody else’s between them',
    group: 'addresses',
    breaks: ['kernel-integrity', 'kernel-secrecy', 'process-isolation'],
    origin: 'minutes: physical ranges may be fragmented',
    run(lab) {
      const { world, process } = lab;
      const address = process.allocate(1, 'first half');
      const frame = process.space.walkUser(address)!.frame;
      if (!world.memory.frames.has(frame.pfn + 1)) world.memory.allocateBehind(frame, 'kernel', 'kernel frame between');
      process.mapFresh(address + PAGE, 'second half');
      lab.session.declare(address, 8192);
      const blocks = [{ address: address + PAGE - 32n, size: 64n }];
      lab.call({ domid: lab.mine, op: XEN_DMOP_track_dirty_vram, payload: track(512), blocks });
    },
  },
];
