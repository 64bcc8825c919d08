/** ioreq servers through DM operations, in the order and with the results measured on real Xen. */
import { beforeEach, describe, expect, test } from 'vitest';
import * as abi from '../../../../dist/abi/xen/dm-op.js';
import { addDomain, dm, guestPage, type TestDomain, testDomain, verdictOf } from '../../../support/dm-op.js';

const { XEN_DMOP_IO_RANGE_PORT: PORT, XEN_DMOP_IO_RANGE_MEMORY: MEMORY, XEN_DMOP_IO_RANGE_PCI: PCI } = abi;
const MAX = 0xffff_ffff_ffff_ffffn;

let t: TestDomain;
beforeEach(() => {
  t = testDomain();
});

const create = (handle_bufioreq: number) => dm(t, abi.XEN_DMOP_create_ioreq_server, { handle_bufioreq, id: 0xffff });
const destroy = (id: number) => dm(t, abi.XEN_DMOP_destroy_ioreq_server, { id }).verdict;
const setState = (id: number, enabled: number) => dm(t, abi.XEN_DMOP_set_ioreq_server_state, { id, enabled }).verdict;
const info = (id: number, flags: number) =>
  dm(t, abi.XEN_DMOP_get_ioreq_server_info, {
    id,
    flags,
    bufioreq_port: 0x1234,
    ioreq_gfn: 0xaaaan,
    bufioreq_gfn: 0xbbbbn,
  });
const map = (id: number, type: number, start: bigint, end: bigint) =>
  dm(t, abi.XEN_DMOP_map_io_range_to_ioreq_server, { id, type, start, end }).verdict;
const unmap = (id: number, type: number, start: bigint, end: bigint) =>
  dm(t, abi.XEN_DMOP_unmap_io_range_from_ioreq_server, { id, type, start, end }).verdict;
const mapMemType = (id: number, flags: number, type: number = abi.HVMMEM_ioreq_server, opaque = 0n) =>
  dm(t, abi.XEN_DMOP_map_mem_type_to_ioreq_server, { id, type, flags, opaque }).verdict;
const setMemType = (mem_type: number, first_pfn: bigint, nr = 1) =>
  dm(t, abi.XEN_DMOP_set_mem_type, { mem_type, first_pfn, nr }).verdict;
const resource = (id: number, frame: number, nr: number) =>
  verdictOf(() => t.hvm.ioreq.resourceFrames(t.hypervisor.dom0, id, BigInt(frame), nr));

/** vp_eport of a vCPU's slot. */
function slotPort(id: number, vcpuId: number): number | undefined {
  return t.hvm.ioreq.get(id)?.ioreqPage?.port(vcpuId);
}

describe('creation', () => {
  test('as measured: ids are the lowest free, eight at most', () => {
    expect(create(abi.HVM_IOREQSRV_BUFIOREQ_OFF)).toMatchObject({ verdict: 'OK', out: { id: 0 } });
    expect(create(abi.HVM_IOREQSRV_BUFIOREQ_ATOMIC).out.id).toBe(1);
    expect(create(3)).toMatchObject({ verdict: 'EINVAL', out: { id: 65535 } });
    expect(create(abi.HVM_IOREQSRV_BUFIOREQ_LEGACY).out.id).toBe(2);
    for (let id = 3; id < 8; id++) expect(create(0).out.id).toBe(id);
    expect(create(0).verdict).toBe('ENOSPC');
    expect(destroy(5)).toBe('OK');
    expect(create(0).out.id).toBe(5);
    expect(destroy(77)).toBe('ENOENT');
  });

  test.each([0, 1, 2])('padding byte %i must be zero', (i) => {
    const pad = [0, 0, 0];
    pad[i] = 1;
    expect(dm(t, abi.XEN_DMOP_create_ioreq_server, { pad }).verdict).toBe('EINVAL');
  });

  test('channels come in the order in which Xen takes them: a vCPU each, the buffered one after the first', () => {
    create(0); // 1, 2
    create(1); // 3, 5 and 4
    setState(1, 1);
    resource(1, 1, 1);
    setState(1, 0);
    setState(1, 1);
    expect([slotPort(1, 0), slotPort(1, 1), info(1, 1).out.bufioreq_port]).toEqual([3, 5, 4]);
  });

  test('running out of event channels leaves nothing behind', () => {
    t = addDomain(t.hypervisor, { vcpus: 128 });
    const { evtchn } = t.domain;
    const channels = () => evtchn.nrActive;
    while (verdictOf(() => evtchn.allocUnbound(0)) === 'OK');
    for (let i = 0; i < 64; i++) evtchn.closeByGuest(100 + i);
    const before = channels();
    expect(create(2).verdict).toBe('ENOSPC');
    expect(channels()).toBe(before);
    expect(t.hvm.ioreq.size).toBe(0);
  });

  test('on a dying domain: refused', () => {
    t.domain.hold();
    t.domain.kill({ due: () => false });
    expect(create(0).verdict).toBe('EINVAL');
  });
});

describe('get_ioreq_server_info', () => {
  test('refusals', () => {
    expect(info(77, 0).verdict).toBe('ENOENT');
    create(1);
    expect(info(0, 2).verdict).toBe('EINVAL');
    expect(info(0, 3).verdict).toBe('EINVAL');
  });

  test('fields that do not apply stay as they were', () => {
    create(0);
    expect(info(0, 1).out).toMatchObject({ bufioreq_port: 0x1234, ioreq_gfn: 0xaaaan, bufioreq_gfn: 0xbbbbn });
    expect(info(0, 0).out).toMatchObject({ bufioreq_port: 0x1234, ioreq_gfn: 0xfeff0n, bufioreq_gfn: 0xbbbbn });
    create(1);
    expect(info(1, 1).out).toMatchObject({ bufioreq_port: 4, ioreq_gfn: 0xaaaan });
  });
});

describe('pages in guest frames', () => {
  test('as measured: lent from the pool, out of the guest while enabled, empty afterwards', () => {
    create(1);
    guestPage(t, 0xfeff0)[0] = 0xad;
    expect(info(0, 0).out).toMatchObject({ ioreq_gfn: 0xfeff0n, bufioreq_gfn: 0xfeff1n });
    expect(guestPage(t, 0xfeff0)[0]).toBe(0xad);
    expect(info(0, 0).out.ioreq_gfn).toBe(0xfeff0n);
    expect(setState(0, 1)).toBe('OK');
    expect(t.domain.p2m.mfn(0xfeff0)).toBe(-1);
    expect(t.domain.p2m.mfn(0xfeff1)).toBe(-1);
    expect(info(0, 0).verdict).toBe('OK');
    expect(setState(0, 0)).toBe('OK');
    expect(guestPage(t, 0xfeff0).every((byte) => byte === 0)).toBe(true);
    expect(setState(0, 1)).toBe('OK');
    expect(destroy(0)).toBe('OK');
    expect(t.domain.p2m.type(0xfeff0)).toBe('ram_rw');
    expect(guestPage(t, 0xfeff0).every((byte) => byte === 0)).toBe(true);
  });

  test('frames go back to the pool and the lowest is lent next', () => {
    create(0); // fe ff0
    info(0, 0);
    create(2); // feff1, feff2
    expect(info(1, 0).out).toMatchObject({ ioreq_gfn: 0xfeff1n, bufioreq_gfn: 0xfeff2n });
    destroy(0);
    create(2);
    expect(info(0, 0).out).toMatchObject({ ioreq_gfn: 0xfeff0n, bufioreq_gfn: 0xfeff3n });
  });

  test('a pool that is used up: ENOMEM, and no half of a server keeps a frame', () => {
    for (let id = 0; id < 3; id++) {
      create(2);
      expect(info(id, 0).verdict).toBe('OK');
    }
    create(0);
    expect(info(3, 0).verdict).toBe('OK'); // 7 of 8 are lent
    create(2);
    expect(info(4, 0).verdict).toBe('ENOMEM');
    create(0);
    expect(info(5, 0).out.ioreq_gfn).toBe(0xfeff7n);
  });

  test('a frame that is not memory: EINVAL, and the frame is lent again', () => {
    t.domain.memory.free(t.domain.p2m.remove(0xfeff0));
    create(0);
    expect(info(0, 0).verdict).toBe('EINVAL');
    expect(info(0, 0).verdict).toBe('EINVAL');
    expect(info(0, 1).verdict).toBe('OK');
  });

  test('a page that the guest has freed meanwhile crashes the domain and is not used', () => {
    create(0);
    info(0, 0);
    t.domain.memory.free(t.domain.p2m.remove(0xfeff0));
    expect(setState(0, 1)).toBe('OK');
    expect(t.domain.shutdownCode).toBe(3);
    expect(t.hvm.ioreq.get(0)?.ioreqPage).toBeUndefined();
    expect(setState(0, 0)).toBe('OK');
    expect(t.domain.p2m.mfn(0xfeff0)).toBe(-1);
  });
});

describe('pages as a resource', () => {
  test('as measured', () => {
    create(0);
    create(1);
    expect(t.hvm.ioreq.resourceMaxFrames).toBe(2);
    expect(resource(0, 0, 1)).toBe('ENOENT'); // no buffered page
    expect(resource(0, 1, 1)).toBe('OK');
    expect(resource(0, 0, 2)).toBe('ENOENT');
    expect(resource(1, 2, 1)).toBe('EINVAL');
    expect(resource(1, 1, 2)).toBe('EINVAL');
    expect(resource(1, 5, 1)).toBe('EINVAL');
    expect(resource(77, 0, 1)).toBe('ENOENT');
    expect(resource(0x10000, 0, 1)).toBe('EINVAL');
    expect(resource(1, 0, 2)).toBe('OK');
    expect(info(1, 1).verdict).toBe('OK');
    expect(info(1, 0)).toMatchObject({ verdict: 'EPERM', out: { ioreq_gfn: 0xaaaan, bufioreq_gfn: 0xbbbbn } });
  });

  test('after guest frames: refused, and the server is as it was', () => {
    create(1);
    info(0, 0);
    const { machine } = t.hypervisor;
    const before = machine.nrExtents;
    expect(resource(0, 0, 1)).toBe('EPERM');
    expect(resource(0, 1, 1)).toBe('EPERM');
    expect(machine.nrExtents).toBe(before);
    expect(info(0, 0).out).toMatchObject({ ioreq_gfn: 0xfeff0n, bufioreq_gfn: 0xfeff1n });
    expect(setState(0, 1)).toBe('OK');
    expect(slotPort(0, 0)).not.toBe(0);
  });

  test('a refused frame allocates nothing: guest frames are still possible', () => {
    create(0);
    expect(resource(0, 0, 1)).toBe('ENOENT');
    expect(resource(0, 5, 1)).toBe('EINVAL');
    expect(info(0, 0).verdict).toBe('OK');
  });

  test('the extent goes with the server', () => {
    const { machine } = t.hypervisor;
    const before = machine.nrExtents;
    create(2);
    resource(0, 0, 2);
    expect(machine.nrExtents).toBe(before + 1);
    destroy(0);
    expect(machine.nrExtents).toBe(before);
  });
});

describe('state', () => {
  test('as measured', () => {
    create(0);
    expect(setState(0, 1)).toBe('OK');
    expect(setState(0, 1)).toBe('OK');
    expect(setState(0, 0)).toBe('OK');
    expect(setState(0, 2)).toBe('OK');
    expect(t.hvm.ioreq.get(0)?.isEnabled).toBe(true);
    expect(setState(77, 1)).toBe('ENOENT');
    expect(dm(t, abi.XEN_DMOP_set_ioreq_server_state, { id: 0, pad: 1 }).verdict).toBe('EINVAL');
    expect(dm(t, abi.XEN_DMOP_destroy_ioreq_server, { id: 0, pad: 1 }).verdict).toBe('EINVAL');
  });

  test('channels are shown when the server is enabled, and stay shown', () => {
    create(2);
    resource(0, 0, 2);
    expect(slotPort(0, 0)).toBe(0);
    setState(0, 1);
    expect([slotPort(0, 0), slotPort(0, 1)]).toEqual([1, 3]);
    setState(0, 0);
    expect(slotPort(0, 0)).toBe(1);
  });

  test('a page that comes after enabling shows them only at the next', () => {
    create(2);
    setState(0, 1);
    resource(0, 1, 1);
    expect(slotPort(0, 0)).toBe(0);
    setState(0, 0);
    setState(0, 1);
    expect(slotPort(0, 0)).toBe(1);
  });
});

describe('ranges', () => {
  test('as measured', () => {
    create(0);
    create(1);
    const [first, last] = [0xf0000000n, 0xf0000fffn];
    expect(map(0, MEMORY, first, last)).toBe('OK');
    expect(map(0, MEMORY, first, last)).toBe('EEXIST');
    expect(map(0, MEMORY, first + 0x800n, last + 0x800n)).toBe('EEXIST');
    expect(map(1, MEMORY, first, last)).toBe('OK');
    expect(map(0, PORT, 0x510n, 0x511n)).toBe('OK');
    expect(map(0, PORT, 0x10000n, 0x20000n)).toBe('OK');
    expect(map(0, MEMORY, 0n, MAX)).toBe('EEXIST');
    expect(map(77, MEMORY, 0n, 1n)).toBe('ENOENT');
    expect(map(0, 3, 0n, 1n)).toBe('EINVAL');
    expect(unmap(0, MEMORY, first, last)).toBe('OK');
    expect(unmap(0, MEMORY, first, last)).toBe('ENOENT');
    expect(unmap(0, PORT, 0x510n, 0x510n)).toBe('OK');
    expect(unmap(0, PORT, 0x511n, 0x511n)).toBe('OK');
    expect(unmap(0, PORT, 1n, 0n)).toBe('EINVAL');
    const device = BigInt(abi.XEN_DMOP_PCI_SBDF(0, 0, 4, 0));
    expect(map(0, PCI, device, device)).toBe('OK');
    expect(map(0, PCI, device, device)).toBe('EEXIST');
    expect(map(1, PCI, device, device)).toBe('OK');
    expect(unmap(0, PCI, device, device)).toBe('OK');
  });

  test('order of refusals', () => {
    expect(map(77, 3, 0n, 0n)).toBe('ENOENT');
    expect(map(77, PORT, 1n, 0n)).toBe('EINVAL');
    const args = { id: 77, pad: 1, type: 3, start: 1n, end: 0n };
    expect(dm(t, abi.XEN_DMOP_map_io_range_to_ioreq_server, args).verdict).toBe('EINVAL');
    expect(dm(t, abi.XEN_DMOP_unmap_io_range_from_ioreq_server, args).verdict).toBe('EINVAL');
  });

  test('256 of a type, and what still fits then', () => {
    create(0);
    create(0);
    for (let i = 0n; i < 256n; i++) expect(map(0, MEMORY, 0x1000n + i * 4n, 0x1001n + i * 4n)).toBe('OK');
    expect(map(0, MEMORY, 0x10n, 0x10n)).toBe('ENOMEM');
    expect(map(0, MEMORY, 0x1007n, 0x1007n)).toBe('ENOMEM'); // touches the range above only
    expect(map(0, MEMORY, 0x1002n, 0x1002n)).toBe('OK'); // touches the one below
    expect(map(0, PORT, 0x10n, 0x10n)).toBe('OK');
    expect(map(1, MEMORY, 0x10n, 0x10n)).toBe('OK');
    expect(unmap(0, MEMORY, 0x1001n, 0x1001n)).toBe('ENOMEM'); // would split a range
    expect(unmap(0, MEMORY, 0x1000n, 0x1001n)).toBe('OK');
  });

  test('the ends of the number line', () => {
    create(0);
    expect(map(0, PORT, MAX, MAX)).toBe('OK');
    expect(map(0, PORT, MAX - 1n, MAX - 1n)).toBe('OK');
    expect(map(0, PORT, 0n, 0n)).toBe('OK');
    expect(unmap(0, PORT, MAX - 1n, MAX)).toBe('OK');
    expect(map(0, PORT, 1n, MAX)).toBe('OK');
    expect(unmap(0, PORT, 0n, MAX)).toBe('OK');
  });
});

describe('memory type', () => {
  const WRITE = abi.XEN_DMOP_IOREQ_MEM_ACCESS_WRITE;

  test('as measured', () => {
    create(0);
    create(0);
    expect(mapMemType(0, WRITE, 0)).toBe('EINVAL');
    expect(mapMemType(0, abi.XEN_DMOP_IOREQ_MEM_ACCESS_READ)).toBe('EINVAL');
    expect(mapMemType(0, 3)).toBe('EINVAL');
    expect(mapMemType(77, 4)).toBe('EINVAL');
    expect(mapMemType(77, WRITE)).toBe('ENOENT');
    expect(setMemType(abi.HVMMEM_ioreq_server, 0x30n)).toBe('EINVAL'); // nobody has claimed it
    expect(mapMemType(0, WRITE)).toBe('OK');
    expect(mapMemType(0, WRITE)).toBe('EBUSY');
    expect(mapMemType(1, WRITE)).toBe('EBUSY');
    expect(mapMemType(1, 0)).toBe('EINVAL');
    expect(setMemType(abi.HVMMEM_ioreq_server, 0x30n, 4)).toBe('OK');
    expect(setMemType(abi.HVMMEM_ioreq_server, 0x30n, 4)).toBe('EINVAL');
    expect(setMemType(abi.HVMMEM_ram_ro, 0x30n)).toBe('EINVAL');
    expect(setMemType(abi.HVMMEM_mmio_dm, 0x30n)).toBe('EINVAL');
    expect(setMemType(abi.HVMMEM_ram_ro, 0x38n)).toBe('OK');
    expect(setMemType(abi.HVMMEM_ioreq_server, 0x38n)).toBe('EINVAL');
    expect(setMemType(abi.HVMMEM_ram_rw, 0x30n)).toBe('OK');
    expect(mapMemType(0, 0, abi.HVMMEM_ioreq_server, 5n)).toBe('OK'); // a continuation that nobody began
    expect(mapMemType(1, WRITE)).toBe('EBUSY');
    expect(mapMemType(77, 0xff, 9, 5n)).toBe('OK');
    expect(destroy(0)).toBe('OK');
    expect(mapMemType(1, WRITE)).toBe('EBUSY'); // pages are left
    expect(setMemType(abi.HVMMEM_ioreq_server, 0x40n)).toBe('EINVAL');
    expect(setMemType(abi.HVMMEM_ram_rw, 0x31n, 3)).toBe('OK');
    expect(mapMemType(1, WRITE)).toBe('OK');
    expect(setMemType(abi.HVMMEM_ioreq_server, 0x40n, 2)).toBe('OK');
    expect(mapMemType(1, 0)).toBe('OK');
    expect(t.domain.p2m.type(0x40)).toBe('ram_rw');
    expect(setMemType(abi.HVMMEM_ram_ro, 0x40n, 2)).toBe('OK');
    expect(mapMemType(1, 0)).toBe('EINVAL');
  });
});

describe('ownership and end', () => {
  test("another domain's server cannot be touched", () => {
    const stranger = addDomain(t.hypervisor).domain;
    const id = t.hvm.ioreq.create(stranger, 1);
    expect(destroy(id)).toBe('EPERM');
    expect(info(id, 1).verdict).toBe('EPERM');
    expect(setState(id, 1)).toBe('EPERM');
    expect(map(id, PORT, 0n, 0n)).toBe('EPERM');
    expect(unmap(id, PORT, 0n, 0n)).toBe('EPERM');
    expect(mapMemType(id, abi.XEN_DMOP_IOREQ_MEM_ACCESS_WRITE)).toBe('EPERM');
    expect(resource(id, 1, 1)).toBe('EPERM');
  });

  test('the end of the domain ends its servers: pages, channels, claims', () => {
    const { machine, dom0 } = t.hypervisor;
    const before = machine.nrExtents;
    const doomed = addDomain(t.hypervisor);
    doomed.hvm.ioreq.create(dom0, 2);
    doomed.hvm.ioreq.resourceFrames(dom0, 0, 0n, 2);
    doomed.hvm.ioreq.setState(dom0, 0, true);
    const port = dom0.evtchn.bindInterdomain(doomed.domain, 1);
    doomed.domain.hold();
    expect(doomed.domain.kill({ due: () => false })).toBe(true);
    expect(machine.nrExtents).toBe(before);
    expect(dom0.evtchn.status(port).state).toBe('unbound');
    t = doomed;
    expect(info(0, 1).verdict).toBe('ENOENT');
    expect(setState(0, 1)).toBe('ENOENT');
    expect(map(0, PORT, 0n, 0n)).toBe('ENOENT');
    expect(mapMemType(0, abi.XEN_DMOP_IOREQ_MEM_ACCESS_WRITE)).toBe('ENOENT');
    expect(resource(0, 0, 1)).toBe('ENOENT');
    expect(doomed.domain.evtchn.nrActive).toBe(0);
  });
});
