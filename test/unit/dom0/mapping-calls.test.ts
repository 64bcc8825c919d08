/** privcmd's mapping calls: what the process's address space and numbers may look like, and who is left with a mapping. */
import { beforeEach, describe, expect, test } from 'vitest';
import { encode } from '../../../dist/abi/layout.js';
import * as P from '../../../dist/abi/linux/privcmd.js';
import type { Mapping } from '../../../dist/boundary/extent.js';
import { XenError } from '../../../dist/boundary/xen-error.js';
import { PrivcmdFile } from '../../../dist/dom0/privcmd.js';
import { type AreaState, type Process, X86_64 } from '../../../dist/dom0/process.js';
import { createHvmDomain } from '../../../dist/hypervisor/build-domain.js';
import { type Result, TestMemory, Toolstack } from '../../support/toolstack.js';

const STATES: readonly AreaState[] = ['none', 'fresh', 'fresh-part', 'fresh-inside', 'hole', 'mapped'];

let xen: Toolstack;
let domid: number;
let file: PrivcmdFile;
let memory: TestMemory;
let mapped: Mapping | undefined;

beforeEach(() => {
  xen = new Toolstack();
  domid = createHvmDomain(xen.hypervisor, { memoryMiB: 1 }).domid;
  file = new PrivcmdFile(xen.hypervisor.callsOfDom0(), X86_64);
  memory = new TestMemory();
  mapped = undefined;
});

function processWith(state: AreaState): Process {
  return {
    pid: 1,
    memory: {
      copyIn: (address, into) => memory.copyFrom(BigInt(address), into),
      copyOut: (address, from) => memory.copyTo(BigInt(address), from),
      pinForWrite() {},
    },
    addressSpace: {
      area: () => state,
      mapFrames: (_, mapping) => {
        mapped = mapping;
      },
    },
    get hypercallMemory(): never {
      throw new Error('no hypercall is made here');
    },
  };
}

function ioctl(cmd: number, arg: bigint, state: AreaState = 'fresh'): Result {
  try {
    return file.ioctl(cmd, Number(arg), processWith(state)) as number;
  } catch (error) {
    if (error instanceof XenError) return error.code;
    throw error;
  }
}

const put = (layout: Parameters<typeof encode>[0], value: object) => memory.put(encode(layout, value as never));
const frames = (...gfns: number[]) => Number(memory.put(new Uint8Array(BigUint64Array.from(gfns, BigInt).buffer)));

function mmap(...gfns: number[]): bigint {
  const entries = gfns.map((gfn, i) =>
    encode(P.privcmd_mmap_entry, { va: 0x7000_0000 + i * 4096, mfn: BigInt(gfn), npages: 1 }),
  );
  const entry = Number(memory.put(Buffer.concat(entries)));
  return put(P.privcmd_mmap, { num: gfns.length, dom: domid, entry });
}

const batch = (num: number, gfns: number[]) =>
  put(P.privcmd_mmapbatch, { num, dom: domid, addr: 0x7000_0000, arr: frames(...gfns) });
const batchV2 = (num: number, gfns: number[]) =>
  put(P.privcmd_mmapbatch_v2, { num, dom: domid, addr: 0x7000_0000, arr: frames(...gfns), err: frames(0, 0) });

/** Whether the domain is held: it outlives its end. */
function isHeld(): boolean {
  xen.destroy(domid);
  return xen.hypervisor.domains.find(domid) !== undefined;
}

describe('which areas can be mapped into', () => {
  const verdicts = (cmd: number, arg: () => bigint) => STATES.filter((state) => ioctl(cmd, arg(), state) === 0);

  test('MMAP', () => {
    expect(verdicts(P.IOCTL_PRIVCMD_MMAP, () => mmap(1, 2))).toEqual(['fresh', 'fresh-part']);
  });

  test('MMAPBATCH and MMAPBATCH_V2', () => {
    expect(verdicts(P.IOCTL_PRIVCMD_MMAPBATCH, () => batch(2, [1, 2]))).toEqual(['fresh', 'hole']);
    expect(verdicts(P.IOCTL_PRIVCMD_MMAPBATCH_V2, () => batchV2(2, [1, 2]))).toEqual(['fresh', 'hole']);
  });

  test('MMAP_RESOURCE', () => {
    const id = xen.domain(domid).hvm!.ioreq.create(xen.hypervisor.dom0, 1);
    const value = { dom: domid, type: 0, id, idx: 1, num: 1, addr: 0x7000_0000 };
    expect(verdicts(P.IOCTL_PRIVCMD_MMAP_RESOURCE, () => put(P.privcmd_mmap_resource, value))).toEqual(
      STATES.filter((state) => state !== 'none'),
    );
  });
});

test.each([
  [0, 'EINVAL'],
  [-1, 'EFAULT'],
  [-0x80000000, 'EFAULT'],
  [0x7fffffff, 'ENOMEM'],
])('MMAPBATCH of %i frames is %s', (num, verdict) => {
  expect(ioctl(P.IOCTL_PRIVCMD_MMAPBATCH, batch(num, [1]))).toBe(verdict);
});

describe('a mapping', () => {
  test.each<[string, () => Result]>([
    ['MMAP', () => ioctl(P.IOCTL_PRIVCMD_MMAP, mmap(1))],
    ['MMAPBATCH', () => ioctl(P.IOCTL_PRIVCMD_MMAPBATCH, batch(2, [1, 9999]))],
    ['MMAPBATCH_V2', () => ioctl(P.IOCTL_PRIVCMD_MMAPBATCH_V2, batchV2(2, [1, 9999]))],
  ])('of %s goes to the process, holes or not', (_, call) => {
    expect(call()).toBe(0);
    expect(isHeld()).toBe(true);
    mapped?.release();
    expect(xen.hypervisor.domains.find(domid)).toBeUndefined();
  });

  test('that is refused as a whole is handed over all the same, to be given up with the call', () => {
    expect(ioctl(P.IOCTL_PRIVCMD_MMAP, mmap(1, 9999))).toBe('EINVAL');
    mapped?.release();
    expect(isHeld()).toBe(false);
  });

  test('of nothing holds nothing', () => {
    expect(ioctl(P.IOCTL_PRIVCMD_MMAPBATCH_V2, batchV2(1, [9999]))).toBe(0);
    expect(ioctl(P.IOCTL_PRIVCMD_MMAPBATCH_V2, batchV2(1, [1]), 'mapped')).toBe('EINVAL');
    expect(isHeld()).toBe(false);
  });

  test('in the name of a domain that isn’t there is refused page by page, by MMAP as a whole', () => {
    xen.destroy(domid);
    expect(ioctl(P.IOCTL_PRIVCMD_MMAPBATCH, batch(1, [1]))).toBe(0);
    expect(mapped?.errors).toEqual([{ page: 0, nrPages: 1, errno: 3 }]);
    expect(ioctl(P.IOCTL_PRIVCMD_MMAP, mmap(1))).toBe('ESRCH');
  });
});
