import { beforeEach, describe, expect, test } from 'vitest';
import {
  HVM_PARAM_BUFIOREQ_PFN,
  HVM_PARAM_IOREQ_PFN,
  HVM_PARAM_IOREQ_SERVER_PFN,
  HVM_PARAM_NR_IOREQ_SERVER_PAGES,
} from '../../../../dist/abi/xen/hvm-params.js';
import { IoreqGfns } from '../../../../dist/hypervisor/ioreq/ioreq-gfns.js';
import { verdictOf } from '../../../support/dm-op.js';

let gfns: IoreqGfns;
beforeEach(() => {
  gfns = new IoreqGfns();
});

describe('the window', () => {
  test.each([
    [0n, 'EINVAL'],
    [1n, 'OK'],
    [64n, 'OK'],
    [65n, 'EINVAL'],
    [1n << 63n, 'EINVAL'],
  ])('of %i pages', (nr, verdict) => {
    expect(verdictOf(() => gfns.paramSet(HVM_PARAM_NR_IOREQ_SERVER_PAGES, nr))).toBe(verdict);
  });

  test('lends the lowest free, and ENOMEM when none is', () => {
    gfns.paramSet(HVM_PARAM_IOREQ_SERVER_PFN, 0x100n);
    gfns.paramSet(HVM_PARAM_NR_IOREQ_SERVER_PAGES, 2n);
    const first = gfns.allocate();
    expect([first.gfn, gfns.allocate().gfn]).toEqual([0x100n, 0x101n]);
    expect(verdictOf(() => gfns.allocate())).toBe('ENOMEM');
    gfns.release(first);
    expect(gfns.allocate().gfn).toBe(0x100n);
  });

  test('setting its size again does not lend a page twice; a larger one adds', () => {
    gfns.paramSet(HVM_PARAM_NR_IOREQ_SERVER_PAGES, 1n);
    gfns.allocate();
    gfns.paramSet(HVM_PARAM_NR_IOREQ_SERVER_PAGES, 1n);
    expect(verdictOf(() => gfns.allocate())).toBe('ENOMEM');
    gfns.paramSet(HVM_PARAM_NR_IOREQ_SERVER_PAGES, 2n);
    expect(gfns.allocate().gfn).toBe(1n);
  });

  test('a base that is set while pages are lent: they still come back', () => {
    gfns.paramSet(HVM_PARAM_NR_IOREQ_SERVER_PAGES, 2n);
    const loan = gfns.allocate();
    gfns.paramSet(HVM_PARAM_IOREQ_SERVER_PFN, 0xffff_ffff_ffff_ffffn);
    expect(gfns.allocate().gfn).toBe(0n); // wraps
    gfns.release(loan);
    expect(gfns.allocate().gfn).toBe(0xffff_ffff_ffff_ffffn);
  });
});

test('the two parameters are lent after the window, each once', () => {
  gfns.paramSet(HVM_PARAM_IOREQ_SERVER_PFN, 0x100n);
  gfns.paramSet(HVM_PARAM_NR_IOREQ_SERVER_PAGES, 1n);
  gfns.paramSet(HVM_PARAM_BUFIOREQ_PFN, 0x21n);
  gfns.paramSet(HVM_PARAM_IOREQ_PFN, 0x20n);
  const loans = [gfns.allocate(), gfns.allocate(), gfns.allocate()];
  expect(loans.map((loan) => loan.gfn)).toEqual([0x100n, 0x20n, 0x21n]);
  gfns.paramSet(HVM_PARAM_IOREQ_PFN, 0x20n);
  expect(verdictOf(() => gfns.allocate())).toBe('ENOMEM');
  gfns.release(loans[1]!);
  expect(gfns.allocate().gfn).toBe(0x20n);
});
