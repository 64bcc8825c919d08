/** What happens before any operation is looked at: the rows "raw dm_op" of the measurements on real Xen, and copying. */
import { describe, expect, test } from 'vitest';
import * as abi from '../../../../dist/abi/xen/dm-op.js';
import { NEVER_PREEMPT } from '../../../../dist/boundary/operation.js';
import { createPvDomain } from '../../../../dist/hypervisor/build-domain.js';
import { beginDmOp } from '../../../../dist/hypervisor/hypercalls/dm-op/dm-op.js';
import { DmOpBuffers } from '../../../../dist/hypervisor/hypercalls/dm-op/dm-op-buffers.js';
import { DM_OPERATIONS, dmOpSupportRows } from '../../../../dist/hypervisor/hypercalls/dm-op/table.js';
import { addDomain, dmOpBytes, HEADER, runRaw, TestBuffer, testDomain } from '../../../support/dm-op.js';

const { hypervisor, domain } = testDomain();
const pv = createPvDomain(hypervisor);
const other = addDomain(hypervisor, { vcpus: 1 });

const NR_VCPUS = abi.XEN_DMOP_nr_vcpus;

function header(op: number, size: number, pad = 0): TestBuffer {
  const bytes = new Uint8Array(Math.max(size, HEADER));
  new DataView(bytes.buffer).setUint32(0, op, true);
  new DataView(bytes.buffer).setUint32(4, pad, true);
  return new TestBuffer(bytes.subarray(0, size));
}

function call(op: number, size: number, domid = domain.domid, pad = 0): string {
  return runRaw(hypervisor, domid, [header(op, size, pad)]).verdict;
}

describe('size of the first buffer', () => {
  test.each([
    ['exact', 12, 'OK'],
    ['full union', 32, 'OK'],
    ['the most the kernel passes on', 4096, 'OK'],
    ['1 short', 11, 'EFAULT'],
    ['header only', 8, 'EFAULT'],
    ['1 short of a header', 7, 'EFAULT'],
    ['empty', 0, 'EFAULT'],
  ])('nr_vcpus, %s', (_, size, verdict) => {
    expect(call(NR_VCPUS, size)).toBe(verdict);
  });

  const sizes: [string, number, number][] = DM_OPERATIONS.filter((o) => o.support.status !== 'refused').map((o) => [
    o.name,
    o.op,
    HEADER + o.layout.size,
  ]);
  test.each(sizes)('%s: payload short by 1', (_, op, size) => {
    expect(call(op, size - 1)).toBe('EFAULT');
  });

  test('sizes are those that real Xen took: short by one failed at these', () => {
    const measured = { 1: 14, 2: 32, 4: 32, 5: 12, 10: 10, 11: 16, 12: 24, 13: 32, 14: 24, 16: 12, 17: 32, 20: 12 };
    const ours = Object.fromEntries(sizes.map(([, op, size]) => [op, size]));
    expect(ours).toMatchObject(measured);
  });
});

describe('operation number and padding', () => {
  test.each([
    ['0', 0, 8, 0, 'EOPNOTSUPP'],
    ['0 with padding set', 0, 8, 1, 'EINVAL'],
    ['21', 21, 64, 0, 'EOPNOTSUPP'],
    ['21 with padding set', 21, 64, 1, 'EOPNOTSUPP'],
    ['2^32-1', 0xffffffff, 64, 0, 'EOPNOTSUPP'],
    ['set_irq_level, which is for Arm', abi.XEN_DMOP_set_irq_level, 16, 0, 'EOPNOTSUPP'],
    ['set_irq_level, header only', abi.XEN_DMOP_set_irq_level, 8, 0, 'EOPNOTSUPP'],
    ['set_irq_level with padding set', abi.XEN_DMOP_set_irq_level, 8, 1, 'EINVAL'],
    ['nr_vcpus with padding set', NR_VCPUS, 12, 1, 'EINVAL'],
    ['short payload and padding set', NR_VCPUS, 11, 1, 'EFAULT'],
  ])('%s', (_, op, size, pad, verdict) => {
    expect(call(op, size, domain.domid, pad)).toBe(verdict);
  });
});

describe('which domain', () => {
  test.each([
    ['dom0, the caller', 0, NR_VCPUS, 'EPERM'],
    ['DOMID_SELF', 0x7ff0, NR_VCPUS, 'ESRCH'],
    ['DOMID_IO', 0x7ff1, NR_VCPUS, 'ESRCH'],
    ['DOMID_COW', 0x7ff3, NR_VCPUS, 'ESRCH'],
    ['DOMID_INVALID', 0x7ff4, NR_VCPUS, 'ESRCH'],
    ['DOMID_IDLE', 0x7fff, NR_VCPUS, 'ESRCH'],
    ['none', 999, NR_VCPUS, 'ESRCH'],
    ['none, unknown operation', 999, 21, 'ESRCH'],
    ['a PV domain, unknown operation', pv.domid, 21, 'EINVAL'],
    ['beyond any domid', 0xffff, NR_VCPUS, 'ESRCH'],
  ])('%s', (_, domid, op, verdict) => {
    expect(call(op, 64, domid)).toBe(verdict);
  });

  test('a caller that controls nothing is refused', () => {
    const { verdict } = runRaw(hypervisor, domain.domid, [header(NR_VCPUS, 12)], NEVER_PREEMPT, other.domain);
    expect(verdict).toBe('EPERM');
  });
});

describe('number of buffers', () => {
  test.each([
    [0, 'ENODATA'],
    [1, 'OK'],
    [2, 'OK'],
    [3, 'E2BIG'],
    [15, 'E2BIG'],
    [65535, 'E2BIG'],
  ])('%i', (count, verdict) => {
    const buffers = Array.from({ length: count }, () => header(NR_VCPUS, 12));
    expect(runRaw(hypervisor, domain.domid, buffers).verdict).toBe(verdict);
  });

  test('too many buffers come before an unknown domain', () => {
    expect(runRaw(hypervisor, 999, [header(0, 8), header(0, 8), header(0, 8)]).verdict).toBe('E2BIG');
  });
});

describe('copying', () => {
  test('every byte of the first buffer is read once, and none beyond the largest operation', () => {
    const buffer = header(NR_VCPUS, 4096);
    expect(runRaw(hypervisor, domain.domid, [buffer]).verdict).toBe('OK');
    expect(Math.max(...buffer.reads)).toBe(1);
    expect(buffer.reads.lastIndexOf(1)).toBeLessThan(32);
  });

  test('what the caller changes after the copy has no effect', () => {
    const buffer = new TestBuffer(dmOpBytes(abi.XEN_DMOP_set_isa_irq_level, { isa_irq: 5, level: 1 }));
    buffer.onRead = () => buffer.bytes.fill(0xff);
    expect(runRaw(hypervisor, domain.domid, [buffer]).verdict).toBe('OK');
    expect(domain.hvm?.interrupts.gsiAssertCount(5)).toBe(1);
  });

  test('the result goes back, and nothing but the struct is written', () => {
    const buffer = header(NR_VCPUS, 64);
    buffer.bytes.fill(0xaa, 12);
    expect(runRaw(hypervisor, domain.domid, [buffer]).verdict).toBe('OK');
    expect(new DataView(buffer.bytes.buffer).getUint32(8, true)).toBe(2);
    expect([...buffer.bytes.subarray(12)].every((byte) => byte === 0xaa)).toBe(true);
  });

  test('a struct that cannot be written back is EFAULT', () => {
    const buffer = header(NR_VCPUS, 12);
    buffer.isWritable = false;
    expect(runRaw(hypervisor, domain.domid, [buffer]).verdict).toBe('EFAULT');
  });

  test('unreadable memory is EFAULT', () => {
    const buffer = header(NR_VCPUS, 12);
    buffer.readableUpTo = 11;
    expect(runRaw(hypervisor, domain.domid, [buffer]).verdict).toBe('EFAULT');
  });

  test('a failed operation copies nothing out', () => {
    const bytes = dmOpBytes(abi.XEN_DMOP_create_ioreq_server, { handle_bufioreq: 3, id: 0xffff });
    const before = bytes.slice();
    expect(runRaw(hypervisor, domain.domid, [new TestBuffer(bytes)]).verdict).toBe('EINVAL');
    expect(bytes).toEqual(before);
  });

  test('operations without results write nothing, though the memory were writable', () => {
    const buffer = new TestBuffer(dmOpBytes(abi.XEN_DMOP_set_isa_irq_level, { isa_irq: 6, level: 1 }));
    buffer.isWritable = false;
    expect(runRaw(hypervisor, domain.domid, [buffer]).verdict).toBe('OK');
  });

  test('the working copy begins as zeros, whatever the call before left in it', () => {
    runRaw(hypervisor, domain.domid, [new TestBuffer(new Uint8Array(64).fill(0xff))]);
    const buffers = new DmOpBuffers([header(NR_VCPUS, 8)]);
    buffers.open();
    const bytes = Array.from({ length: buffers.view.byteLength }, (_, i) => buffers.view.getUint8(i));
    buffers.close();
    expect(bytes).toEqual([NR_VCPUS, ...new Array(31).fill(0)]);
  });

  test('a call that has ended cannot be run again', () => {
    const operation = beginDmOp(hypervisor, hypervisor.dom0, domain.domid, [header(NR_VCPUS, 12)]);
    expect(operation.run(NEVER_PREEMPT)).toBe(0);
    expect(operation.name).toBe('nr_vcpus');
    expect(() => operation.run(NEVER_PREEMPT)).toThrow(/after its end/);
  });
});

describe('the table', () => {
  test('holds all twenty operations of the header, by number and name', () => {
    const named = Object.entries(abi)
      .filter(([name]) => /^XEN_DMOP_[a-z]/.test(name) && name !== 'XEN_DMOP_no_gfns')
      .map(([name, number]) => [number, name.slice('XEN_DMOP_'.length)]);
    expect(DM_OPERATIONS.map((o) => [o.op, o.name])).toEqual(named);
    expect(DM_OPERATIONS).toHaveLength(20);
  });

  test('is the support matrix', () => {
    const rows = dmOpSupportRows();
    expect(rows.find((row) => row.name === 'set_irq_level')).toEqual({
      number: 19,
      name: 'set_irq_level',
      status: 'refused',
      errno: 'EOPNOTSUPP',
      note: 'Arm only',
    });
    for (const row of rows) if (row.status !== 'supported') expect(row.note).toBeTruthy();
  });
});
