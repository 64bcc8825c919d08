/** The remaining hypercalls, how calls are told apart, and the support matrix. */
import { describe, expect, test } from 'vitest';
import { encode } from '../../../../dist/abi/layout.js';
import * as D from '../../../../dist/abi/xen/domctl.js';
import { sched_remote_shutdown } from '../../../../dist/abi/xen/sched.js';
import { xen_sysctl, xen_sysctl_getdomaininfolist } from '../../../../dist/abi/xen/sysctl.js';
import { HYPERVISOR, multicall_entry } from '../../../../dist/abi/xen/xen.js';
import * as V from '../../../../dist/abi/xen/xen-version.js';
import { supportMatrix } from '../../../../dist/hypervisor/hypercalls/table.js';
import { AlwaysPreempt, fill, runToEnd, TestMemory, Toolstack } from '../../../support/toolstack.js';

describe('xen_version', () => {
  const xen = new Toolstack();
  const version = (cmd: number, args: readonly bigint[] = [0n], memory?: TestMemory) =>
    xen.hypercall(HYPERVISOR.xen_version, [cmd, ...args], memory);

  test.each([
    ['version', V.XENVER.version, 262161],
    ['pagesize', V.XENVER.pagesize, 4096],
    ['build_id', V.XENVER.build_id, 'ENODATA'],
    ['77', 77, 'ENOSYS'],
    ['extraversion at NULL', V.XENVER.extraversion, 'EFAULT'],
  ])('%s', (_, cmd, expected) => {
    expect(version(cmd)).toBe(expected);
  });

  test('texts are padded with zeros', () => {
    const memory = new TestMemory();
    const address = memory.put(new Uint8Array(1100).fill(0xff));
    expect(version(V.XENVER.capabilities, [address], memory)).toBe(0);
    const text = Buffer.from(memory.bytes.subarray(0, 1024)).toString().replace(/\0+$/, '');
    expect(text).toBe('xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ');
    expect(memory.bytes[1023]).toBe(0);
    expect(memory.bytes[1024]).toBe(0xff);
  });

  test('features of dom0 and of an HVM domain', () => {
    const features = (submap_idx: number) =>
      xen.withStruct(HYPERVISOR.xen_version, [V.XENVER.get_features], V.xen_feature_info, { submap_idx });
    expect(features(0).out.submap).toBe(0x228f0);
    expect(features(1).result).toBe('EINVAL');
    xen.caller = xen.domain(xen.hvm());
    expect(features(0).out.submap).toBe(0x12305);
    xen.caller = xen.hypervisor.dom0;
  });

  test('where the hypervisor is', () => {
    const { out } = xen.withStruct(
      HYPERVISOR.xen_version,
      [V.XENVER.platform_parameters],
      V.xen_platform_parameters,
      {},
    );
    expect(out.virt_start).toBe(0xffff800000000000n);
  });
});

describe('sysctl getdomaininfolist', () => {
  const xen = new Toolstack();
  for (let i = 0; i < 40; i++) xen.hvm();
  xen.preemption = new AlwaysPreempt();

  function list(first_domain: number, max_domains: number, room = max_domains) {
    const memory = new TestMemory();
    const bytes = new Uint8Array(xen_sysctl.size);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, 6, true);
    view.setUint32(4, 0x15, true);
    const buffer =
      room < max_domains
        ? TestMemory.BASE + BigInt(memory.bytes.length - room * D.xen_domctl_getdomaininfo.size)
        : TestMemory.BASE + 0x1000n;
    const list = { first_domain, max_domains, buffer, num_domains: 0 };
    bytes.set(encode(xen_sysctl_getdomaininfolist, list), xen_sysctl.fields.u.offset);
    const address = memory.put(bytes);
    const result = xen.hypercall(HYPERVISOR.sysctl, [address], memory);
    const { num_domains } = memory.read(address, xen_sysctl).u.getdomaininfolist;
    const domids = Array.from({ length: num_domains }, (_, i) => {
      const at = buffer + BigInt(i * D.xen_domctl_getdomaininfo.size);
      return memory.read(at, D.xen_domctl_getdomaininfo).domain;
    });
    return { result, domids };
  }

  test('all, some, from the middle, none', () => {
    expect(list(0, 100)).toEqual({ result: 0, domids: Array.from({ length: 41 }, (_, i) => i) });
    expect(list(0, 3)).toEqual({ result: 0, domids: [0, 1, 2] });
    expect(list(39, 100)).toEqual({ result: 0, domids: [39, 40] });
    expect(list(41, 100)).toEqual({ result: 0, domids: [] });
  });

  test('a buffer that ends early', () => {
    expect(list(0, 100, 2).result).toBe('EFAULT');
  });

  test('another version, another operation, another caller', () => {
    expect(xen.withStruct(HYPERVISOR.sysctl, [], xen_sysctl, { cmd: 6, interface_version: 1 }).result).toBe('EACCES');
    expect(xen.withStruct(HYPERVISOR.sysctl, [], xen_sysctl, { cmd: 2, interface_version: 0x15 }).result).toBe(
      'ENOSYS',
    );
    xen.caller = xen.domain(1);
    expect(xen.withStruct(HYPERVISOR.sysctl, [], xen_sysctl, { cmd: 6, interface_version: 0x15 }).result).toBe('EPERM');
  });
});

test('sched_op remote_shutdown', () => {
  const xen = new Toolstack();
  const domid = xen.hvm();
  const shutdown = (domain_id: number, reason: number) =>
    xen.withStruct(HYPERVISOR.sched_op, [4], sched_remote_shutdown, { domain_id, reason }).result;
  expect(shutdown(999, 0)).toBe('ESRCH');
  expect(shutdown(domid, 12345)).toBe(0);
  expect(xen.info(domid).flags).toBe((0x39 << 16) | 0x10e);
  expect(xen.domctl(D.XEN_DOMCTL.resumedomain, domid).result).toBe(0);
  expect(xen.info(domid).flags).toBe(0xffff010a);
});

describe('multicall', () => {
  const xen = new Toolstack();

  function entries(memory: TestMemory, calls: readonly [number, ...bigint[]][]): bigint {
    const bytes = new Uint8Array(calls.length * multicall_entry.size);
    for (const [i, [op, ...args]] of calls.entries()) {
      const entry = fill(multicall_entry, { op: BigInt(op), result: 0x5555n });
      for (const [j, arg] of args.entries()) entry.args[j] = arg;
      bytes.set(encode(multicall_entry, entry), i * multicall_entry.size);
    }
    return memory.put(bytes);
  }

  function results(memory: TestMemory, list: bigint, count: number): bigint[] {
    return Array.from({ length: count }, (_, i) =>
      BigInt.asIntN(64, memory.read(list + BigInt(i * multicall_entry.size), multicall_entry).result),
    );
  }

  test('each call has its result; a failure doesn’t end the list, preemption between calls neither', () => {
    const memory = new TestMemory();
    const list = entries(memory, [
      [HYPERVISOR.xen_version, 0n],
      [63],
      [HYPERVISOR.multicall, TestMemory.BASE, 1n],
      [HYPERVISOR.event_channel_op, 4n, 0n],
      [HYPERVISOR.xen_version, 7n],
    ]);
    xen.preemption = new AlwaysPreempt();
    expect(xen.hypercall(HYPERVISOR.multicall, [list, 5], memory)).toBe(0);
    expect(results(memory, list, 5)).toEqual([262161n, -38n, -22n, -14n, 4096n]);
  });

  test('a list that cannot be read ends it where it ends', () => {
    const memory = new TestMemory(multicall_entry.size * 2);
    const list = entries(memory, [
      [HYPERVISOR.xen_version, 0n],
      [HYPERVISOR.xen_version, 7n],
    ]);
    expect(xen.hypercall(HYPERVISOR.multicall, [list, 0xffffffff], memory)).toBe('EFAULT');
    expect(results(memory, list, 2)).toEqual([262161n, 4096n]);
    expect(xen.hypercall(HYPERVISOR.multicall, [0, 1])).toBe('EFAULT');
    expect(xen.hypercall(HYPERVISOR.multicall, [0, 0])).toBe(0);
  });

  test('the trace sees what it was', () => {
    const memory = new TestMemory();
    const operation = xen.begin(HYPERVISOR.multicall, [entries(memory, [[HYPERVISOR.xen_version, 0n]]), 1n], memory);
    expect(operation.name).toBeUndefined();
    expect(runToEnd(operation)).toBe(0);
    expect(operation.name).toBe('multicall of xen_version/version');
  });
});

describe('hypercalls that are refused', () => {
  const xen = new Toolstack();
  test.each([
    ['unknown nr 63', 63, 'ENOSYS'],
    ['0xffffffff', 0xffffffff, 'ENOSYS'],
    ['mmu_update', HYPERVISOR.mmu_update, 'ENOSYS'],
    ['grant_table_op', HYPERVISOR.grant_table_op, 'ENOSYS'],
  ])('%s', (_, op, expected) => {
    expect(xen.hypercall(op, [0n, 0n, 0n, 0n, 0n])).toBe(expected);
  });
  test('an argument at NULL', () => {
    expect(xen.hypercall(HYPERVISOR.domctl, [0n])).toBe('EFAULT');
  });
  test('arguments that aren’t there', () => {
    expect(xen.hypercall(HYPERVISOR.memory_op, [])).toBe('ENOSYS'); // increase_reservation
    expect(xen.hypercall(HYPERVISOR.dm_op, [])).toBe('ENODATA');
    expect(xen.hypercall(HYPERVISOR.dm_op, [1n, 3n])).toBe('E2BIG');
    expect(xen.hypercall(HYPERVISOR.dm_op, [1n, 1n])).toBe('EFAULT');
  });
});

test('log-dirty: rows measured on real Xen 4.17', () => {
  const xen = new Toolstack();
  const domid = xen.hvm();
  xen.populate(domid, 0, 64);
  function shadow(op: number, value: object = {}) {
    const memory = new TestMemory();
    const dirty_bitmap = memory.put(new Uint8Array(16384).fill(0xee));
    const args = { op, dirty_bitmap, ...value };
    const { result, out } = xen.domctl(D.XEN_DOMCTL.shadow_op, domid, D.xen_domctl_shadow_op, args, memory);
    return { result, out, bits: memory.bytes.subarray(0, 16384) };
  }
  expect(shadow(D.XEN_DOMCTL_SHADOW_OP_PEEK).result).toBe(0);
  expect(shadow(D.XEN_DOMCTL_SHADOW_OP_OFF).result).toBe(0);
  expect(shadow(D.XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY).result).toBe(0);
  expect(shadow(D.XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY).result).toBe('EINVAL');
  const clean = shadow(D.XEN_DOMCTL_SHADOW_OP_CLEAN, { pages: 100n });
  expect(clean).toMatchObject({ result: 0, out: { pages: 100n, stats: { dirty_count: 0 } } });
  expect([...clean.bits.subarray(0, 14)]).toEqual([...Array(13).fill(0), 0xee]);
  expect(shadow(D.XEN_DOMCTL_SHADOW_OP_PEEK, { pages: 100n, mode: 2 }).result).toBe('EINVAL');
  xen.preemption = new AlwaysPreempt();
  expect(xen.populate(domid, 0x8000, 2)).toBe(2);
  const peek = shadow(D.XEN_DOMCTL_SHADOW_OP_PEEK, { pages: 100000n });
  expect(peek).toMatchObject({ result: 0, out: { pages: 100000n, stats: { dirty_count: 2 } } });
  expect(peek.bits[0x8000 / 8]).toBe(3);
  expect(shadow(D.XEN_DOMCTL_SHADOW_OP_PEEK, { pages: 1n << 60n }).result).toBe('EFAULT');
  expect(shadow(D.XEN_DOMCTL_SHADOW_OP_OFF).result).toBe(0);
  expect(shadow(99).result).toBe('EINVAL');
  expect(shadow(D.XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION, { mb: 4 }).out.mb).toBe(4);
  expect(xen.domain(domid).pagingPoolBytes).toBe(4 << 20);
});

describe('the support matrix', () => {
  const matrix = supportMatrix();
  test('every hypercall and operation that Xen defines is in it, refusals with their reason', () => {
    expect(matrix.hypercalls).toHaveLength(Object.keys(HYPERVISOR).length);
    expect(matrix.domctl).toHaveLength(Object.keys(D.XEN_DOMCTL).length);
    expect(matrix.dm_op).toHaveLength(20);
    for (const row of Object.values(matrix).flat()) {
      if (row.status === 'refused') expect(row).toMatchObject({ errno: expect.any(String), note: expect.any(String) });
      if (row.status === 'partial') expect(row.note).toMatch(/./);
    }
  });
  test('what is refused answers with the errno it says', () => {
    const xen = new Toolstack();
    const domid = xen.hvm();
    for (const row of matrix.domctl ?? []) {
      if (row.status === 'refused')
        expect([row.name, xen.domctl(row.number, domid).result]).toEqual([row.name, row.errno]);
    }
    const byCommand = { memory_op: HYPERVISOR.memory_op, hvm_op: HYPERVISOR.hvm_op, sched_op: HYPERVISOR.sched_op };
    for (const [name, op] of Object.entries(byCommand)) {
      for (const row of matrix[name] ?? []) {
        if (row.status === 'refused')
          expect([row.name, xen.hypercall(op, [row.number, 0])]).toEqual([row.name, row.errno]);
      }
    }
  });
});
