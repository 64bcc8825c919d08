/** privcmd's mapping calls: their checks in Linux's order, what is asked of the hypervisor, and how errors come back. */
import { beforeEach, describe, expect, it } from 'vitest';
import { ERRNO } from '../../../dist/abi/errno.js';
import { encode } from '../../../dist/abi/layout.js';
import {
  IOCTL_PRIVCMD_MMAP,
  IOCTL_PRIVCMD_MMAP_RESOURCE,
  IOCTL_PRIVCMD_MMAPBATCH,
  IOCTL_PRIVCMD_MMAPBATCH_V2,
  IOCTL_PRIVCMD_RESTRICT,
  privcmd_mmap,
  privcmd_mmap_entry,
  privcmd_mmap_resource,
  privcmd_mmapbatch,
  privcmd_mmapbatch_v2,
} from '../../../dist/abi/linux/privcmd.js';
import { XenError } from '../../../dist/boundary/xen-error.js';
import { PrivcmdFile } from '../../../dist/dom0/privcmd.js';
import { type AreaState, X86_64 } from '../../../dist/dom0/process.js';
import { FakeHypercalls } from '../../support/fake-hypercalls.js';
import { answerOf, FakeProcess, KERNEL, TASK_SIZE_MAX } from '../../support/fake-process.js';

const A = 1;
const B = 2;
const AREA = 0x7f00_0000_0000;
const U64_MAX = 0xffff_ffff_ffff_ffffn;

let xen: FakeHypercalls;
let process: FakeProcess;
let file: PrivcmdFile;

beforeEach(() => {
  xen = new FakeHypercalls();
  process = new FakeProcess();
  file = new PrivcmdFile(xen, X86_64);
});

const ioctl = (cmd: number, arg: number) => answerOf(() => file.ioctl(cmd, arg, process));

function restrict(domid: number): void {
  expect(ioctl(IOCTL_PRIVCMD_RESTRICT, process.place(Uint8Array.of(domid, 0)))).toBe('0');
}

const frames = (gfns: readonly bigint[]) => new Uint8Array(new BigUint64Array(gfns).buffer);
const ints = (bytes: Uint8Array) => [...new Int32Array(bytes.buffer)];
const longs = (bytes: Uint8Array) => [...new BigUint64Array(bytes.buffer)];

/** Nothing was mapped, and the hypervisor not asked. */
function expectNothing(): void {
  expect(xen.nrCalls).toBe(0);
  expect(process.addressSpace.mapped).toEqual([]);
}

describe.each([
  ['MMAP', IOCTL_PRIVCMD_MMAP],
  ['MMAPBATCH', IOCTL_PRIVCMD_MMAPBATCH],
  ['MMAPBATCH_V2', IOCTL_PRIVCMD_MMAPBATCH_V2],
  ['MMAP_RESOURCE', IOCTL_PRIVCMD_MMAP_RESOURCE],
])('%s', (_name, cmd) => {
  it('with its argument outside the process’s memory is EFAULT', () => {
    restrict(A);
    for (const arg of [0, 1, KERNEL, TASK_SIZE_MAX, TASK_SIZE_MAX - 8, process.allocate(4096) + 4090]) {
      expect(ioctl(cmd, arg)).toBe('EFAULT');
    }
    expectNothing();
  });
});

type Batch = { num: number; dom: number; addr: number; arr: number; err: number };

describe('MMAPBATCH_V2', () => {
  let errors: number;
  const batch = (fields: Partial<Batch>, gfns: readonly bigint[] = [5n, 6n, 7n, 8n]) => {
    errors = fields.err ?? process.place(new Uint8Array(Math.max(gfns.length, 1) * 4).fill(0xee));
    const arr = fields.arr ?? process.place(frames(gfns), 'r');
    const call = { num: gfns.length, dom: A, addr: AREA, ...fields, arr, err: errors };
    return ioctl(IOCTL_PRIVCMD_MMAPBATCH_V2, process.placeStruct(privcmd_mmapbatch_v2, call));
  };
  const errorArray = (n: number) => ints(process.memory.peek(errors, n * 4));

  it('maps every frame and clears every error', () => {
    expect(batch({})).toBe('0');
    expect(xen.foreign).toEqual([{ domid: A, gfns: [5n, 6n, 7n, 8n] }]);
    expect(process.addressSpace.asked).toEqual([{ address: AREA, nrPages: 4 }]);
    expect(process.addressSpace.mapped.map((m) => [m.address, m.mapping.runs.length])).toEqual([[AREA, 4]]);
    expect(errorArray(4)).toEqual([0, 0, 0, 0]);
  });

  it('says of each frame why it is not there, and is 0 all the same', () => {
    xen.holes.set(6n, ERRNO.EINVAL).set(8n, ERRNO.EINVAL);
    expect(batch({})).toBe('0');
    expect(errorArray(4)).toEqual([0, -22, 0, -22]);
  });

  it('is ENOENT as a whole where a frame is paged out', () => {
    xen.holes.set(5n, ERRNO.EINVAL).set(7n, ERRNO.ENOENT);
    expect(batch({})).toBe('ENOENT');
    expect(errorArray(4)).toEqual([-22, 0, -2, 0]);
    expect(process.addressSpace.mapped[0]!.mapping.runs.map((run) => run.page)).toEqual([1, 3]);
  });

  it('tells a domain that is not there page by page', () => {
    xen.failure = new XenError('ESRCH', 'no such domain');
    expect(batch({ dom: 999 }, [1n, 2n])).toBe('0');
    expect(errorArray(2)).toEqual([-3, -3]);
    expect(process.addressSpace.mapped[0]!.mapping.runs).toEqual([]);
  });

  it('passes frame numbers on to the bit', () => {
    xen.holes.set(U64_MAX, ERRNO.EINVAL);
    expect(batch({}, [U64_MAX, 1n << 63n])).toBe('0');
    expect(xen.foreign[0]!.gfns).toEqual([U64_MAX, 1n << 63n]);
    expect(errorArray(2)).toEqual([-22, 0]);
  });

  it.each<[string, Partial<Batch>, string]>([
    ['no frames', { num: 0 }, 'EINVAL'],
    ['its frames at NULL', { arr: 0 }, 'EFAULT'],
    ['its frames in the kernel half', { arr: KERNEL }, 'EFAULT'],
    ['more frames than are mapped', { num: 600 }, 'EFAULT'],
    ['its errors at NULL', { err: 0 }, 'EFAULT'],
    ['its errors in the kernel half', { err: KERNEL }, 'EFAULT'],
    ['its errors across the end of user space', { err: TASK_SIZE_MAX - 15 }, 'EFAULT'],
    ['2^32-1 frames and no room for errors', { num: 0xffff_ffff, err: TASK_SIZE_MAX - 4096 }, 'EFAULT'],
  ])('with %s is refused', (_name, fields, answer) => {
    expect(batch(fields)).toBe(answer);
    expectNothing();
  });

  it('is not done where its errors cannot be written', () => {
    expect(batch({ err: process.allocate(16, 'r') })).toBe('EFAULT');
    expectNothing();
  });

  it('looks at the place of the errors, then the domain, then the count, then the frames, then the area', () => {
    restrict(A);
    process.addressSpace.state = 'none';
    expect(batch({ err: KERNEL, dom: B })).toBe('EFAULT');
    expect(batch({ err: 0, arr: 0, num: 0, dom: B })).toBe('EPERM');
    expect(batch({ arr: 0, num: 0 })).toBe('EINVAL');
    expect(batch({ arr: 0 })).toBe('EFAULT');
    expect(batch({ err: 0 })).toBe('EFAULT');
    expect(batch({})).toBe('EINVAL');
    expectNothing();
    expect(errorArray(4)).toEqual([0, 0, 0, 0]); // cleared by then
  });

  it.each<[AreaState, string]>([
    ['fresh', '0'],
    ['hole', '0'],
    ['none', 'EINVAL'],
    ['fresh-part', 'EINVAL'],
    ['fresh-inside', 'EINVAL'],
    ['mapped', 'EINVAL'],
  ])('in an area that is %s: %s', (state, answer) => {
    process.addressSpace.state = state;
    expect(batch({})).toBe(answer);
    if (answer !== '0') expectNothing();
  });

  it('decides and maps on one reading of everything', () => {
    restrict(A);
    const arr = process.place(frames([5n, 6n]), 'r');
    errors = process.allocate(8);
    const call = { num: 2, dom: A, addr: AREA, arr, err: errors };
    const arg = process.placeStruct(privcmd_mmapbatch_v2, call);
    process.memory.afterAccess = () => {
      const other = { num: 1000, dom: B, addr: KERNEL, arr: KERNEL, err: KERNEL };
      process.memory.poke(arg, encode(privcmd_mmapbatch_v2, other));
      if (process.memory.nrReads(arr) > 0) process.memory.poke(arr, frames([U64_MAX, U64_MAX]));
    };
    expect(ioctl(IOCTL_PRIVCMD_MMAPBATCH_V2, arg)).toBe('0');
    expect(xen.foreign).toEqual([{ domid: A, gfns: [5n, 6n] }]);
    expect(process.addressSpace.mapped[0]!.address).toBe(AREA);
    expect([process.memory.nrReads(arg), process.memory.nrReads(arr)]).toEqual([1, 1]);
  });
});

describe('MMAPBATCH', () => {
  let arr: number;
  const batch = (fields: Partial<Omit<Batch, 'err'>>, gfns: readonly bigint[] = [0n, 0x90_0000n, 1n]) => {
    arr = fields.arr ?? process.place(frames(gfns));
    const call = { num: gfns.length, dom: A, addr: AREA, ...fields, arr };
    return ioctl(IOCTL_PRIVCMD_MMAPBATCH, process.placeStruct(privcmd_mmapbatch, call));
  };
  const marked = (n: number) => longs(process.memory.peek(arr, n * 8));

  it('leaves frames that are mapped as they are', () => {
    expect(batch({})).toBe('0');
    expect(marked(3)).toEqual([0n, 0x90_0000n, 1n]);
    expect(xen.foreign).toEqual([{ domid: A, gfns: [0n, 0x90_0000n, 1n] }]);
  });

  it('marks the others in their own top nibble', () => {
    xen.holes.set(0x90_0000n, ERRNO.EINVAL);
    expect(batch({})).toBe('0');
    expect(marked(3)).toEqual([0n, 0xf090_0000n, 1n]);
  });

  it('marks frames that are paged out with another one, and is ENOENT', () => {
    xen.holes.set(1n, ERRNO.ENOENT);
    expect(batch({})).toBe('ENOENT');
    expect(marked(3)).toEqual([0n, 0x90_0000n, 0x8000_0001n]);
  });

  it('marks all frames of a domain that is not there', () => {
    xen.failure = new XenError('ESRCH', 'no such domain');
    expect(batch({ dom: 999 }, [0n])).toBe('0');
    expect(marked(1)).toEqual([0xf000_0000n]);
  });

  it('is EFAULT where a mark cannot be written', () => {
    xen.holes.set(1n, ERRNO.EINVAL);
    expect(batch({ arr: process.place(frames([1n]), 'r'), num: 1 })).toBe('EFAULT');
  });

  it.each<[string, Partial<Omit<Batch, 'err'>>, string]>([
    ['no frames', { num: 0 }, 'EINVAL'],
    ['-1 frames, which is 2^32-1 of them', { num: -1 }, 'EFAULT'],
    ['its frames at NULL', { arr: 0 }, 'EFAULT'],
    ['its frames across the end of user space', { arr: TASK_SIZE_MAX - 16 }, 'EFAULT'],
  ])('with %s is refused', (_name, fields, answer) => {
    expect(batch(fields)).toBe(answer);
    expectNothing();
  });

  it('is refused another domain before its area is looked at', () => {
    restrict(A);
    expect(batch({ dom: B, num: 0 })).toBe('EPERM');
    expect(batch({ dom: B, arr: 0 })).toBe('EPERM');
    expect(process.addressSpace.asked).toEqual([]);
    expectNothing();
  });

  it.each<[AreaState, string]>([
    ['fresh', '0'],
    ['hole', '0'],
    ['none', 'EINVAL'],
    ['fresh-part', 'EINVAL'],
    ['fresh-inside', 'EINVAL'],
    ['mapped', 'EINVAL'],
  ])('in an area that is %s: %s', (state, answer) => {
    process.addressSpace.state = state;
    expect(batch({})).toBe(answer);
    if (answer !== '0') expectNothing();
  });
});

describe('MMAP', () => {
  type Entry = { va: number; mfn: bigint; npages: number };
  const at = (page: number, mfn: bigint, npages: number): Entry => ({ va: AREA + page * 4096, mfn, npages });
  const mmap = (entries: readonly Entry[], fields: Partial<{ num: number; dom: number; entry: number }> = {}) => {
    const bytes = new Uint8Array(entries.length * privcmd_mmap_entry.size);
    for (const [i, entry] of entries.entries())
      bytes.set(encode(privcmd_mmap_entry, entry), i * privcmd_mmap_entry.size);
    const entry = fields.entry ?? process.place(bytes, 'r');
    const call = { num: entries.length, dom: A, ...fields, entry };
    return ioctl(IOCTL_PRIVCMD_MMAP, process.placeStruct(privcmd_mmap, call));
  };

  it('maps the frames of adjacent entries', () => {
    expect(mmap([at(0, 0x10n, 2), at(2, 0x80n, 1), at(3, 5n, 2)])).toBe('0');
    expect(xen.foreign).toEqual([{ domid: A, gfns: [0x10n, 0x11n, 0x80n, 5n, 6n] }]);
    expect(process.addressSpace.mapped.map((m) => m.address)).toEqual([AREA]);
  });

  it.each<[string, string, () => string]>([
    ['no entries', '0', () => mmap([])],
    ['its entries at NULL', 'EFAULT', () => mmap([at(0, 1n, 1)], { entry: 0 })],
    ['its entries in the kernel half', 'EFAULT', () => mmap([at(0, 1n, 1)], { entry: KERNEL })],
    ['more entries than are mapped', 'EFAULT', () => mmap([at(0, 1n, 1)], { num: 400 })],
    ['2^60 pages', 'EINVAL', () => mmap([at(0, 1n, 2 ** 60)])],
    ['pages that wrap around', 'EINVAL', () => mmap([at(0, 1n, 1), at(1, 1n, 2 ** 52)])],
  ])('with %s is %s', (_name, answer, call) => {
    expect(call()).toBe(answer);
    expectNothing();
  });

  it('with entries that are not adjacent is EINVAL, and maps nothing of what is behind the gap', () => {
    expect(mmap([at(0, 1n, 1), at(2, 0x77n, 1)])).toBe('EINVAL');
    expect(mmap([at(0, 1n, 2), at(1, 0x77n, 1)])).toBe('EINVAL');
    for (const { gfns } of xen.foreign) expect(gfns).not.toContain(0x77n);
  });

  it('is the errno of the first frame that cannot be mapped', () => {
    xen.holes.set(2n, ERRNO.EINVAL);
    expect(mmap([at(0, 1n, 3)])).toBe('EINVAL');
    xen.failure = new XenError('ESRCH', 'no such domain');
    expect(mmap([at(0, 1n, 1)], { dom: 999 })).toBe('ESRCH');
  });

  it('is refused another domain before its entries are read', () => {
    restrict(A);
    expect(mmap([at(0, 1n, 1)], { dom: B, entry: 0 })).toBe('EPERM');
    expect(mmap([], { dom: B })).toBe('EPERM');
    expectNothing();
  });

  it.each<[AreaState, string]>([
    ['fresh', '0'],
    ['fresh-part', '0'],
    ['fresh-inside', 'EINVAL'],
    ['none', 'EINVAL'],
    ['hole', 'EINVAL'],
    ['mapped', 'EINVAL'],
  ])('in an area that is %s: %s', (state, answer) => {
    process.addressSpace.state = state;
    expect(mmap([at(0, 1n, 1)])).toBe(answer);
    if (answer !== '0') expectNothing();
  });

  it('decides and maps on one reading of its entries', () => {
    const entry = process.placeStruct(privcmd_mmap_entry, at(0, 9n, 1));
    const arg = process.placeStruct(privcmd_mmap, { num: 1, dom: A, entry });
    restrict(A);
    process.memory.afterAccess = () => {
      process.memory.poke(arg, encode(privcmd_mmap, { num: 9, dom: B, entry: KERNEL }));
      if (process.memory.nrReads(entry) > 0) process.memory.poke(entry, new Uint8Array(24).fill(0xff));
    };
    expect(ioctl(IOCTL_PRIVCMD_MMAP, arg)).toBe('0');
    expect(xen.foreign).toEqual([{ domid: A, gfns: [9n] }]);
  });
});

describe('MMAP_RESOURCE', () => {
  const zeros = { dom: A, type: 0, id: 3, idx: 0, num: 0, addr: 0 };
  let arg: number;
  const resource = (fields: Partial<typeof zeros>, protection: 'rw' | 'r' = 'rw') => {
    arg = process.placeStruct(privcmd_mmap_resource, { ...zeros, ...fields }, protection);
    return ioctl(IOCTL_PRIVCMD_MMAP_RESOURCE, arg);
  };
  const numOf = () => longs(process.memory.peek(arg + privcmd_mmap_resource.fields.num.offset, 8))[0];

  it('maps the frames asked for', () => {
    expect(resource({ type: 1, idx: 0xffff_ffff, num: 2, addr: AREA })).toBe('0');
    expect(xen.resources).toEqual([[A, 1, 3, 0xffff_ffffn, 2]]);
    expect(process.addressSpace.mapped.map((m) => m.address)).toEqual([AREA]);
  });

  it('with neither address nor count says how many frames there are, whatever the index', () => {
    xen.result = 33;
    expect(resource({ idx: 7 })).toBe('0');
    expect(xen.resources).toEqual([[A, 0, 3]]);
    expect(numOf()).toBe(33n);
    expect(process.addressSpace.asked).toEqual([]);
  });

  it('is EFAULT where the size cannot be written back', () => {
    expect(resource({}, 'r')).toBe('EFAULT');
  });

  it.each<[string, Partial<typeof zeros>]>([
    ['a count without an address', { num: 1 }],
    ['a count of 2^53 without an address', { num: 2 ** 53 }],
    ['an address without a count', { addr: AREA }],
  ])('with %s is EINVAL', (_name, fields) => {
    expect(resource(fields)).toBe('EINVAL');
    expectNothing();
  });

  it('outside privcmd’s areas is EINVAL', () => {
    process.addressSpace.state = 'none';
    expect(resource({ num: 1, addr: AREA })).toBe('EINVAL');
    expectNothing();
  });

  it.each(['ENOENT', 'EOPNOTSUPP', 'EINVAL', 'ESRCH'] as const)(
    'passes the hypervisor’s %s on, and maps nothing',
    (code) => {
      xen.failure = new XenError(code, 'as a test has it');
      expect(resource({ num: 1, addr: AREA })).toBe(code);
      expect(resource({})).toBe(code);
      expect(process.addressSpace.mapped).toEqual([]);
      expect(numOf()).toBe(0n);
    },
  );

  it('is refused another domain first of all', () => {
    restrict(A);
    expect(resource({ dom: B })).toBe('EPERM');
    expect(resource({ dom: B, num: 1 })).toBe('EPERM');
    expect(resource({ dom: B, num: 1, addr: AREA })).toBe('EPERM');
    expectNothing();
    expect(resource({ dom: A, num: 1, addr: AREA })).toBe('0');
  });

  it('never asks the hypervisor for an unbounded number of frames', () => {
    expect(resource({ num: 2 ** 40, addr: AREA })).toBe('ENOMEM');
    expectNothing();
  });
});
