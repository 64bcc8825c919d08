/** privcmd: whom a file may call for, and the audit of a DM_OP's buffers, with errnos in the order Linux gives them. */
import { beforeEach, describe, expect, it } from 'vitest';
import { encode } from '../../../dist/abi/layout.js';
import {
  IOCTL_PRIVCMD_DM_OP,
  IOCTL_PRIVCMD_HYPERCALL,
  IOCTL_PRIVCMD_RESTRICT,
  IOCTL_PRIVCMD_UNIMPLEMENTED,
  privcmd_dm_op,
  privcmd_dm_op_buf,
  privcmd_hypercall,
} from '../../../dist/abi/linux/privcmd.js';
import { XenError } from '../../../dist/boundary/xen-error.js';
import { PRIVCMD_LIMITS, PrivcmdFile } from '../../../dist/dom0/privcmd.js';
import { X86_64 } from '../../../dist/dom0/process.js';
import { verdictOf } from '../../support/dm-op.js';
import { FakeHypercalls } from '../../support/fake-hypercalls.js';
import { answerOf, FakeProcess, KERNEL, TASK_SIZE_MAX } from '../../support/fake-process.js';

const A = 1;
const B = 2;
const INVALID = 0x7ff4;
const U64_MAX = 0xffff_ffff_ffff_ffffn;

let xen: FakeHypercalls;
let process: FakeProcess;
let file: PrivcmdFile;

beforeEach(() => {
  xen = new FakeHypercalls();
  process = new FakeProcess();
  file = new PrivcmdFile(xen, X86_64);
});

/** A list of blocks, each value exact to the bit. */
function blockList(blocks: readonly (readonly [uptr: bigint | number, size: bigint | number])[]): Uint8Array {
  const bytes = new Uint8Array(blocks.length * privcmd_dm_op_buf.size);
  const view = new DataView(bytes.buffer);
  for (const [i, [uptr, size]] of blocks.entries()) {
    view.setBigUint64(i * 16, BigInt(uptr), true);
    view.setBigUint64(i * 16 + 8, BigInt(size), true);
  }
  return bytes;
}

type Blocks = readonly (readonly [bigint | number, bigint | number])[];

function dmOp(dom: number, blocks: Blocks, on = file): string {
  const ubufs = process.place(blockList(blocks));
  return dmOpRaw(dom, blocks.length, ubufs, on);
}

function dmOpRaw(dom: number, num: number, ubufs: number, on = file): string {
  const arg = process.placeStruct(privcmd_dm_op, { dom, num, ubufs });
  return answerOf(() => on.ioctl(IOCTL_PRIVCMD_DM_OP, arg, process));
}

function restrict(domid: number, on = file): string {
  const arg = process.place(Uint8Array.of(domid & 0xff, domid >> 8));
  return answerOf(() => on.ioctl(IOCTL_PRIVCMD_RESTRICT, arg, process));
}

function hypercall(op: bigint, arg: bigint[] = [0n, 0n, 0n, 0n, 0n]): string {
  const at = process.placeStruct(privcmd_hypercall, { op, arg });
  return answerOf(() => file.ioctl(IOCTL_PRIVCMD_HYPERCALL, at, process));
}

describe('the file', () => {
  it.each([
    ['UNIMPLEMENTED, which libraries probe with', IOCTL_PRIVCMD_UNIMPLEMENTED],
    ['DM_OP with another size in its number', (IOCTL_PRIVCMD_DM_OP + 0x10000) >>> 0],
    ['another device’s ioctl', 0x4500],
    ['0', 0],
  ])('does not know %s', (_name, cmd) => {
    expect(answerOf(() => file.ioctl(cmd, process.allocate(64), process))).toBe('ENOTTY');
    expect(restrict(A)).toBe('0');
    expect(answerOf(() => file.ioctl(cmd, process.allocate(64), process))).toBe('ENOTTY');
  });

  it('takes no data', () => expect(answerOf(() => file.write())).toBe('EINVAL'));

  it.each([
    ['DM_OP', IOCTL_PRIVCMD_DM_OP],
    ['HYPERCALL', IOCTL_PRIVCMD_HYPERCALL],
    ['RESTRICT', IOCTL_PRIVCMD_RESTRICT],
  ])('%s with its argument at NULL, in the kernel half, or half mapped is EFAULT', (_name, cmd) => {
    const lastByte = process.allocate(4096) + 4095;
    for (const arg of [0, KERNEL, Number(U64_MAX), TASK_SIZE_MAX, TASK_SIZE_MAX - 1, lastByte]) {
      expect(answerOf(() => file.ioctl(cmd, arg, process))).toBe('EFAULT');
    }
    expect(xen.nrCalls).toBe(0);
    expect(file.restrictedTo).toBeUndefined();
  });
});

describe('RESTRICT', () => {
  const page = () => [[process.allocate(64), 64]] as const;

  it('lets only the domain’s own calls through from then on', () => {
    expect(dmOp(B, page())).toBe('0');
    expect(restrict(A)).toBe('0');
    expect(file.restrictedTo).toBe(A);
    expect(dmOp(A, page())).toBe('0');
    for (const other of [B, 0, 999, INVALID, 0x7ff0, 0x7fff, 0xffff]) expect(dmOp(other, page())).toBe('EPERM');
    expect(xen.domids).toEqual([B, A]);
  });

  it('can be repeated, not changed or taken back', () => {
    expect(restrict(A)).toBe('0');
    expect(restrict(A)).toBe('0');
    expect(restrict(B)).toBe('EINVAL');
    expect(restrict(INVALID)).toBe('EINVAL');
    expect(file.restrictedTo).toBe(A);
  });

  it('to DOMID_INVALID is no restriction yet, as in Linux', () => {
    expect(restrict(INVALID)).toBe('0');
    expect(file.restrictedTo).toBeUndefined();
    expect(dmOp(A, page())).toBe('0');
    expect(restrict(A)).toBe('0');
    expect(dmOp(B, page())).toBe('EPERM');
  });

  it('to domain 0 is one', () => {
    expect(restrict(0)).toBe('0');
    expect(dmOp(A, page())).toBe('EPERM');
    xen.failure = new XenError('EPERM', 'dom0 itself');
    expect(dmOp(0, page())).toBe('EPERM');
    expect(xen.domids).toEqual([0]);
  });

  it('concerns one open file', () => {
    expect(restrict(A)).toBe('0');
    expect(dmOp(B, page(), new PrivcmdFile(xen, X86_64))).toBe('0');
  });

  it('ends plain hypercalls before their argument is looked at', () => {
    expect(restrict(A)).toBe('0');
    expect(hypercall(17n)).toBe('EPERM');
    expect(answerOf(() => file.ioctl(IOCTL_PRIVCMD_HYPERCALL, 0, process))).toBe('EPERM');
    expect(xen.hypercalls).toEqual([]);
  });

  it('comes before the number of blocks, and that before the blocks', () => {
    expect(restrict(A)).toBe('0');
    expect(dmOpRaw(B, 0, 0)).toBe('EPERM');
    expect(dmOpRaw(A, 0, 0)).toBe('0');
    expect(dmOpRaw(B, 17, 0)).toBe('EPERM');
    expect(dmOpRaw(A, 17, 0)).toBe('E2BIG');
    expect(dmOpRaw(B, 1, 0)).toBe('EPERM');
    expect(dmOpRaw(A, 1, 0)).toBe('EFAULT');
    expect(xen.nrCalls).toBe(0);
  });
});

describe('HYPERCALL', () => {
  it('passes number and arguments on to the bit, and the process’s hypercall memory', () => {
    xen.result = 262161;
    const args = [U64_MAX, 0n, 1n << 63n, 0xdead_beef_0000_0001n, 5n];
    expect(hypercall(17n, args)).toBe('262161');
    expect(xen.hypercalls).toEqual([{ op: 17, args, memory: process.hypercallMemory }]);
  });

  it('passes the hypervisor’s refusal on', () => {
    xen.failure = new XenError('ENOSYS', 'no such hypercall');
    expect(hypercall(63n)).toBe('ENOSYS');
  });
});

describe('DM_OP', () => {
  it('hands each block to the hypervisor as it was named', () => {
    const first = process.place(Uint8Array.of(1, 2, 3, 4, 5));
    const second = process.allocate(4096);
    xen.result = 3;
    const odd = [first + 1, 3] as const;
    expect(dmOp(A, [odd, [second, 4096]])).toBe('3');
    const { domid, buffers } = xen.dmOps[0]!;
    expect(domid).toBe(A);
    expect(buffers.map((b) => b.size)).toEqual([3, 4096]);
    const copy = new Uint8Array(3);
    buffers[0]!.copyFrom(0, copy);
    expect([...copy]).toEqual([2, 3, 4]);
    buffers[0]!.copyTo(1, Uint8Array.of(9));
    expect([...process.memory.peek(first, 5)]).toEqual([1, 2, 9, 4, 5]);
  });

  it('never looks at what is in the blocks', () => {
    const block = process.allocate(64);
    expect(dmOp(A, [[block, 64]])).toBe('0');
    expect(process.memory.nrReads(block)).toBe(0);
  });

  it('without blocks is 0 for any domain, and nobody hears of it', () => {
    expect(dmOpRaw(999, 0, KERNEL)).toBe('0');
    expect(dmOpRaw(INVALID, 0, 0)).toBe('0');
    expect(xen.nrCalls).toBe(0);
  });

  it.each([
    [1, '0'],
    [16, '0'],
    [17, 'E2BIG'],
    [0xffff, 'E2BIG'],
  ])('with %i blocks: %s', (num, answer) => {
    const block = process.allocate(64);
    const ubufs = process.place(blockList(Array.from({ length: Math.min(num, 17) }, () => [block, 64] as const)));
    expect(dmOpRaw(A, num, ubufs)).toBe(answer);
    expect(xen.nrCalls).toBe(answer === '0' ? 1 : 0);
  });

  it.each([
    ['at NULL', () => 0],
    ['in the kernel half', () => KERNEL],
    ['at the end of user space', () => TASK_SIZE_MAX],
    ['across the end of user space', () => TASK_SIZE_MAX - 16],
    ['across the end of its pages', () => process.allocate(4096) + 4096 - 16],
    ['in a page without access', () => process.allocate(64, '')],
  ])('with its list %s is EFAULT', (_name, ubufs) => {
    expect(dmOpRaw(A, 2, ubufs())).toBe('EFAULT');
    expect(xen.nrCalls).toBe(0);
  });

  it('may have its list in read-only memory and up to the end of a page', () => {
    const block = process.allocate(64);
    const list = blockList([[block, 64]]);
    expect(dmOpRaw(A, 1, process.place(list, 'r'))).toBe('0');
    const end = process.allocate(4096) + 4096 - list.length;
    process.memory.poke(end, list);
    expect(dmOpRaw(A, 1, end)).toBe('0');
  });

  const block = () => process.allocate(4096);
  it.each<[string, () => [number | bigint, number | bigint], string]>([
    ['of 4096 bytes', () => [block(), 4096], '0'],
    ['of 4097 bytes', () => [process.allocate(8192), 4097], 'E2BIG'],
    ['of 2^32 bytes', () => [block(), 1n << 32n], 'E2BIG'],
    ['of 2^64-1 bytes', () => [block(), U64_MAX], 'E2BIG'],
    ['of 2^64-1 bytes in the kernel half', () => [KERNEL, U64_MAX], 'E2BIG'],
    ['of 2^63 bytes at NULL', () => [0, 1n << 63n], 'E2BIG'],
    ['at NULL', () => [0, 64], 'EFAULT'],
    ['at address 1', () => [1, 64], 'EFAULT'],
    ['at 2^64-1, which wraps', () => [U64_MAX, 64], 'EFAULT'],
    ['that ends at 2^64 exactly', () => [U64_MAX - 63n, 64], 'EFAULT'],
    ['at 2^64-1 of 1 byte', () => [U64_MAX, 1], 'EFAULT'],
    ['at 2^53+1, which no double holds', () => [(1n << 53n) + 1n, 8], 'EFAULT'],
    ['at a non-canonical address', () => [0x8000_0000_0000n, 8], 'EFAULT'],
    ['at the first kernel address', () => [0xffff_8000_0000_0000n, 8], 'EFAULT'],
    ['at the end of user space', () => [TASK_SIZE_MAX, 1], 'EFAULT'],
    ['across the end of user space', () => [TASK_SIZE_MAX - 8, 9], 'EFAULT'],
    ['up to the end of user space', () => [process.memory.map(TASK_SIZE_MAX - 4096, 4096) + 4088, 8], '0'],
    ['in a read-only page', () => [process.allocate(64, 'r'), 64], 'EFAULT'],
    ['in a page without access', () => [process.allocate(64, ''), 64], 'EFAULT'],
    ['in a write-only page', () => [process.allocate(64, 'w'), 64], '0'],
    ['into an unmapped page', () => [block() + 4090, 7], 'EFAULT'],
    ['up to an unmapped page', () => [block() + 4090, 6], '0'],
    ['of no bytes, inside a writable page', () => [block() + 8, 0], '0'],
    [
      'of no bytes, at the start of a page: no page is pinned, which Linux takes for a failure',
      () => [block(), 0],
      'EFAULT',
    ],
    ['of no bytes, inside an unmapped page', () => [block() + 4096 + 8, 0], 'EFAULT'],
    ['of no bytes, inside a read-only page', () => [process.allocate(64, 'r') + 8, 0], 'EFAULT'],
    ['of no bytes, at NULL', () => [0, 0], 'EFAULT'],
    ['of no bytes, in the kernel half', () => [KERNEL + 8, 0], 'EFAULT'],
  ])('with a block %s', (_name, make, answer) => {
    const hostile = make();
    expect(dmOp(A, [hostile])).toBe(answer);
    const good = [process.allocate(64), 64] as const;
    expect(dmOp(A, [good, hostile, good])).toBe(answer);
    expect(xen.dmOps.map((call) => call.buffers.length)).toEqual(answer === '0' ? [1, 3] : []);
  });

  it('tells the first block that is wrong, but every size and range before any page', () => {
    const readOnly = [process.allocate(64, 'r'), 64] as const;
    const tooBig = [process.allocate(64), 4097] as const;
    const kernel = [KERNEL, 64] as const;
    expect(dmOp(A, [kernel, tooBig])).toBe('EFAULT');
    expect(dmOp(A, [tooBig, kernel])).toBe('E2BIG');
    expect(dmOp(A, [readOnly, tooBig])).toBe('E2BIG');
    expect(process.memory.log.filter((access) => access.kind === 'pin')).toEqual([]);
  });

  it('pins in order, once each, and stops at the first that fails', () => {
    const blocks: [number, number][] = [
      [process.allocate(64), 64],
      [process.allocate(8192) + 4000, 200],
      [process.allocate(64, 'r'), 64],
      [process.allocate(64), 64],
    ];
    expect(dmOp(A, blocks)).toBe('EFAULT');
    const pinned = process.memory.log.filter((access) => access.kind === 'pin');
    expect(pinned.map((access) => [access.address, access.size])).toEqual(blocks.slice(0, 2));
    expect(xen.nrCalls).toBe(0);
  });

  it('passes the operation’s errno on', () => {
    xen.failure = new XenError('ENOENT', 'no such server');
    expect(dmOp(A, [[process.allocate(64), 64]])).toBe('ENOENT');
  });

  it('has limits that are module parameters', () => {
    const strict = new PrivcmdFile(xen, X86_64, { dmOpMaxNrBufs: 1, dmOpBufMaxSize: 64 });
    const at = process.allocate(4096);
    expect(dmOp(A, [[at, 64]], strict)).toBe('0');
    expect(dmOp(A, [[at, 65]], strict)).toBe('E2BIG');
    expect(
      dmOp(
        A,
        [
          [at, 64],
          [at, 64],
        ],
        strict,
      ),
    ).toBe('E2BIG');
    expect(PRIVCMD_LIMITS).toEqual({ dmOpMaxNrBufs: 16, dmOpBufMaxSize: 4096 });
  });
});

describe('a process that changes its memory during the call', () => {
  it.each([1, 2, 16])('cannot have %i blocks audited and others used', (num) => {
    const blocks = Array.from({ length: num }, () => [process.allocate(128), 100] as [number, number]);
    const ubufs = process.place(blockList(blocks));
    const arg = process.placeStruct(privcmd_dm_op, { dom: A, num, ubufs });
    expect(restrict(A)).toBe('0');
    process.memory.afterAccess = ({ address }) => {
      if (address === arg) process.memory.poke(arg, encode(privcmd_dm_op, { dom: B, num: 0xffff, ubufs: KERNEL }));
      if (address === ubufs) process.memory.poke(ubufs, blockList(blocks.map(() => [KERNEL, U64_MAX])));
    };
    expect(answerOf(() => file.ioctl(IOCTL_PRIVCMD_DM_OP, arg, process))).toBe('0');
    const [call] = xen.dmOps;
    expect(call!.domid).toBe(A);
    expect(call!.buffers.map((b) => b.size)).toEqual(blocks.map(([, size]) => size));
    for (const [i, [address]] of blocks.entries()) {
      call!.buffers[i]!.copyTo(0, Uint8Array.of(i + 1));
      expect(process.memory.peek(address, 1)[0]).toBe(i + 1);
    }
    expect([process.memory.nrReads(arg), process.memory.nrReads(ubufs)]).toEqual([1, 1]);
  });

  it('cannot restrict to one domain and be told another', () => {
    const arg = process.place(Uint8Array.of(A, 0));
    process.memory.afterAccess = () => process.memory.poke(arg, Uint8Array.of(B, 0));
    expect(answerOf(() => file.ioctl(IOCTL_PRIVCMD_RESTRICT, arg, process))).toBe('0');
    expect(file.restrictedTo).toBe(A);
    expect(process.memory.nrReads(arg)).toBe(1);
  });

  it('does not change the blocks of a call that is still running with its next one', () => {
    const [one, two] = [process.allocate(64), process.allocate(64)];
    expect(dmOp(A, [[one, 8]])).toBe('0');
    expect(dmOp(B, [[two, 16]])).toBe('0');
    const preempted = xen.dmOps[0]!;
    expect([preempted.domid, preempted.buffers[0]!.size]).toEqual([A, 8]);
    preempted.buffers[0]!.copyTo(0, Uint8Array.of(7));
    expect([process.memory.peek(one, 1)[0], process.memory.peek(two, 1)[0]]).toEqual([7, 0]);
  });
});

describe('a block as the hypervisor has it', () => {
  it.each([
    [0, 0, 'OK'],
    [0, 16, 'OK'],
    [15, 1, 'OK'],
    [16, 0, 'OK'],
    [0, 17, 'EFAULT'],
    [16, 1, 'EFAULT'],
    [4096, 1, 'EFAULT'],
    [Number.MAX_SAFE_INTEGER, 1, 'EFAULT'],
  ])('copies at offset %i, %i bytes: %s', (offset, length, verdict) => {
    expect(dmOp(A, [[process.allocate(64), 16]])).toBe('0');
    const buffer = xen.dmOps[0]!.buffers[0]!;
    expect(verdictOf(() => buffer.copyFrom(offset, new Uint8Array(length)))).toBe(verdict);
    expect(verdictOf(() => buffer.copyTo(offset, new Uint8Array(length)))).toBe(verdict);
  });
});
