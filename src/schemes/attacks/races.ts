/** A second thread changes things while a call is in progress: tried at every point where it could. */
import { XEN_DMOP_nr_vcpus, XEN_DMOP_remote_shutdown, XEN_DMOP_track_dirty_vram } from '../../abi/xen/dm-op.js';
import { OP_scatter_status } from '../operations.js';
import { type Attack, type Lab, track, words } from './attack.js';

const TRACK_OWN = (lab: Lab) => ({
  domid: lab.mine,
  op: XEN_DMOP_track_dirty_vram,
  payload: track(512),
  blocks: [{ address: lab.block, size: 64n }],
});

const TOCTOU = 'XSA-155, 166, 197, 478: memory is fetched twice';

export const RACE_ATTACKS: readonly Attack[] = [
  {
    id: 'swap-handle',
    name: 'A block’s address becomes a kernel address after the check',
    group: 'races',
    breaks: ['kernel-integrity'],
    origin: TOCTOU,
    races: true,
    run(lab) {
      const call = TRACK_OWN(lab);
      const prepared = lab.prepare(call);
      const { handles, handleFor } = prepared.where;
      lab.secondThread(() => lab.process.writeU64(handles[0]!.address, handleFor(lab.world.canary)));
      lab.go(prepared, call);
    },
  },
  {
    id: 'swap-size',
    name: 'A block grows beyond what was checked, into the kernel',
    group: 'races',
    breaks: ['kernel-integrity'],
    origin: TOCTOU,
    races: true,
    run(lab) {
      const { platform } = lab.world;
      const top = platform.userEnd - 4096n;
      lab.process.mapFresh(top, 'top of user space');
      lab.session.declare(top, 4096);
      const call = {
        domid: lab.mine,
        op: XEN_DMOP_track_dirty_vram,
        payload: track(64),
        blocks: [{ address: platform.userEnd - 8n, size: 8n }],
      };
      const prepared = lab.prepare(call);
      const { struct, handles } = prepared.where;
      lab.secondThread(() => {
        lab.process.write(struct + 8n, track(512).subarray(0, 4));
        const size = handles[0]!.size;
        if (size !== undefined) lab.process.writeU64(size, 64n);
      });
      lab.go(prepared, call);
    },
  },
  {
    id: 'swap-op',
    name: 'A harmless operation becomes one with a pointer, after the check',
    group: 'races',
    breaks: ['kernel-integrity'],
    origin: TOCTOU,
    races: true,
    run(lab) {
      const call = { ...TRACK_OWN(lab), op: XEN_DMOP_nr_vcpus, blocks: [{ address: lab.world.canary, size: 64n }] };
      const prepared = lab.prepare(call);
      lab.secondThread(() => lab.process.write(prepared.where.struct, words(XEN_DMOP_track_dirty_vram).subarray(0, 4)));
      lab.go(prepared, call);
    },
  },
  {
    id: 'swap-domid',
    name: 'The domid becomes another domain’s after the check',
    group: 'races',
    breaks: ['domain-isolation'],
    origin: TOCTOU,
    races: true,
    run(lab) {
      const call = { domid: lab.mine, op: XEN_DMOP_remote_shutdown, payload: words(3) };
      const prepared = lab.prepare(call);
      const theirs = lab.world.theirs.domid;
      lab.secondThread(() => lab.process.write(prepared.where.domid, words(theirs).subarray(0, 2)));
      lab.go(prepared, call);
    },
  },
  {
    id: 'clear-flag',
    name: 'The flag that says "restricted" is cleared after the kernel has looked',
    group: 'races',
    breaks: ['kernel-integrity'],
    origin: 'minutes: a flag in the dm op, in a fixed location',
    races: true,
    run(lab) {
      const call = { ...TRACK_OWN(lab), blocks: [{ address: lab.world.canary, size: 64n }] };
      const prepared = lab.prepare(call);
      lab.secondThread(() => lab.process.write(prepared.where.struct + 4n, new Uint8Array(4)));
      lab.go(prepared, call);
    },
  },
  {
    id: 'swap-nested',
    name: 'A handle inside a block is changed after the kernel has walked the block',
    group: 'races',
    breaks: ['kernel-integrity'],
    origin: TOCTOU,
    newOperations: true,
    races: true,
    run(lab) {
      const call = {
        domid: lab.mine,
        op: OP_scatter_status,
        payload: words(1),
        blocks: [
          { address: lab.block, size: 16n },
          { address: lab.out, size: 8n },
        ],
      };
      const prepared = lab.prepare(call);
      const { handleFor } = prepared.where;
      lab.process.writeU64(lab.block, handleFor(lab.out));
      lab.process.writeU64(lab.block + 8n, 8n);
      lab.secondThread(() => lab.process.writeU64(lab.block, handleFor(lab.world.canary)));
      lab.go(prepared, call);
    },
  },
  {
    id: 'unmap-in-call',
    name: 'A block is unmapped in mid-call and the kernel gets its frame',
    group: 'races',
    breaks: ['kernel-integrity'],
    origin: 'XSA-276: a page is freed while it is in use',
    races: true,
    run(lab) {
      const call = TRACK_OWN(lab);
      const prepared = lab.prepare(call);
      lab.secondThread(() => lab.freeToKernel(lab.block));
      lab.go(prepared, call);
    },
  },
  {
    id: 'remap-in-call',
    name: 'A block is unmapped in mid-call and another program gets its frame',
    group: 'races',
    breaks: ['process-isolation'],
    origin: 'XSA-276: a page is freed while it is in use',
    races: true,
    run(lab) {
      const call = TRACK_OWN(lab);
      const prepared = lab.prepare(call);
      lab.secondThread(() => lab.freeToOther(lab.block));
      lab.go(prepared, call);
    },
  },
];
