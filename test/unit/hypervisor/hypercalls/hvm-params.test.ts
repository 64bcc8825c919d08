/** HVMOP_set_param and HVMOP_get_param: rows measured on real Xen 4.17, in the order of the measurement. */
import { describe, expect, test } from 'vitest';
import * as P from '../../../../dist/abi/xen/hvm-params.js';
import { createHvmDomain } from '../../../../dist/hypervisor/build-domain.js';
import { Toolstack } from '../../../support/toolstack.js';

describe('the domain that programs find', () => {
  const xen = new Toolstack();
  const { domid } = createHvmDomain(xen.hypervisor, { vcpus: 2 });

  test('parameters a new domain has, and those that are gone', () => {
    const gone = [4, 13, 20, 21, 22, 23, 24, 25, 26, 30];
    const values = new Map<number, bigint>([
      [11, 1n],
      [31, 1n],
      [32, 0xfeff0n],
      [33, 8n],
    ]);
    for (let index = 0; index < P.HVM_NR_PARAMS; index++) {
      expect([index, xen.getParam(domid, index)]).toEqual([
        index,
        gone.includes(index) ? 'EINVAL' : (values.get(index) ?? 0n),
      ]);
    }
  });

  test('and what it looks like', () => {
    expect(xen.info(domid)).toMatchObject({ flags: 0xffff010a, tot_pages: 16400n, max_pages: 16896n, max_vcpu_id: 1 });
  });

  test.each<[string, number, bigint | number, unknown]>([
    ['index HVM_NR_PARAMS', 39, 0, 'EINVAL'],
    ['NR_IOREQ_SERVER_PAGES 65 after 8', P.HVM_PARAM_NR_IOREQ_SERVER_PAGES, 65, 'EEXIST'],
    ['VM86_TSS above 4 GiB', P.HVM_PARAM_VM86_TSS, 1n << 32n, 'EINVAL'],
    ['STORE_PFN', P.HVM_PARAM_STORE_PFN, 0xfeffc, 0],
    ['STORE_PFN, another', P.HVM_PARAM_STORE_PFN, 0xfeffd, 0],
    ['IOREQ_SERVER_PFN, another', P.HVM_PARAM_IOREQ_SERVER_PFN, 0xfe000, 'EEXIST'],
    ['IOREQ_SERVER_PFN, the same', P.HVM_PARAM_IOREQ_SERVER_PFN, 0xfeff0, 0],
    ['BUFIOREQ_EVTCHN', P.HVM_PARAM_BUFIOREQ_EVTCHN, 1, 'EINVAL'],
    ['TIMER_MODE 4', P.HVM_PARAM_TIMER_MODE, 4, 'EINVAL'],
    ['TIMER_MODE 3', P.HVM_PARAM_TIMER_MODE, 3, 0],
    ['VIRIDIAN 1', P.HVM_PARAM_VIRIDIAN, 1, 0],
    ['VIRIDIAN 2 after 1', P.HVM_PARAM_VIRIDIAN, 2, 'EEXIST'],
    ['ACPI_IOPORTS_LOCATION 2', P.HVM_PARAM_ACPI_IOPORTS_LOCATION, 2, 'EINVAL'],
    ['ACPI_IOPORTS_LOCATION 1', P.HVM_PARAM_ACPI_IOPORTS_LOCATION, 1, 0],
    ['TRIPLE_FAULT_REASON 6', P.HVM_PARAM_TRIPLE_FAULT_REASON, 6, 'EINVAL'],
    ['ACPI_S_STATE 3', P.HVM_PARAM_ACPI_S_STATE, 3, 0],
    ['ACPI_S_STATE 1', P.HVM_PARAM_ACPI_S_STATE, 1, 'EINVAL'],
    ['ACPI_S_STATE 0', P.HVM_PARAM_ACPI_S_STATE, 0, 0],
    ['MCA_CAP 1', P.HVM_PARAM_MCA_CAP, 1, 'EINVAL'],
    ['X87_FIP_WIDTH 3', P.HVM_PARAM_X87_FIP_WIDTH, 3, 'EINVAL'],
    ['one without a name', 3, 7, 0],
    ['DM_DOMAIN', P.HVM_PARAM_DM_DOMAIN, 0x7ff0, 'EINVAL'],
  ])('set %s', (_, index, value, expected) => {
    expect(xen.setParam(domid, index, value)).toBe(expected);
    if (expected === 0) expect(xen.getParam(domid, index)).toBe(BigInt(value));
  });

  test.each<[string, number, unknown]>([
    ['dom0', 0, 'EINVAL'],
    ['999', 999, 'ESRCH'],
  ])('of %s', (_, target, expected) => {
    expect(xen.setParam(target, 1, 7)).toBe(expected);
    expect(xen.getParam(target, 1)).toBe(expected);
  });
});

describe('NR_IOREQ_SERVER_PAGES of a domain that has none yet', () => {
  test.each([
    [0, 'EINVAL'],
    [8, 0],
    [64, 0],
    [65, 'EINVAL'],
  ])('%i', (value, expected) => {
    const xen = new Toolstack();
    expect(xen.setParam(xen.hvm(), P.HVM_PARAM_NR_IOREQ_SERVER_PAGES, value)).toBe(expected);
  });
});

describe('VM86_TSS and its size are one parameter', () => {
  const xen = new Toolstack();
  const domid = xen.hvm();
  test('the old one has the size that was usual', () => {
    expect(xen.setParam(domid, P.HVM_PARAM_VM86_TSS, 0x1000)).toBe(0);
    expect(xen.getParam(domid, P.HVM_PARAM_VM86_TSS_SIZED)).toBe((128n << 32n) | 0x1000n);
  });
  test('a size too small is refused, one too large is cut', () => {
    expect(xen.setParam(domid, P.HVM_PARAM_VM86_TSS_SIZED, 103n << 32n)).toBe('EINVAL');
    expect(xen.setParam(domid, P.HVM_PARAM_VM86_TSS_SIZED, (0x7000n << 32n) | 0x2000n)).toBe(0);
    expect(xen.getParam(domid, P.HVM_PARAM_VM86_TSS_SIZED)).toBe((8329n << 32n) | 0x2000n);
    expect(xen.getParam(domid, P.HVM_PARAM_VM86_TSS)).toBe(0x2000n);
  });
});

test('a guest reads and sets its own, and nobody else’s', () => {
  const xen = new Toolstack();
  const [mine, other] = [xen.hvm(), xen.hvm()];
  xen.caller = xen.domain(mine);
  expect(xen.setParam(0x7ff0, P.HVM_PARAM_STORE_EVTCHN, 3)).toBe(0);
  expect(xen.getParam(mine, P.HVM_PARAM_STORE_EVTCHN)).toBe(3n);
  expect(xen.getParam(mine, P.HVM_PARAM_STORE_PFN)).toBe(0n);
  expect(xen.setParam(mine, P.HVM_PARAM_STORE_PFN, 3)).toBe('EPERM');
  expect(xen.setParam(mine, P.HVM_PARAM_NR_IOREQ_SERVER_PAGES, 8)).toBe('EPERM');
  expect(xen.getParam(mine, P.HVM_PARAM_IOREQ_SERVER_PFN)).toBe('EPERM');
  expect(xen.getParam(mine, P.HVM_PARAM_DM_DOMAIN)).toBe('EINVAL');
  expect(xen.getParam(other, P.HVM_PARAM_STORE_EVTCHN)).toBe('EPERM');
});
