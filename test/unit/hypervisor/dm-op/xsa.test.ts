/**
 * Classes of published Xen security advisories about DM operations, ioreq servers and their pages, each as a regression
 * test by its number. What is tested is the class as it could come back here, not the original code.
 */
import { beforeEach, describe, expect, test } from 'vitest';
import { decode } from '../../../../dist/abi/layout.js';
import * as abi from '../../../../dist/abi/xen/dm-op.js';
import {
  buffered_iopage,
  IOREQ_BUFFER_SLOT_NUM,
  ioreq,
  STATE_IOREQ_INPROCESS,
  STATE_IOREQ_READY,
} from '../../../../dist/abi/xen/ioreq.js';
import type { IoRequest, IoResult } from '../../../../dist/hypervisor/ioreq/io-request.js';
import { dm, guestPage, runRaw, TestBuffer, type TestDomain, testDomain } from '../../../support/dm-op.js';
import { FakeDeviceModel } from '../../../support/fake-device-model.js';

const { XEN_DMOP_IO_RANGE_PORT: PORT, XEN_DMOP_IO_RANGE_MEMORY: MEMORY } = abi;
const MAX = 0xffff_ffff_ffff_ffffn;

let t: TestDomain;
beforeEach(() => {
  t = testDomain();
});

function start(access: Partial<IoRequest> & Pick<IoRequest, 'addr'>, vcpu = 0): IoResult[] {
  const results: IoResult[] = [];
  const request: IoRequest = { space: 'port', size: 1, isWrite: false, data: 0n, ...access };
  t.hvm.ioreq.dispatcher.start(vcpu, request, (result) => results.push(result));
  return results;
}

describe('XSA-506: a buffer that is missing is read as whatever was left there', () => {
  test.each([
    ['track_dirty_vram', abi.XEN_DMOP_track_dirty_vram, { nr: 64 }],
    ['modified_memory', abi.XEN_DMOP_modified_memory, { nr_extents: 1 }],
  ])('%s answers the same whatever the call before it had as its second buffer', (_, op, args) => {
    t.hvm.logDirty.enable(false);
    for (const fill of [0, 0x41, 0xff]) {
      const left = new TestBuffer(new Uint8Array(4096).fill(fill));
      dm(t, op, args, [left]);
      expect(dm(t, op, args).verdict).toBe('EINVAL');
    }
  });
});

describe('XSA-238: a range that ends before it starts', () => {
  test('is neither claimed nor given up', () => {
    dm(t, abi.XEN_DMOP_create_ioreq_server);
    for (const op of [abi.XEN_DMOP_map_io_range_to_ioreq_server, abi.XEN_DMOP_unmap_io_range_from_ioreq_server]) {
      for (const [start, end] of [
        [1n, 0n],
        [MAX, 0n],
        [MAX, MAX - 1n],
      ]) {
        expect(dm(t, op, { type: PORT, start, end }).verdict).toBe('EINVAL');
      }
    }
    expect(t.hvm.ioreq.get(0)?.ranges[PORT]?.size).toBe(0);
  });

  test('nor is an access that wraps taken for one', () => {
    new FakeDeviceModel(t).claim(MEMORY, 0n, MAX).claim(PORT, 0n, MAX);
    expect(start({ space: 'memory', addr: MAX, size: 2 })[0]?.outcome).toBe('unclaimed');
    expect(start({ addr: MAX - 2n, size: 4 })[0]?.outcome).toBe('unclaimed');
  });
});

describe('XSA-262: a state that is set backwards makes a vCPU wait for ever', () => {
  test('the wait ends with the domain, whatever sequence the device model plays', () => {
    const dm0 = new FakeDeviceModel(t).claim(PORT, 0n, 0xffn);
    const results = start({ addr: 1n });
    for (let i = 0; i < 100 && results.length === 0; i++) {
      dm0.setState(0, i % 2 === 0 ? STATE_IOREQ_INPROCESS : STATE_IOREQ_READY);
      dm0.notify(0);
    }
    expect(results[0]?.outcome).toBe('crashed');
    expect(t.domain.shutdownCode).toBe(3);
  });
});

describe('XSA-276: pages are freed while they are mapped', () => {
  test("a server's extent is its own: it never becomes a guest's or another server's memory", () => {
    const { dom0, machine } = t.hypervisor;
    t.hvm.ioreq.create(dom0, 2);
    const [mfn] = t.hvm.ioreq.resourceFrames(dom0, 0, 1n, 1);
    const { extent } = machine.place(mfn!);
    const stale = extent.bytes; // what a process that doesn't unmap keeps
    t.hvm.ioreq.destroy(dom0, 0);
    t.hvm.ioreq.create(dom0, 2);
    const [again] = t.hvm.ioreq.resourceFrames(dom0, 0, 1n, 1);
    expect(machine.place(again!).extent).not.toBe(extent);
    t.hvm.ioreq.setState(dom0, 0, true);
    expect(stale.every((byte) => byte === 0)).toBe(true);
  });

  test('a guest cannot have a page freed that is being used through its frame', () => {
    const { dom0 } = t.hypervisor;
    t.hvm.ioreq.create(dom0, 0);
    t.hvm.ioreq.info(dom0, 0, true);
    t.hvm.ioreq.setState(dom0, 0, true);
    const args = { size: 1, src_gfn: 0xfeff0n, dst_gfn: 0x900n };
    expect(dm(t, abi.XEN_DMOP_relocate_memory, args).verdict).toBe('EINVAL');
    expect(dm(t, abi.XEN_DMOP_relocate_memory, { size: 1, src_gfn: 5n, dst_gfn: 0xfeff0n }).verdict).toBe('OK');
    const { totPages } = t.domain.memory;
    t.hvm.ioreq.setState(dom0, 0, false);
    t.hvm.ioreq.destroy(dom0, 0);
    expect(t.domain.memory.totPages).toBe(totPages);
    expect(guestPage(t, 0xfeff0).every((byte) => byte === 0)).toBe(true);
  });
});

describe('XSA-397: tracking dirty memory races with log-dirty being switched off', () => {
  test('between two slices of either', () => {
    t.hvm.logDirty.enable(false);
    const args = { first_pfn: 0n, nr: 2048 };
    dm(t, abi.XEN_DMOP_track_dirty_vram, args, [TestBuffer.zeros(256)]);
    const toggle = {
      due() {
        if (t.hvm.logDirty.isEnabled) t.hvm.logDirty.disable();
        else t.hvm.logDirty.enable(false);
        return true;
      },
    };
    const bitmap = TestBuffer.zeros(256);
    expect(dm(t, abi.XEN_DMOP_track_dirty_vram, args, [bitmap], toggle).verdict).toBe('OK');
    expect(bitmap.bytes.every((byte) => byte === 0)).toBe(true);
    const extent = new TestBuffer(new Uint8Array(16));
    new DataView(extent.bytes.buffer).setUint32(0, 1024, true);
    expect(dm(t, abi.XEN_DMOP_modified_memory, { nr_extents: 1 }, [extent], toggle).verdict).toBe('OK');
  });
});

describe('XSA-491: a list of claims changes while it is walked', () => {
  test('servers that are created and destroyed from within completions', () => {
    const { dom0 } = t.hypervisor;
    const dm0 = new FakeDeviceModel(t).claim(PORT, 0n, 0xffn);
    const dm1 = new FakeDeviceModel(t);
    const outcomes: string[] = [];
    const port = (addr: bigint): IoRequest => ({ space: 'port', addr, size: 1, isWrite: false, data: 0n });
    t.hvm.ioreq.dispatcher.start(0, port(1n), (first) => {
      outcomes.push(first.outcome);
      t.hvm.ioreq.destroy(dom0, dm1.id);
      t.hvm.ioreq.destroy(dom0, dm0.id); // vCPU 1 waits for this one
      t.hvm.ioreq.create(dom0, 0);
    });
    t.hvm.ioreq.dispatcher.start(1, port(2n), (second) => outcomes.push(second.outcome));
    dm0.answer(0, 0n);
    expect(outcomes).toEqual(['served', 'lost']);
  });
});

describe('XSA-239: bytes that nobody has set reach the device model', () => {
  test('a slot holds the request and zeros, whatever was there', () => {
    const dm0 = new FakeDeviceModel(t).claim(MEMORY, 0n, 0xffffn);
    const port = dm0.slotPort(0);
    const bytes = new Uint8Array(dm0.page.buffer, dm0.page.byteOffset, ioreq.size).fill(0xee);
    dm0.setSlotPort(0, port);
    dm0.setState(0, 0);
    start({ space: 'memory', addr: 0x10n, size: 4 });
    expect(decode(ioreq, bytes)).toEqual({
      addr: 0x10n,
      data: 0n,
      count: 1,
      size: 4,
      vp_eport: port,
      _pad0: 0,
      flags: { state: STATE_IOREQ_READY, data_is_ptr: 0, dir: 1, df: 0 },
      type: 1,
    });
    expect(bytes[30]! >> 7).toBe(0);
  });

  test('new pages are zero', () => {
    const dm0 = new FakeDeviceModel(t, 2);
    expect(new Uint8Array(dm0.ring.buffer, dm0.ring.byteOffset, 4096).every((byte) => byte === 0)).toBe(true);
  });
});

describe('XSA-166: a request that is read twice', () => {
  test('nothing but state and data of a slot is taken from the device model', () => {
    const dm0 = new FakeDeviceModel(t).claim(MEMORY, 0n, 0xffffn);
    const results = start({ space: 'memory', addr: 0x10n, size: 2, count: 4 });
    const { fields } = ioreq;
    fields.addr.set(dm0.page, 0, 0x5000n);
    fields.size.set(dm0.page, 0, 8);
    fields.count.set(dm0.page, 0, 1000);
    fields.type.set(dm0.page, 0, 7);
    fields.vp_eport.set(dm0.page, 0, 1);
    dm0.answer(0, MAX);
    expect(results).toEqual([{ data: 0xffffn, outcome: 'served', count: 4 }]);
  });
});

describe('XSA-197: pointers of a shared ring are fetched twice', () => {
  test('the ring goes by one reading of each', () => {
    const dm0 = new FakeDeviceModel(t, abi.HVM_IOREQSRV_BUFIOREQ_LEGACY).claim(MEMORY, 0xa0000n, 0xbffffn);
    const page = t.hvm.ioreq.get(0)!.bufioreqPage!;
    const loads: number[] = [];
    const { load } = Atomics;
    const counting = (words: Int32Array, index: number) => {
      if (words === page.words) loads.push(index);
      return load(words, index);
    };
    Object.defineProperty(Atomics, 'load', { value: counting, configurable: true, writable: true });
    try {
      start({ space: 'memory', addr: 0xa0000n, size: 8, isWrite: true, buffered: true });
    } finally {
      Object.defineProperty(Atomics, 'load', { value: load, configurable: true, writable: true });
    }
    expect(loads.sort()).toEqual([0, 1]);
    expect(dm0.bufferedNotified).toBe(1);
  });
});

describe('XSA-199: a number of the other side indexes a table', () => {
  const { read_pointer, write_pointer } = buffered_iopage.fields;
  test.each([
    [0, IOREQ_BUFFER_SLOT_NUM - 2],
    [0xffffff00, 0xfffffffe],
    [0xffffffff, 0xffffffff],
    [0x7fffffff, 0x80000000],
  ])('write pointers as far as they go (%i, %i): the page next to the ring stays as it was', (read, written) => {
    for (const handling of [abi.HVM_IOREQSRV_BUFIOREQ_LEGACY, abi.HVM_IOREQSRV_BUFIOREQ_ATOMIC]) {
      t = testDomain();
      const dm0 = new FakeDeviceModel(t, handling).claim(MEMORY, 0xa0000n, 0xbffffn);
      const before = t.hvm.ioreq.get(0)!.ioreqPage!.bytes.slice();
      read_pointer.set(dm0.ring, 0, read);
      write_pointer.set(dm0.ring, 0, written);
      const results = start({ space: 'memory', addr: 0xa0000n, size: 8, isWrite: true, buffered: true });
      expect(results).toHaveLength(1);
      expect(t.hvm.ioreq.get(0)!.ioreqPage!.bytes).toEqual(before);
    }
  });

  test('ids, lines and vCPUs beyond their tables', () => {
    for (const id of [8, 9, 0xff, 0xffff]) {
      expect(dm(t, abi.XEN_DMOP_destroy_ioreq_server, { id }).verdict).toBe('ENOENT');
      expect(dm(t, abi.XEN_DMOP_get_ioreq_server_info, { id, flags: 1 }).verdict).toBe('ENOENT');
    }
    expect(dm(t, abi.XEN_DMOP_inject_event, { vcpuid: 0x80000000 }).verdict).toBe('EINVAL');
  });
});

describe('XSA-478: memory that changes between check and use', () => {
  test('a buffer that is rewritten after every copy changes nothing of a call in progress', () => {
    const bytes = new Uint8Array(32);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, abi.XEN_DMOP_set_mem_type, true);
    view.setUint32(8, 0x400, true);
    view.setUint16(12, abi.HVMMEM_ram_ro, true);
    const buffer = new TestBuffer(bytes);
    buffer.onRead = () => bytes.fill(0xff);
    const rewrite = {
      due() {
        bytes.fill(0xff);
        return true;
      },
    };
    expect(runRaw(t.hypervisor, t.domain.domid, [buffer], rewrite)).toEqual({ verdict: 'OK', slices: 4 });
    expect(Math.max(...buffer.reads)).toBe(1);
    expect([t.domain.p2m.type(0x3ff), t.domain.p2m.type(0x400)]).toEqual(['ram_ro', 'ram_rw']);
  });
});

describe('XSA-180: what a guest or device model does fills something without bound', () => {
  test('wake-ups, refusals and events leave nothing behind', () => {
    const dm0 = new FakeDeviceModel(t).claim(PORT, 0n, 0xffn);
    const { machine } = t.hypervisor;
    const before = { extents: machine.nrExtents, ports: t.domain.evtchn.nrActive };
    for (let i = 0; i < 5000; i++) {
      dm0.notify(i & 1);
      dm(t, abi.XEN_DMOP_inject_event, { vcpuid: 0, vector: i & 0xff });
      dm(t, abi.XEN_DMOP_map_io_range_to_ioreq_server, { type: PORT, start: 0n, end: 0xffn });
      start({ addr: 0x1000n });
    }
    expect({ extents: machine.nrExtents, ports: t.domain.evtchn.nrActive }).toEqual(before);
    expect(t.hvm.ioreq.get(dm0.id)?.ranges[PORT]?.size).toBe(1);
  });
});
