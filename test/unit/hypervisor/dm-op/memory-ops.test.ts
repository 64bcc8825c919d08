/** set_mem_type, modified_memory, track_dirty_vram, relocate_memory and pin_memory_cacheattr, as measured on real Xen. */
import { beforeEach, describe, expect, test } from 'vitest';
import { encode } from '../../../../dist/abi/layout.js';
import * as abi from '../../../../dist/abi/xen/dm-op.js';
import {
  ALWAYS_PREEMPT,
  dm,
  dmOpBytes,
  guestPage,
  runRaw,
  TestBuffer,
  type TestDomain,
  testDomain,
} from '../../../support/dm-op.js';

let t: TestDomain;
beforeEach(() => {
  t = testDomain();
});

const setMemType = (mem_type: number, first_pfn: bigint, nr: number, pad = 0) =>
  dm(t, abi.XEN_DMOP_set_mem_type, { mem_type, first_pfn, nr, pad }).verdict;

describe('set_mem_type', () => {
  const { HVMMEM_ram_rw: RW, HVMMEM_ram_ro: RO, HVMMEM_mmio_dm: MMIO, HVMMEM_unused, HVMMEM_ioreq_server } = abi;

  test.each([
    ['ram_ro', RO, 0x20n, 4, 'OK'],
    ['ram_rw where it is already', RW, 0x20n, 4, 'OK'],
    ['unused', HVMMEM_unused, 0x20n, 4, 'EINVAL'],
    ['unknown type', 5, 0x60n, 1, 'EINVAL'],
    ['unknown type, wide', 0xffff, 0x60n, 1, 'EINVAL'],
    ['ioreq_server that nobody has claimed', HVMMEM_ioreq_server, 0x20n, 4, 'EINVAL'],
    ['a hole', RO, 0x900n, 1, 'EINVAL'],
    ['a hole as device memory, which it is', MMIO, 0x900n, 1, 'OK'],
    ['partly a hole', RO, 0x7ffn, 2, 'EINVAL'],
    ['nothing', RO, 0x20n, 0, 'EINVAL'],
    ['nothing, from 0', RW, 0n, 0, 'EINVAL'],
    ['wraps', RO, 0xffff_ffff_ffff_ffffn, 2, 'EINVAL'],
    ['the highest page', RW, 0xfefffn, 1, 'OK'],
    ['across the highest page', RW, 0xfefffn, 2, 'EINVAL'],
    ['beyond the highest page', RW, 0xff000n, 1, 'EINVAL'],
    ['far beyond', RW, 1n << 63n, 0xffffffff, 'EINVAL'],
  ])('%s', (_, type, first, nr, verdict) => {
    expect(setMemType(type, first, nr)).toBe(verdict);
  });

  test('padding must be zero', () => {
    expect(setMemType(RO, 0x20n, 1, 1)).toBe('EINVAL');
  });

  test('what is done before a failure stays', () => {
    expect(setMemType(RO, 0x7ffn, 2)).toBe('EINVAL');
    expect(t.domain.p2m.type(0x7ff)).toBe('ram_ro');
  });

  test('device memory is gone from the map, and not given back', () => {
    const { totPages } = t.domain.memory;
    expect(setMemType(MMIO, 0x50n, 1)).toBe('OK');
    expect(t.domain.p2m.mfn(0x50)).toBe(-1);
    expect(setMemType(RW, 0x50n, 1)).toBe('EINVAL');
    expect(t.domain.memory.totPages).toBe(totPages);
  });

  test('progress is the rest of the region, and what the caller writes over it has no effect', () => {
    const buffer = new TestBuffer(dmOpBytes(abi.XEN_DMOP_set_mem_type, { mem_type: RO, first_pfn: 0n, nr: 0x800 }));
    const rest: number[] = [];
    const preemption = {
      due() {
        rest.push(new DataView(buffer.bytes.buffer).getUint32(8, true));
        buffer.bytes.fill(0xff, 8); // the caller's own memory, while the call waits
        return true;
      },
    };
    const { verdict, slices } = runRaw(t.hypervisor, t.domain.domid, [buffer], preemption);
    expect({ verdict, slices }).toEqual({ verdict: 'OK', slices: 8 });
    expect(rest).toEqual([0x800, 0x700, 0x600, 0x500, 0x400, 0x300, 0x200]);
    for (let gfn = 0; gfn < 0x800; gfn++) expect(t.domain.p2m.type(gfn)).toBe('ram_ro');
  });
});

function extents(...list: { first_pfn: bigint; nr: number; pad?: number }[]): TestBuffer {
  const parts = list.map((e) => encode(abi.xen_dm_op_modified_memory_extent, { pad: 0, ...e }));
  return new TestBuffer(new Uint8Array(parts.flatMap((part) => [...part])));
}

function dirtyGfns(first: number, nr: number): number[] {
  const bitmap = new Uint8Array(nr / 8);
  t.hvm.logDirty.copyBits(first, bitmap, false);
  return Array.from({ length: nr }, (_, i) => first + i).filter((_, i) => bitmap[i >> 3]! & (1 << (i & 7)));
}

describe('modified_memory', () => {
  const modified = (nr_extents: number, opaque: number, ...buffers: TestBuffer[]) =>
    dm(t, abi.XEN_DMOP_modified_memory, { nr_extents, opaque }, buffers);

  test('without log-dirty nothing is looked at', () => {
    expect(modified(1, 0, extents({ first_pfn: 3n, nr: 2 })).verdict).toBe('OK');
    expect(modified(1, 0, extents({ first_pfn: 3n, nr: 0 })).verdict).toBe('OK');
    expect(modified(1, 0, extents({ first_pfn: 1n << 40n, nr: 1 })).verdict).toBe('OK');
    expect(modified(2, 0, extents({ first_pfn: 1n, nr: 1 }, { first_pfn: 2n, nr: 1, pad: 1 })).verdict).toBe('OK');
    expect(modified(0xffffffff, 7, TestBuffer.zeros(0)).verdict).toBe('OK');
  });

  test('without its buffer it fails, log-dirty or not', () => {
    expect(modified(1, 0).verdict).toBe('EINVAL');
    expect(modified(1, 5).verdict).toBe('EINVAL');
    t.hvm.logDirty.enable(false);
    expect(modified(1, 0).verdict).toBe('EINVAL');
  });

  describe('with log-dirty', () => {
    beforeEach(() => t.hvm.logDirty.enable(false));

    test.each([
      ['pages', 3n, 2, 'OK'],
      ['a hole below the highest page', 0x900n, 1, 'OK'],
      ['up to the last page but one', 0xfeffen, 1, 'OK'],
      ['the highest page, which Xen cannot name', 0xfefffn, 1, 'EINVAL'],
      ['beyond', 0xff000n, 1, 'EINVAL'],
      ['nothing', 3n, 0, 'EINVAL'],
      ['far beyond', 1n << 40n, 1, 'EINVAL'],
      ['wraps', 0xffff_ffff_ffff_ffffn, 2, 'EINVAL'],
      ['everything', 0n, 0xfeffe, 'OK'],
    ])('%s', (_, first_pfn, nr, verdict) => {
      expect(modified(1, 0, extents({ first_pfn, nr })).verdict).toBe(verdict);
    });

    test('marks the pages that exist', () => {
      expect(modified(2, 0, extents({ first_pfn: 5n, nr: 2 }, { first_pfn: 0x7fen, nr: 8 })).verdict).toBe('OK');
      expect(dirtyGfns(0, 0x810)).toEqual([5, 6, 0x7fe, 0x7ff]);
      expect(t.hvm.logDirty.dirtyCount).toBe(4);
    });

    test('bad extents: the struct is not touched', () => {
      const good = { first_pfn: 1n, nr: 1 };
      const bad = { first_pfn: 2n, nr: 1, pad: 1 };
      const untouched = { verdict: 'EINVAL', out: { nr_extents: 2, opaque: 0 } };
      expect(modified(2, 0, extents(good, bad))).toMatchObject(untouched);
      expect(modified(2, 0, extents(bad, good))).toMatchObject(untouched);
      expect(modified(2, 5, extents(good, good)).verdict).toBe('EINVAL');
      expect(modified(3, 0, extents(good, good)).verdict).toBe('EINVAL');
      expect(modified(0, 0, extents(good)).verdict).toBe('OK');
      expect(modified(2, 0, extents(good, good))).toMatchObject({ verdict: 'OK', out: { nr_extents: 2, opaque: 0 } });
    });

    test('a buffer one byte short of its extents', () => {
      const buffer = extents({ first_pfn: 1n, nr: 1 }, { first_pfn: 2n, nr: 1 });
      expect(modified(2, 0, new TestBuffer(buffer.bytes.subarray(0, 31))).verdict).toBe('EINVAL');
    });

    test('a buffer that cannot be read', () => {
      const buffer = extents({ first_pfn: 1n, nr: 1 });
      buffer.readableUpTo = 8;
      expect(modified(1, 0, buffer).verdict).toBe('EFAULT');
    });

    test('is preempted every 256 pages, across extents, and marks each page', () => {
      const buffer = extents({ first_pfn: 0n, nr: 300 }, { first_pfn: 0x400n, nr: 300 });
      const { verdict, slices, out } = dm(
        t,
        abi.XEN_DMOP_modified_memory,
        { nr_extents: 2, opaque: 0 },
        [buffer],
        ALWAYS_PREEMPT,
      );
      expect({ verdict, slices }).toEqual({ verdict: 'OK', slices: 3 });
      // the last extent goes first: 256 + 44 of it, then 212 of the other when it was preempted last
      expect(out).toEqual({ nr_extents: 1, opaque: 212 });
      expect(dirtyGfns(0, 0x800)).toHaveLength(600);
    });

    test('an extent that changes while the call waits is checked again', () => {
      const buffer = extents({ first_pfn: 0n, nr: 600 });
      const preemption = {
        due() {
          buffer.bytes.set(extents({ first_pfn: 0n, nr: 10 }).bytes);
          return true;
        },
      };
      const args = { nr_extents: 1, opaque: 0 };
      expect(dm(t, abi.XEN_DMOP_modified_memory, args, [buffer], preemption).verdict).toBe('EINVAL');
    });
  });
});

describe('track_dirty_vram', () => {
  const track = (first_pfn: bigint, nr: number, buffer?: TestBuffer, pad = 0) =>
    dm(t, abi.XEN_DMOP_track_dirty_vram, { first_pfn, nr, pad }, buffer ? [buffer] : []).verdict;
  const look = (first: bigint, nr: number, size = 8) => {
    const buffer = new TestBuffer(new Uint8Array(size).fill(0x55));
    expect(track(first, nr, buffer)).toBe('OK');
    return [...buffer.bytes];
  };

  test.each([
    ['exact buffer', 0n, 64, 8, 0, 'OK'],
    ['1 byte short', 0n, 64, 7, 0, 'EINVAL'],
    ['padding', 0n, 64, 8, 1, 'EINVAL'],
    ['32768 pages', 0n, 0x8000, 4096, 0, 'OK'],
    ['1 GiB', 0n, 0x40000, 32768, 0, 'OK'],
    ['more than 1 GiB', 0n, 0x40001, 32769, 0, 'EINVAL'],
    ['nothing', 0n, 0, 0, 0, 'OK'],
    ['beyond RAM', 0x900n, 64, 8, 0, 'OK'],
    ['beyond any memory', 1n << 52n, 8, 8, 0, 'OK'],
    ['wraps', 0xffff_ffff_ffff_fffcn, 8, 8, 0, 'OK'],
  ])('%s', (_, first, nr, size, pad, verdict) => {
    expect(track(first, nr, TestBuffer.zeros(size), pad)).toBe(verdict);
  });

  test('without its buffer', () => {
    expect(track(0n, 64)).toBe('EINVAL');
    expect(track(0n, 0)).toBe('EINVAL');
  });

  test('a buffer that cannot be written', () => {
    const buffer = TestBuffer.zeros(8);
    buffer.isWritable = false;
    expect(track(0n, 64, buffer)).toBe('EFAULT');
  });

  test('on a dying domain', () => {
    t.domain.hold();
    t.domain.kill({ due: () => false });
    expect(track(0n, 64, TestBuffer.zeros(8))).toBe('ESRCH');
  });

  test('as measured: all at first, then what the guest has written', () => {
    expect(look(0n, 64)[0]).toBe(0xff);
    expect(look(0n, 64)[0]).toBe(0);
    t.hvm.logDirty.guestWrote(3);
    expect(look(0n, 64)).toEqual([8, 0, 0, 0, 0, 0, 0, 0]);
    expect(look(0n, 64)[0]).toBe(0);
    expect(setMemType(abi.HVMMEM_ram_rw, 5n, 1)).toBe('OK');
    expect(look(0n, 64)[0]).toBe(0x20);
    dm(t, abi.XEN_DMOP_relocate_memory, { size: 1, src_gfn: 7n, dst_gfn: 9n });
    expect(look(0n, 64).slice(0, 2)).toEqual([0, 2]);
    expect(look(0x10n, 10).slice(0, 3)).toEqual([0xff, 0xff, 0x55]);
    expect(look(0x10n, 10).slice(0, 3)).toEqual([0, 0, 0x55]);
  });

  test('as measured: log-dirty and the device model’s own writes don’t show', () => {
    look(0x10n, 10);
    t.hvm.logDirty.enable(false);
    expect(look(0x10n, 10)[0]).toBe(0);
    dm(t, abi.XEN_DMOP_modified_memory, { nr_extents: 1 }, [extents({ first_pfn: 0x11n, nr: 1 })]);
    expect(look(0x10n, 10)[0]).toBe(0);
    t.hvm.logDirty.disable();
    expect(look(0x10n, 10)[0]).toBe(0);
  });

  test('ends with 0 pages; then all counts again', () => {
    look(0n, 8);
    expect(t.domain.p2m.type(3)).toBe('ram_logdirty');
    expect(track(0n, 0, TestBuffer.zeros(0))).toBe('OK');
    expect(t.domain.p2m.type(3)).toBe('ram_rw');
    expect(track(0n, 0, TestBuffer.zeros(0))).toBe('OK');
    expect(look(0n, 8)[0]).toBe(0xff);
  });

  test('holes are never written', () => {
    expect(look(0x7f8n, 16).slice(0, 2)).toEqual([0xff, 0xff]);
    expect(look(0x7f8n, 16).slice(0, 2)).toEqual([0, 0]);
    for (let gfn = 0x7f8; gfn < 0x808; gfn++) t.hvm.logDirty.guestWrote(gfn);
    expect(look(0x7f8n, 16).slice(0, 2)).toEqual([0xff, 0]);
  });

  test('writes that the engine has not reported yet are asked for', () => {
    look(0n, 64);
    t.hvm.logDirty.source = { flush: () => t.hvm.logDirty.guestWrote(1) };
    expect(look(0n, 64)[0]).toBe(2);
  });

  test('is preempted on large ranges', () => {
    const args = { first_pfn: 0n, nr: 2048 };
    const first = TestBuffer.zeros(256);
    expect(dm(t, abi.XEN_DMOP_track_dirty_vram, args, [first], ALWAYS_PREEMPT)).toMatchObject({
      verdict: 'OK',
      slices: 8,
    });
    t.hvm.logDirty.guestWrote(2047);
    const second = TestBuffer.zeros(256);
    dm(t, abi.XEN_DMOP_track_dirty_vram, args, [second], ALWAYS_PREEMPT);
    expect(second.bytes.indexOf(0x80)).toBe(255);
    expect(second.bytes.filter((byte) => byte !== 0)).toHaveLength(1);
  });

  test('a range that another call takes away meanwhile: what is left counts as written', () => {
    const args = { first_pfn: 0n, nr: 2048 };
    dm(t, abi.XEN_DMOP_track_dirty_vram, args, [TestBuffer.zeros(256)]);
    const bitmap = TestBuffer.zeros(256);
    let slices = 0;
    const preemption = {
      due() {
        if (++slices === 3) track(0n, 0, TestBuffer.zeros(0));
        return true;
      },
    };
    expect(dm(t, abi.XEN_DMOP_track_dirty_vram, args, [bitmap], preemption).verdict).toBe('OK');
    expect(bitmap.bytes.subarray(0, 96).every((byte) => byte === 0)).toBe(true);
    expect(bitmap.bytes.subarray(96).every((byte) => byte === 0xff)).toBe(true);
    for (let gfn = 0; gfn < 2048; gfn++) expect(t.domain.p2m.type(gfn)).toBe('ram_rw');
  });
});

describe('relocate_memory', () => {
  const relocate = (size: number, src_gfn: bigint, dst_gfn: bigint, pad = 0) =>
    dm(t, abi.XEN_DMOP_relocate_memory, { size, pad, src_gfn, dst_gfn }).verdict;
  const MAX = 0xffff_ffff_ffff_ffffn;

  test.each([
    ['into a hole', 1, 0x30n, 0x800n, 'OK'],
    ['from a hole', 1, 0x900n, 0x801n, 'EINVAL'],
    ['nothing', 0, 0x30n, 0x800n, 'OK'],
    ['nothing from the end', 0, MAX, 5n, 'OK'],
    ['nothing to the invalid frame', 0, 0x94n, MAX, 'EINVAL'],
    ['to the invalid frame', 2, 0x100n, MAX, 'EINVAL'],
    ['65536 pages: none, counted in 16 bits', 0x10000, 0x31n, 0x802n, 'OK'],
    ['source wraps', 2, MAX, 0x100n, 'EOVERFLOW'],
    ['destination wraps', 2, 0x100n, MAX - 1n, 'EOVERFLOW'],
    ['onto itself', 1, 0x70n, 0x70n, 'OK'],
    ['onto memory', 1, 0x71n, 0x72n, 'OK'],
    ['as high as can be', 1, 0x92n, 1n << 35n, 'OK'],
    ['higher', 1, 0x90n, 1n << 36n, 'ENOENT'],
    ['much higher', 1, 0x91n, 1n << 50n, 'ENOENT'],
  ])('%s', (_, size, src, dst, verdict) => {
    expect(relocate(size, src, dst)).toBe(verdict);
  });

  test('padding must be zero', () => {
    expect(relocate(1, 0x30n, 0x800n, 1)).toBe('EINVAL');
  });

  test('the page moves with its content; what was there is freed', () => {
    guestPage(t, 0x71)[0] = 0x77;
    const { totPages } = t.domain.memory;
    relocate(1, 0x71n, 0x72n);
    expect(guestPage(t, 0x72)[0]).toBe(0x77);
    expect(t.domain.p2m.mfn(0x71)).toBe(-1);
    expect(t.domain.memory.totPages).toBe(totPages - 1);
  });

  test('overlapping upwards goes page by page from the lowest, as Xen does', () => {
    for (let gfn = 0x80; gfn < 0x84; gfn++) guestPage(t, gfn)[0] = gfn;
    expect(relocate(4, 0x80n, 0x82n)).toBe('OK');
    expect(guestPage(t, 0x84)[0]).toBe(0x80);
    expect(guestPage(t, 0x85)[0]).toBe(0x81);
  });

  test('a refused page stays where it was', () => {
    relocate(1, 0x90n, 1n << 36n);
    expect(t.domain.p2m.mfn(0x90)).not.toBe(-1);
  });

  test('is preempted, with the rest in the struct', () => {
    const args = { size: 100, src_gfn: 0x100n, dst_gfn: 0x900n };
    const { verdict, slices, out } = dm(t, abi.XEN_DMOP_relocate_memory, args, [], ALWAYS_PREEMPT);
    expect({ verdict, slices }).toEqual({ verdict: 'OK', slices: 7 });
    expect(out).toEqual({ size: 4, pad: 0, src_gfn: 0x160n, dst_gfn: 0x960n });
    for (let i = 0; i < 100; i++) {
      expect(t.domain.p2m.mfn(0x100 + i)).toBe(-1);
      expect(t.domain.p2m.mfn(0x900 + i)).not.toBe(-1);
    }
  });

  test('counts in 16 bits, and succeeds with the rest undone', () => {
    const args = { size: 0x20003, src_gfn: 0x100n, dst_gfn: 0x900n };
    const { verdict, out } = dm(t, abi.XEN_DMOP_relocate_memory, args);
    expect({ verdict, out }).toEqual({
      verdict: 'OK',
      out: { size: 0x20000, pad: 0, src_gfn: 0x103n, dst_gfn: 0x903n },
    });
    expect([0x102, 0x902, 0x103, 0x903].map((gfn) => t.domain.p2m.mfn(gfn) !== -1)).toEqual([false, true, true, false]);
  });

  test('a domain destroyed between two slices is not found again, nor one that has its domid', () => {
    const { hypervisor, domain } = t;
    let asked = 0;
    const preemption = {
      due() {
        if (asked++ === 0) {
          domain.kill({ due: () => false });
          hypervisor.createDomain(domain.domid, {
            ssidref: 0,
            handle: new Uint8Array(16),
            flags: 3,
            iommu_opts: 0,
            max_vcpus: 1,
            max_evtchn_port: 0xffffffff,
            max_grant_frames: 4,
            max_maptrack_frames: 4,
            grant_opts: 2,
            vmtrace_size: 0,
            cpupool_id: 0,
            arch: { emulation_flags: 1, misc_flags: 0 },
          });
        }
        return true;
      },
    };
    const args = { size: 100, src_gfn: 0x100n, dst_gfn: 0x900n };
    expect(dm(t, abi.XEN_DMOP_relocate_memory, args, [], preemption).verdict).toBe('ESRCH');
    expect(hypervisor.domains.get(domain.domid).p2m.nrMapped).toBe(0);
  });
});

describe('pin_memory_cacheattr', () => {
  const pin = (start: bigint, end: bigint, type: number, pad = 0) =>
    dm(t, abi.XEN_DMOP_pin_memory_cacheattr, { start, end, type, pad }).verdict;
  const { XEN_DMOP_DELETE_MEM_CACHEATTR: DELETE, XEN_DMOP_MEM_CACHEATTR_WC: WC } = abi;

  test('as measured', () => {
    expect(pin(0x10n, 0x1fn, WC)).toBe('OK');
    expect(pin(0x10n, 0x1fn, WC)).toBe('OK');
    expect(pin(0x18n, 0x27n, WC)).toBe('EBUSY');
    expect(pin(0x20n, 0x2fn, 2)).toBe('EINVAL');
    expect(t.hvm.cacheAttr.at(0x1fn)).toBe(WC);
    expect(t.hvm.cacheAttr.at(0x20n)).toBeUndefined();
    expect(pin(0x10n, 0x1fn, DELETE)).toBe('OK');
    expect(pin(0x10n, 0x1fn, DELETE)).toBe('ENOENT');
  });

  test.each([
    ['ends before it starts', 5n, 4n, WC, 'EINVAL'],
    ['the last frame', (1n << 40n) - 1n, (1n << 40n) - 1n, WC, 'OK'],
    ['beyond', 1n << 40n, 1n << 40n, WC, 'EINVAL'],
    ['deleting beyond', 1n << 60n, 1n << 60n, DELETE, 'EINVAL'],
    ['type 3', 1n, 1n, 3, 'EINVAL'],
    ['type 4', 1n, 1n, 4, 'OK'],
    ['type 7', 1n, 1n, 7, 'OK'],
    ['type 8', 1n, 1n, 8, 'EINVAL'],
  ])('%s', (_, start, end, type, verdict) => {
    expect(pin(start, end, type)).toBe(verdict);
  });

  test('padding must be zero', () => {
    expect(pin(1n, 1n, WC, 1)).toBe('EINVAL');
  });

  test('64 ranges', () => {
    for (let i = 0n; i < 64n; i++) expect(pin(i * 2n, i * 2n, WC)).toBe('OK');
    expect(pin(1000n, 1000n, WC)).toBe('ENOSPC');
    expect(pin(0n, 0n, 6)).toBe('OK');
    expect(pin(0n, 1n, 6)).toBe('EBUSY');
  });
});
