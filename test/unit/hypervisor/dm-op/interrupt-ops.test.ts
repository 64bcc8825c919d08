/** Interrupt lines, MSIs, events and the rest of what a device model says about a domain, as measured on real Xen. */
import { beforeEach, describe, expect, test } from 'vitest';
import * as abi from '../../../../dist/abi/xen/dm-op.js';
import type { InterruptRecord } from '../../../../dist/hypervisor/interrupts/interrupt-sink.js';
import { dm, type TestDomain, testDomain } from '../../../support/dm-op.js';

let t: TestDomain;
beforeEach(() => {
  t = testDomain();
});

describe('set_isa_irq_level', () => {
  test.each([
    [0, 1, 'OK'],
    [1, 1, 'OK'],
    [8, 1, 'OK'],
    [15, 1, 'OK'],
    [15, 0, 'OK'],
    [16, 1, 'EINVAL'],
    [17, 1, 'EINVAL'],
    [255, 0, 'EINVAL'],
    [1, 2, 'EINVAL'],
  ])('line %i, level %i', (isa_irq, level, verdict) => {
    expect(dm(t, abi.XEN_DMOP_set_isa_irq_level, { isa_irq, level }).verdict).toBe(verdict);
  });
});

describe('set_pci_intx_level', () => {
  test.each([
    [{ device: 3, level: 1 }, 'OK'],
    [{ device: 3, level: 0 }, 'OK'],
    [{ device: 31, intx: 3, level: 1 }, 'OK'],
    [{ domain: 1 }, 'EINVAL'],
    [{ bus: 1 }, 'EINVAL'],
    [{ device: 32 }, 'EINVAL'],
    [{ intx: 4 }, 'EINVAL'],
    [{ level: 2 }, 'EINVAL'],
  ])('%o', (args, verdict) => {
    expect(dm(t, abi.XEN_DMOP_set_pci_intx_level, args).verdict).toBe(verdict);
  });
});

describe('set_pci_link_route', () => {
  test.each([
    [3, 0, 'OK'],
    [3, 15, 'OK'],
    [4, 5, 'EINVAL'],
    [0, 16, 'EINVAL'],
  ])('link %i to line %i', (link, isa_irq, verdict) => {
    expect(dm(t, abi.XEN_DMOP_set_pci_link_route, { link, isa_irq }).verdict).toBe(verdict);
  });
});

describe('set_irq_level', () => {
  test('is for Arm', () => {
    expect(dm(t, abi.XEN_DMOP_set_irq_level, { irq: 32, level: 1 }).verdict).toBe('EOPNOTSUPP');
  });
});

describe('inject_msi', () => {
  const inject = (addr: bigint, data: number, pad = 0) => dm(t, abi.XEN_DMOP_inject_msi, { addr, data, pad }).verdict;

  test.each([
    ['fixed', 0xfee00000n, 0x41, 'OK'],
    ['vector 0', 0xfee00000n, 0, 'ERANGE'],
    ['vector below 16', 0xfee00000n, 0x0f, 'OK'],
    ['lowest priority, no APIC on', 0xfee00000n, 0x141, 'ESRCH'],
    ['SMI', 0xfee00000n, 0x241, 'EINVAL'],
    ['mode 3', 0xfee00000n, 0x341, 'EINVAL'],
    ['NMI', 0xfee00000n, 0x441, 'EINVAL'],
    ['ExtINT', 0xfee00000n, 0x741, 'EINVAL'],
    ['broadcast', 0xfeeff000n, 0x41, 'OK'],
    ['nobody', 0xfee63000n, 0x41, 'OK'],
    ['not an MSI address', 0x12345000n, 0x41, 'OK'],
    ['all 0', 0n, 0, 'ERANGE'],
    ['pirq 256', 1n << 40n, 0, 'EINVAL'],
    ['negative pirq', 1n << 63n, 0, 'ERANGE'],
    ['pirq 0 by the upper half', 1n << 32n, 0, 'ERANGE'],
  ])('%s', (_, addr, data, verdict) => {
    expect(inject(addr, data)).toBe(verdict);
  });

  test('padding must be zero', () => {
    expect(inject(0xfee00000n, 0x41, 1)).toBe('EINVAL');
  });

  test('as measured: the first pirq is the one, others of the domain are busy, beyond 55 there is none', () => {
    expect(inject(0xfee01000n, 0)).toBe('OK');
    expect(inject(0xfee02000n, 0)).toBe('EBUSY');
    expect(inject(0xfee37000n, 0)).toBe('EBUSY');
    expect(inject(0xfee38000n, 0)).toBe('EINVAL');
    expect(inject(0xfee01000n, 0)).toBe('OK');
  });
});

describe('inject_event', () => {
  const inject = (vcpuid: number, args: object = {}) =>
    dm(t, abi.XEN_DMOP_inject_event, { vcpuid, vector: 13, type: abi.XEN_DMOP_EVENT_hw_exc, ...args }).verdict;

  test('as measured', () => {
    expect(inject(2)).toBe('EINVAL');
    expect(inject(0xffffffff)).toBe('EINVAL');
    expect(inject(0, { pad0: 1 })).toBe('EINVAL');
    expect(inject(0, { pad1: 1 })).toBe('EINVAL');
    expect(inject(0, { error_code: 4, cr2: 0x123n, insn_len: 2 })).toBe('OK');
    expect(inject(0)).toBe('EBUSY');
    expect(inject(1, { type: 99 })).toBe('OK');
    expect(inject(1)).toBe('EBUSY');
    const taken = { vector: 13, type: abi.XEN_DMOP_EVENT_hw_exc, errorCode: 4, insnLen: 2, cr2: 0x123n };
    expect(t.hvm.interrupts.takeEvent(0)).toEqual(taken);
    expect(t.hvm.interrupts.takeEvent(0)).toBeUndefined();
    expect(inject(0)).toBe('OK');
    expect((t.hvm.interrupts.sink as InterruptRecord).nrEvents).toBe(3);
  });
});

describe('remote_shutdown', () => {
  test.each([
    [3, 3],
    [12345, 12345 & 0xff],
    [0x1ff, 0xff],
  ])('reason %i', (reason, code) => {
    expect(dm(t, abi.XEN_DMOP_remote_shutdown, { reason }).verdict).toBe('OK');
    expect(dm(t, abi.XEN_DMOP_remote_shutdown, { reason: 1 }).verdict).toBe('OK');
    expect(t.domain.shutdownCode).toBe(code);
  });
});

describe('nr_vcpus', () => {
  test('is what the domain was created for', () => {
    expect(dm(t, abi.XEN_DMOP_nr_vcpus).out.vcpus).toBe(2);
  });
});

test('as measured on a dying domain that somebody still holds', () => {
  t.domain.hold();
  t.domain.kill({ due: () => false });
  const verdicts = [
    dm(t, abi.XEN_DMOP_nr_vcpus),
    dm(t, abi.XEN_DMOP_set_isa_irq_level, { isa_irq: 1, level: 1 }),
    dm(t, abi.XEN_DMOP_set_pci_intx_level, { level: 1 }),
    dm(t, abi.XEN_DMOP_set_pci_link_route),
    dm(t, abi.XEN_DMOP_inject_event, { type: 3 }),
    dm(t, abi.XEN_DMOP_inject_msi, { addr: 0xfee00000n, data: 0x41 }),
    dm(t, abi.XEN_DMOP_inject_msi, { addr: 0xfee00000n, data: 0x141 }),
    dm(t, abi.XEN_DMOP_remote_shutdown),
    dm(t, abi.XEN_DMOP_pin_memory_cacheattr, { start: 1n, end: 1n }),
    dm(t, abi.XEN_DMOP_set_mem_type, { first_pfn: 3n, nr: 1 }),
    dm(t, abi.XEN_DMOP_relocate_memory, { size: 1, src_gfn: 3n, dst_gfn: 4n }),
  ].map((result) => result.verdict);
  expect(verdicts).toEqual(['OK', 'OK', 'OK', 'OK', 'OK', 'OK', 'ESRCH', 'OK', 'OK', 'EINVAL', 'EINVAL']);
});
