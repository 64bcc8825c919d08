/** Counts and sizes at their bounds and beyond, and blocks that aren't there. */
import {
  XEN_DMOP_create_ioreq_server,
  XEN_DMOP_nr_vcpus,
  XEN_DMOP_remote_shutdown,
  XEN_DMOP_track_dirty_vram,
} from '../../abi/xen/dm-op.js';
import { type Attack, type Lab, track, words } from './attack.js';
import { mustNotDiffer } from './leaks-and-exhaustion.js';

const ROWS = 'real Xen: raw dm_op rows';

/** The kernel makes a call, so that something of its own was there before. */
function afterKernelCall(lab: Lab): void {
  lab.kernelCall({
    domid: lab.mine,
    op: XEN_DMOP_track_dirty_vram,
    payload: track(64),
    blocks: [{ address: lab.world.kernelBuffer + 512n, size: 64n }],
  });
}

export const COUNT_AND_SIZE_ATTACKS: readonly Attack[] = [
  {
    id: 'count-zero',
    name: 'No blocks at all',
    group: 'counts',
    breaks: ['kernel-secrecy', 'kernel-integrity'],
    origin: ROWS,
    run(lab) {
      afterKernelCall(lab);
      lab.call({ domid: lab.mine, op: XEN_DMOP_nr_vcpus, count: 0 });
    },
  },
  {
    id: 'missing-block',
    name: 'One block for an operation that needs two',
    group: 'counts',
    breaks: ['kernel-integrity', 'no-crash'],
    origin: 'minutes: insufficient elements are NULL; XSA-506',
    run(lab) {
      afterKernelCall(lab);
      lab.call({ domid: lab.mine, op: XEN_DMOP_track_dirty_vram, payload: track(512), count: 1 });
    },
  },
  {
    id: 'count-17',
    name: '3, 16 and 17 blocks, the further ones in the kernel',
    group: 'counts',
    breaks: ['kernel-integrity', 'no-crash'],
    origin: ROWS,
    run(lab) {
      for (const count of [3, 16, 17]) {
        const blocks = Array.from({ length: count - 1 }, (_, i) => ({
          address: i < 2 ? lab.block : lab.world.canary,
          size: 64n,
        }));
        lab.call({ domid: lab.mine, op: XEN_DMOP_track_dirty_vram, payload: track(512), blocks });
        const own = blocks.map(() => ({ address: lab.block, size: 64n }));
        lab.call({ domid: lab.mine, op: XEN_DMOP_track_dirty_vram, payload: track(512), blocks: own });
      }
    },
  },
  {
    id: 'count-largest',
    name: '2^32-1 blocks',
    group: 'counts',
    breaks: ['bounded'],
    origin: ROWS,
    run(lab) {
      const blocks = [{ address: lab.block, size: 64n }];
      lab.call({ domid: lab.mine, op: XEN_DMOP_track_dirty_vram, payload: track(512), blocks, count: 0xffff_ffff });
    },
  },
  {
    id: 'short-struct-at-split',
    name: 'A short struct in the last bytes of user space; its results go past it',
    group: 'sizes',
    breaks: ['kernel-integrity', 'kernel-secrecy'],
    origin: 'minutes: no need to check minimum',
    run(lab) {
      const { platform } = lab.world;
      const top = platform.userEnd - 4096n;
      lab.process.mapFresh(top, 'top of user space');
      lab.session.declare(top, 4096);
      const first = { address: platform.userEnd - 12n, size: 12n };
      lab.call({ domid: lab.mine, op: XEN_DMOP_nr_vcpus, first });
    },
  },
  {
    id: 'size-zero',
    name: 'A struct of no bytes, at a page’s start and elsewhere, of 1 and of 4',
    group: 'sizes',
    breaks: ['hypervisor-secrecy'],
    origin: 'minutes: zero length would result in op 0; real Xen refuses it',
    run(lab) {
      const ask = (address: bigint, size: bigint) =>
        lab.call({ domid: lab.mine, op: XEN_DMOP_create_ioreq_server, payload: words(3), first: { address, size } });
      mustNotDiffer(lab, 'what no bytes mean', ask(lab.block, 0n), ask(lab.block + 100n, 0n));
      // The number is below 256: one byte says as much as four, if what isn't given is zero.
      mustNotDiffer(lab, 'bytes of the stack are an operation’s number', ask(lab.block, 1n), ask(lab.block, 4n));
    },
  },
  {
    id: 'short-struct',
    name: 'A struct without its last fields: what does the operation read there?',
    group: 'sizes',
    breaks: ['hypervisor-secrecy'],
    origin: 'XSA-239, 216: uninitialised bytes',
    run(lab) {
      const first = { address: lab.block, size: 8n };
      lab.call({ domid: lab.mine, op: XEN_DMOP_remote_shutdown, payload: words(0), first });
      const seen = lab.world.mine.shutdownCode;
      if (lab.world.mine.isShutDown && seen === Number(lab.world.stackMark & 0xffn)) {
        lab.world.breach('hypervisor-secrecy', `the guest was shut down with a byte of the stack: ${seen}`);
      }
    },
  },
  {
    id: 'size-large',
    name: 'A struct of 33, 4096, 4097 and 2^64-1 bytes',
    group: 'sizes',
    breaks: ['no-crash'],
    origin: ROWS,
    run(lab) {
      for (const size of [33n, 4096n, 4097n, 0xffff_ffff_ffff_ffffn]) {
        lab.call({ domid: lab.mine, op: XEN_DMOP_nr_vcpus, first: { address: lab.block, size } });
      }
    },
  },
];
