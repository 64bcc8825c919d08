/** The memory hypercall on an HVM domain: rows measured on real Xen 4.17, in the order of the measurement. */
import { describe, expect, test } from 'vitest';
import * as M from '../../../../dist/abi/xen/memory.js';
import { HYPERVISOR } from '../../../../dist/abi/xen/xen.js';
import { AlwaysPreempt, TestMemory, Toolstack, u64List } from '../../../support/toolstack.js';

const { gmfn, gmfn_foreign, gmfn_range, shared_info, grant_table, dev_mmio } = {
  gmfn: M.XENMAPSPACE_gmfn,
  gmfn_foreign: M.XENMAPSPACE_gmfn_foreign,
  gmfn_range: M.XENMAPSPACE_gmfn_range,
  shared_info: M.XENMAPSPACE_shared_info,
  grant_table: M.XENMAPSPACE_grant_table,
  dev_mmio: M.XENMAPSPACE_dev_mmio,
};
const INVALID = (1n << 64n) - 1n;

describe('reservations', () => {
  const xen = new Toolstack();
  const n = xen.hvm();
  const total = () => xen.domain(n).memory.totPages;
  xen.setMaxMem(n, 0);

  test.each<[string, () => unknown, unknown, number]>([
    ['populate without max_pages', () => xen.populate(n, 0, 4), 0, 0],
    ['set 16 pages', () => xen.setMaxMem(n, 64), 0, 0],
    ['populate 20 of 16', () => xen.populate(n, 0, 20), 16, 16],
    ['populate the same again', () => xen.populate(n, 0, 1), 0, 16],
    ['decrease 4', () => xen.decrease(n, 0, 4), 4, 12],
    ['decrease a hole', () => xen.decrease(n, 0, 1), 0, 12],
    ['decrease, a hole first', () => xen.decrease(n, 2, 4), 0, 12],
    ['populate over a page that is there', () => xen.populate(n, 8, 1), 1, 13],
    ['decrease it', () => xen.decrease(n, 8, 1), 1, 12],
    ['populate the first gfn too many', () => xen.populate(n, 1n << 36n, 1), 0, 12],
    ['populate gfn 1<<35', () => xen.populate(n, 1n << 35n, 1), 1, 13],
    ['populate the last gfn', () => xen.populate(n, (1n << 36n) - 1n, 1), 1, 14],
    ['populate gfn 1<<40', () => xen.populate(n, 1n << 40n, 1), 0, 14],
    ['populate gfn ~0', () => xen.populate(n, INVALID, 1), 0, 14],
    ['maximum gpfn', () => maximumGpfn(n), 0xfffffffff, 14],
    ['populate 999', () => xen.populate(999, 0, 1), 0, 14],
    ['order 19', () => xen.populate(n, 0x1000, 1, 19), 0, 14],
    ['order 2 with 2 pages left', () => xen.populate(n, 0x1000, 1, 2), 0, 14],
    ['order 1 at an odd gfn', () => xen.populate(n, 0x1001, 1, 1), 1, 16],
    ['address bits that leave no address', () => xen.populate(n, 0x2000, 1, 0, 12), 0, 16],
    ['populate on demand', () => xen.populate(n, 0x2000, 1, 0, M.XENMEMF_populate_on_demand), 0, 16],
    ['decrease by order 1', () => xen.decrease(n, 0x1001, 1, 1), 1, 14],
  ])('%s', (_, action, expected, pages) => {
    expect(action()).toBe(expected);
    expect(total()).toBe(pages);
  });

  test('what is left is accounted for', () => {
    // One page was replaced without being freed and stays the domain's, as in Xen.
    expect(xen.domain(n).p2m.nrMapped).toBe(13);
  });

  function maximumGpfn(domid: number): unknown {
    return xen.withStruct(HYPERVISOR.memory_op, [M.XENMEM.maximum_gpfn], M.xen_memory_domain, { domid }).result;
  }

  test.each([
    ['current_reservation', 14],
    ['maximum_reservation', 16],
  ] as const)('%s', (op, expected) => {
    const call = (domid: number) =>
      xen.withStruct(HYPERVISOR.memory_op, [M.XENMEM[op]], M.xen_memory_domain, { domid });
    expect(call(n).result).toBe(expected);
    expect(call(999).result).toBe('ESRCH');
  });
});

describe('extents and lists', () => {
  test('a list that ends early is done as far as it goes', () => {
    const xen = new Toolstack();
    const domid = xen.hvm();
    const memory = new TestMemory(4096 + 10 * 8);
    const extent_start = memory.put(new Uint8Array(4096).fill(0xff)) + 4096n;
    memory.bytes.set(u64List([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), 4096);
    const value = { extent_start, nr_extents: 200n, extent_order: 0, mem_flags: 0, domid };
    const struct = new TestMemory(4096);
    // The struct lies in front of the list; what follows the ten entries cannot be read.
    memory.bytes.set(structBytes(struct, value), 0);
    const args = [M.XENMEM.populate_physmap, TestMemory.BASE];
    expect(xen.hypercall(HYPERVISOR.memory_op, args, memory)).toBe(10);
    expect(xen.domain(domid).p2m.nrMapped).toBe(10);
  });

  function structBytes(scratch: TestMemory, value: object): Uint8Array {
    const xen = new Toolstack();
    xen.withStruct(HYPERVISOR.memory_op, [M.XENMEM.populate_physmap], M.xen_memory_reservation, value, scratch);
    return scratch.bytes.subarray(0, M.xen_memory_reservation.size);
  }

  test('a continuation starts where the command says', () => {
    const xen = new Toolstack();
    const domid = xen.hvm();
    expect(xen.reservation(M.XENMEM.populate_physmap | (3 << M.MEMOP_EXTENT_SHIFT), domid, 0, 5)).toBe(5);
    expect([...xen.domain(domid).p2m.mappedGfns()]).toEqual([3, 4]);
  });

  test('a machine without memory ends it, with nothing lost', () => {
    const xen = new Toolstack();
    const domid = xen.hvm();
    xen.extents.left = 0;
    expect(xen.populate(domid, 0, 4)).toBe(0);
    expect(xen.domain(domid).memory.totPages).toBe(0);
    xen.extents.left = 1;
    expect(xen.populate(domid, 0, 4)).toBe(4);
  });

  test('4096 extents, 2 MiB and 1 GiB extents, preempted wherever they can be', () => {
    const xen = new Toolstack();
    const domid = xen.hvm();
    const preemption = new AlwaysPreempt();
    xen.preemption = preemption;
    xen.setMaxMem(domid, 2 << 20);
    expect(xen.populate(domid, 0x3000, 4096)).toBe(4096);
    expect(preemption.asked).toBeGreaterThanOrEqual(4096 / 256);
    preemption.asked = 0;
    expect(xen.populate(domid, 0x100000, 2, 9)).toBe(2);
    expect(preemption.asked).toBeGreaterThanOrEqual(4);
    preemption.asked = 0;
    expect(xen.populate(domid, 0x200000, 1, 18)).toBe(1);
    expect(preemption.asked).toBeGreaterThanOrEqual(1024);
    expect(xen.domain(domid).p2m.nrMapped).toBe(4096 + 1024 + (1 << 18));
    expect(xen.domain(domid).memory.totPages).toBe(4096 + 1024 + (1 << 18));
  });

  test('a domain that dies during a populate is left with nothing', () => {
    const xen = new Toolstack();
    const domid = xen.hvm();
    const domain = xen.domain(domid);
    let asked = 0;
    xen.preemption = {
      due() {
        if (++asked === 3) while (!domain.kill({ due: () => false }));
        return true;
      },
    };
    expect(xen.populate(domid, 0, 1, 9)).toBe(0);
    expect(domain.p2m.nrMapped).toBe(0);
    expect(domain.memory.totPages).toBe(0);
    expect(xen.extents.live).toBe(0);
  });

  test('a guest may have extents of order 9, dom0 of order 18', () => {
    const xen = new Toolstack();
    const domid = xen.hvm();
    xen.setMaxMem(domid, 1 << 20);
    xen.caller = xen.domain(domid);
    expect(xen.populate(0x7ff0, 0, 1, 10)).toBe(0);
    expect(xen.populate(0x7ff0, 0, 1, 9)).toBe(1);
    expect(xen.populate(0, 0, 1)).toBe(0);
  });

  test('a PV domain is told which frames it got', () => {
    const xen = new Toolstack();
    const { domid } = xen.create({ flags: 0, arch: { emulation_flags: 0, misc_flags: 0 } });
    xen.setMaxMem(domid, 64);
    const memory = new TestMemory();
    const extent_start = memory.put(u64List([7, 8]));
    const value = { extent_start, nr_extents: 2n, domid };
    const args = [M.XENMEM.populate_physmap];
    expect(xen.withStruct(HYPERVISOR.memory_op, args, M.xen_memory_reservation, value, memory).result).toBe(2);
    const mfns = new BigUint64Array(memory.bytes.slice(0, 16).buffer);
    const mapping = xen.hypervisor.callsOfDom0().foreignFrames(domid, [...mfns, 7n]);
    expect(mapping.runs).toHaveLength(1);
    expect(mapping.runs[0]).toMatchObject({ page: 0, nrPages: 2 });
    expect(mapping.errors).toEqual([{ page: 2, nrPages: 1, errno: 1 }]);
    mapping.release();
    expect(xen.populate(domid, 0, 1, 1)).toBe(0);
  });
});

describe('add_to_physmap', () => {
  const xen = new Toolstack();
  const n = xen.hvm();
  xen.populate(n, 4, 12);
  const { p2m, memory } = xen.domain(n);

  test.each<[string, () => unknown, unknown]>([
    ['gmfn 4 -> 0x100', () => xen.addToPhysmap(n, gmfn, 4, 0x100), 0],
    ['of a hole', () => xen.addToPhysmap(n, gmfn, 4, 0x101), 'EINVAL'],
    ['onto itself', () => xen.addToPhysmap(n, gmfn, 5, 5), 0],
    ['onto another page, which is freed', () => xen.addToPhysmap(n, gmfn, 5, 6), 0],
    ['pages left', () => memory.totPages, 11],
    ['gfn 1<<40', () => xen.addToPhysmap(n, gmfn, 6, 1n << 40n), 'ENOENT'],
    ['gfn ~0', () => xen.addToPhysmap(n, gmfn, 6, INVALID), 'EINVAL'],
    ['domain 999', () => xen.addToPhysmap(999, gmfn, 6, 1), 'ESRCH'],
    ['a foreign page', () => xen.addToPhysmap(n, gmfn_foreign, 6, 1), 'ENOSYS'],
    ['device memory', () => xen.addToPhysmap(n, dev_mmio, 6, 1), 'EACCES'],
    ['space 7', () => xen.addToPhysmap(n, 7, 6, 1), 'EINVAL'],
    ['shared info', () => xen.addToPhysmap(n, shared_info, 0, 0x200), 0],
    ['where shared info is', () => xen.info(n).shared_info_frame, 0x200n],
    ['shared info 1', () => xen.addToPhysmap(n, shared_info, 1, 0x201), 'EINVAL'],
    ['dom0 has no physmap', () => xen.addToPhysmap(0, gmfn, 0, 0), 'EACCES'],
  ])('%s', (_, action, expected) => {
    expect(action()).toBe(expected);
  });

  test('shared info moves, and is unhooked but not freed', () => {
    expect(xen.addToPhysmap(n, shared_info, 0, 0x201)).toBe(0);
    expect(p2m.type(0x200)).toBe('mmio_dm');
    const pages = memory.totPages;
    expect(xen.decrease(n, 0x201, 1)).toBe(1);
    expect(memory.totPages).toBe(pages);
    expect(xen.info(n).shared_info_frame).toBe(INVALID);
    expect(xen.addToPhysmap(n, shared_info, 0, 0x202)).toBe(0);
  });

  test('a range moves page by page', () => {
    const before = [7, 8, 9].map((gfn) => p2m.mfn(gfn));
    xen.preemption = new AlwaysPreempt();
    expect(xen.addToPhysmap(n, gmfn_range, 7, 0x300, 3)).toBe(0);
    expect([0x300, 0x301, 0x302].map((gfn) => p2m.mfn(gfn))).toEqual(before);
    expect(xen.addToPhysmap(n, gmfn_range, INVALID - 1n, 0x300, 3)).toBe('EOVERFLOW');
    expect(xen.addToPhysmap(n, gmfn_range, 0x302, 0x400, 3)).toBe('EINVAL');
    expect(p2m.mfn(0x400)).toBe(before[2]);
  });

  test('a batch has an errno for each entry', () => {
    const caller = new TestMemory();
    const idxs = caller.put(u64List([10, 0x999, 11]));
    const gpfns = caller.put(u64List([0x500, 0x501, 1n << 40n]));
    const errs = caller.put(new Uint8Array(12).fill(0xaa));
    const batch = { domid: n, space: gmfn, size: 3, u: { foreign_domid: 0, res0: 0 }, idxs, gpfns, errs };
    const args = [M.XENMEM.add_to_physmap_batch];
    expect(xen.withStruct(HYPERVISOR.memory_op, args, M.xen_add_to_physmap_batch, batch, caller).result).toBe(0);
    expect([...new Int32Array(caller.bytes.slice(Number(errs - TestMemory.BASE)).buffer, 0, 3)]).toEqual([0, -22, -2]);
    expect(grant_table).toBe(1);
  });

  test('remove_from_physmap leaves the page with the domain', () => {
    const pages = memory.totPages;
    const call = (gpfn: bigint) =>
      xen.withStruct(HYPERVISOR.memory_op, [M.XENMEM.remove_from_physmap], M.xen_remove_from_physmap, {
        domid: n,
        gpfn,
      }).result;
    expect(call(12n)).toBe(0);
    expect(call(12n)).toBe('ENOENT');
    expect(memory.totPages).toBe(pages);
  });
});

test('pages are zeroed before they are used again, not before', () => {
  const xen = new Toolstack();
  const domid = xen.hvm();
  const { p2m, machine } = xen.domain(domid);
  xen.populate(domid, 0, 1);
  const mfn = p2m.mfn(0);
  machine.frame(mfn).fill(0x5a);
  xen.decrease(domid, 0, 1);
  machine.frame(mfn)[17] = 0x77; // whoever has it mapped still can
  xen.populate(domid, 9, 1);
  expect(p2m.mfn(9)).toBe(mfn);
  expect(machine.frame(mfn).every((byte) => byte === 0)).toBe(true);
});

describe('resources', () => {
  const xen = new Toolstack();
  const domid = xen.hvm({ max_vcpus: 2 });
  const { domids, acquire } = {
    domids: { none: 999, dom0: 0 },
    acquire: (value: object) =>
      xen.withStruct(HYPERVISOR.memory_op, [M.XENMEM.acquire_resource], M.xen_mem_acquire_resource, value),
  };
  const server = xen.domain(domid).hvm!.ioreq.create(xen.hypervisor.dom0, 2);

  test('the size of an ioreq server', () => {
    expect(acquire({ domid, type: 0, id: server }).out.nr_frames).toBe(2);
    expect(acquire({ domid: xen.hvm({ max_vcpus: 128 }), type: 0, id: 77 }).out.nr_frames).toBe(2);
  });

  test('the size of an unknown type is what Xen makes of EOPNOTSUPP', () => {
    expect(acquire({ domid, type: 77 })).toMatchObject({ result: 0, out: { nr_frames: 2 ** 32 - 95 } });
    expect(xen.hypervisor.callsOfDom0().resourceSize(domid, 77, 0)).toBe(2 ** 32 - 95);
  });

  test.each<[string, object, string]>([
    ['of domain 999', { domid: domids.none, type: 0 }, 'ESRCH'],
    ['of dom0', { domid: domids.dom0, type: 0 }, 'EPERM'],
    ['of an unknown server', { domid, type: 0, id: 77, nr_frames: 1, frame_list: TestMemory.BASE }, 'ENOENT'],
    ['of frame 5', { domid, type: 0, nr_frames: 1, frame: 5n, frame_list: TestMemory.BASE }, 'EINVAL'],
    ['of all frames and more', { domid, type: 0, nr_frames: 0x3ffffff, frame_list: TestMemory.BASE }, 'EINVAL'],
    ['of frames beyond 32 bits', { domid, type: 0, nr_frames: 1, frame: 1n << 32n, frame_list: 1n }, 'EINVAL'],
    ['of an unknown type', { domid, type: 77, nr_frames: 1, frame_list: TestMemory.BASE }, 'EOPNOTSUPP'],
    ['of traces', { domid, type: 2 }, 'EINVAL'],
    ['with padding', { domid, type: 0, pad: 1 }, 'EINVAL'],
    ['of a size without a list', { domid, type: 0, nr_frames: 1 }, 'EINVAL'],
  ])('%s', (_, value, verdict) => {
    expect(acquire(value).result).toBe(verdict);
  });

  test('a refused mapping leaves the server as it was; frames are the same each time', () => {
    const calls = xen.hypervisor.callsOfDom0();
    const extents = xen.extents.live;
    expect(() => calls.resourceFrames(domid, 0, server, 5n, 1)).toThrow('EINVAL');
    expect(xen.extents.live).toBe(extents);
    const mapping = calls.resourceFrames(domid, 0, server, 0n, 2);
    expect(mapping.runs.reduce((n, run) => n + run.nrPages, 0)).toBe(2);
    expect(calls.resourceFrames(domid, 0, server, 0n, 2).runs).toEqual(mapping.runs);
    const list = new TestMemory();
    const frame_list = list.put(u64List([0, 0]));
    const value = { domid, type: 0, id: server, nr_frames: 2, frame_list };
    const args = [M.XENMEM.acquire_resource];
    expect(xen.withStruct(HYPERVISOR.memory_op, args, M.xen_mem_acquire_resource, value, list).result).toBe(0);
    const [first] = new BigUint64Array(list.bytes.slice(0, 8).buffer);
    expect(xen.hypervisor.machine.place(Number(first)).extent).toBe(mapping.runs[0]?.extent);
  });
});
