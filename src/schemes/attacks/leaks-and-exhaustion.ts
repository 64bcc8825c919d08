/** What comes back that shouldn't, what it costs, and whom it hinders. */
import { XEN_DMOP_nr_vcpus, XEN_DMOP_track_dirty_vram } from '../../abi/xen/dm-op.js';
import type { Result } from '../proposal.js';
import { type Attack, type Lab, track } from './attack.js';

/** Two calls of the same kind should end the same way. */
export function mustNotDiffer(lab: Lab, what: string, a: Result, b: Result): void {
  if (a.errno === b.errno && a.ret === b.ret) return;
  lab.world.breach('hypervisor-secrecy', `${what}: ${a.errno ?? 'success'} or ${b.errno ?? 'success'}`);
}

export const LEAK_AND_EXHAUSTION_ATTACKS: readonly Attack[] = [
  {
    id: 'uninitialised-results',
    name: 'Results with bytes that the operation never wrote',
    group: 'leaks',
    breaks: ['hypervisor-secrecy'],
    origin: 'XSA-239, 464: uninitialised bytes reach the other side',
    run(lab) {
      [8n, 12n, 31n].forEach((size, i) => {
        const address = lab.block + BigInt(64 * i);
        lab.call({ domid: lab.mine, op: XEN_DMOP_nr_vcpus, first: { address, size } });
      });
    },
  },
  {
    id: 'errno-of-missing',
    name: 'Which errno a missing block gives tells what the last call left there',
    group: 'leaks',
    breaks: ['hypervisor-secrecy'],
    origin: 'XSA-506: a missing buffer is read as garbage',
    run(lab) {
      const probe = () => lab.call({ domid: lab.mine, op: XEN_DMOP_track_dirty_vram, payload: track(512), count: 1 });
      const kernelUses = (size: bigint) =>
        lab.kernelCall({
          domid: lab.mine,
          op: XEN_DMOP_track_dirty_vram,
          payload: track(64),
          blocks: [{ address: lab.world.kernelBuffer + 512n, size }],
        });
      kernelUses(8n);
      const afterSmall = probe();
      kernelUses(128n);
      const afterLarge = probe();
      mustNotDiffer(lab, 'the errno depends on the call before', afterSmall, afterLarge);
    },
  },
  {
    id: 'errno-of-mapping',
    name: 'Which errno a kernel address gives tells whether anything is mapped there',
    group: 'leaks',
    breaks: ['hypervisor-secrecy', 'kernel-integrity'],
    origin: 'class: an oracle for the kernel’s layout',
    run(lab) {
      const { platform, canary } = lab.world;
      const ask = (address: bigint) => {
        const blocks = [{ address, size: 64n }];
        return lab.call({ domid: lab.mine, op: XEN_DMOP_track_dirty_vram, payload: track(512), blocks });
      };
      const mapped = ask(canary);
      mustNotDiffer(lab, 'the errno tells what is mapped', mapped, ask(platform.kernelBase + 0x80_0000n));
    },
  },
  {
    id: 'many-declarations',
    name: 'Approved ranges without end',
    group: 'exhaustion',
    breaks: ['bounded'],
    origin: 'XSA-326, 416: what a client has outstanding exhausts memory',
    run(lab) {
      lab.note('declares the same memory 4096 times');
      lab.world.meter.kernelBytes = 0;
      for (let i = 0; i < 4096; i++) {
        if (lab.session.declare(lab.block, 4096).errno) break;
      }
    },
  },
  {
    id: 'many-fragments',
    name: 'Memory in so many pieces that a list of them exhausts the kernel',
    group: 'exhaustion',
    breaks: ['bounded'],
    origin: 'minutes: physical ranges might be quite fragmented',
    run(lab) {
      lab.process.allocate(2100, 'fragment');
      lab.note('maps 2100 pages that lie apart');
      lab.call({ domid: lab.mine, op: XEN_DMOP_nr_vcpus });
    },
  },
  {
    id: 'long-operation',
    name: 'A bitmap for 1 GiB of memory: does the operation let others run?',
    group: 'exhaustion',
    breaks: ['bounded'],
    origin: 'XSA-340, 342, 343, 344, 505: long loops without preemption',
    run(lab) {
      lab.world.meter.slices = 0;
      const blocks = [{ address: lab.out, size: 4096n }];
      const { ret } = lab.call({ domid: lab.mine, op: XEN_DMOP_track_dirty_vram, payload: track(32768), blocks });
      const { slices } = lab.world.meter;
      if (ret === 0 && slices < 16) lab.world.breach('bounded', `32768 pages in ${slices} slices`);
    },
  },
  {
    id: 'kernel-hindered',
    name: 'dom0’s kernel makes a call with its own memory while device models are restricted',
    group: 'availability',
    breaks: ['kernel-free'],
    origin: 'minutes: any kernel dm op would not apply that restriction',
    run(lab) {
      const { ret, reason } = lab.look(
        lab.kernelCall({
          domid: lab.mine,
          op: XEN_DMOP_track_dirty_vram,
          payload: track(64),
          blocks: [{ address: lab.world.kernelBuffer + 512n, size: 8n }],
        }),
      );
      if (ret !== 0) lab.world.breach('kernel-free', `the kernel's own call fails: ${reason}`);
    },
  },
];
