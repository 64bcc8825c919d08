/** Small writes that nobody waits for. */
import { beforeEach, describe, expect, test } from 'vitest';
import * as abi from '../../../../dist/abi/xen/dm-op.js';
import {
  buf_ioreq,
  buffered_iopage,
  IOREQ_BUFFER_SLOT_NUM,
  IOREQ_TYPE_COPY,
  IOREQ_TYPE_TIMEOFFSET,
} from '../../../../dist/abi/xen/ioreq.js';
import type { IoRequest, IoResult } from '../../../../dist/hypervisor/ioreq/io-request.js';
import { type TestDomain, testDomain } from '../../../support/dm-op.js';
import { FakeDeviceModel } from '../../../support/fake-device-model.js';

const VGA = 0xa0000n;
const { read_pointer, write_pointer, buf_ioreq: slots } = buffered_iopage.fields;

let t: TestDomain;
beforeEach(() => {
  t = testDomain();
});

function model(handling: number = abi.HVM_IOREQSRV_BUFIOREQ_ATOMIC): FakeDeviceModel {
  return new FakeDeviceModel(t, handling).claim(abi.XEN_DMOP_IO_RANGE_MEMORY, 0xa0000n, 0x1fffffn);
}

function write(access: Partial<IoRequest> = {}): IoResult[] {
  const results: IoResult[] = [];
  const request: IoRequest = {
    space: 'memory',
    addr: VGA,
    size: 4,
    isWrite: true,
    data: 0x11223344n,
    buffered: true,
    ...access,
  };
  t.hvm.ioreq.dispatcher.start(0, request, (result) => results.push(result));
  return results;
}

const slot = (dm0: FakeDeviceModel, index: number) => buf_ioreq.read(dm0.ring, slots.offset + index * buf_ioreq.size);
const pointers = (dm0: FakeDeviceModel) => [read_pointer.get(dm0.ring, 0), write_pointer.get(dm0.ring, 0)];
function setPointers(dm0: FakeDeviceModel, read: number, written: number): void {
  read_pointer.set(dm0.ring, 0, read);
  write_pointer.set(dm0.ring, 0, written);
}
const wentBuffered = (results: IoResult[]) => results.length === 1;

describe('a write', () => {
  test.each([
    [1, 0],
    [2, 1],
    [4, 2],
  ])('of %i bytes', (size, code) => {
    const dm0 = model();
    expect(write({ size, addr: 0xbfff8n })).toEqual([{ data: 0n, outcome: 'served', count: 1 }]);
    expect(slot(dm0, 0)).toEqual({ type: IOREQ_TYPE_COPY, dir: 0, size: code, addr: 0xbfff8, data: 0x11223344 });
    expect(pointers(dm0)).toEqual([0, 1]);
    expect(dm0.bufferedNotified).toBe(1);
    expect(dm0.notified[0]).toBe(0);
  });

  test('of 8 bytes takes two slots', () => {
    const dm0 = model();
    write({ size: 8, data: 0x1122334455667788n });
    expect([slot(dm0, 0).data, slot(dm0, 1).data]).toEqual([0x55667788, 0x11223344]);
    expect([slot(dm0, 0).size, slot(dm0, 1).size]).toEqual([3, 3]);
    expect(pointers(dm0)).toEqual([0, 2]);
  });
});

describe('goes synchronously', () => {
  test.each<[string, Partial<IoRequest>]>([
    ['beyond 20 bits', { addr: 0x100000n }],
    ['repeated', { count: 2 }],
    ['by pointer', { dataIsPtr: true, data: 0x1000n }],
    ['a read', { isWrite: false }],
    ['not asked for', { buffered: false }],
  ])('%s', (_, access) => {
    const dm0 = model();
    expect(write(access)).toEqual([]);
    expect(dm0.notified[0]).toBe(1);
    expect(pointers(dm0)).toEqual([0, 0]);
  });

  test('a server without a ring', () => {
    const dm0 = model(abi.HVM_IOREQSRV_BUFIOREQ_OFF);
    expect(write()).toEqual([]);
    expect(dm0.notified[0]).toBe(1);
  });

  test('when the ring is full, to the slot', () => {
    const dm0 = model();
    for (let i = 0; i < IOREQ_BUFFER_SLOT_NUM; i++) expect(wentBuffered(write())).toBe(true);
    expect(wentBuffered(write())).toBe(false);
    expect(pointers(dm0)).toEqual([0, IOREQ_BUFFER_SLOT_NUM]);
  });

  test('8 bytes with one slot left', () => {
    const dm0 = model();
    setPointers(dm0, 0, IOREQ_BUFFER_SLOT_NUM - 1);
    expect(wentBuffered(write({ size: 8 }))).toBe(false);
    dm0.answer(0, 0n);
    expect(wentBuffered(write({ size: 4 }))).toBe(true);
  });
});

describe('pointers', () => {
  test('wrap around the slots', () => {
    const dm0 = model(abi.HVM_IOREQSRV_BUFIOREQ_LEGACY);
    setPointers(dm0, 510, 510);
    write({ size: 8, data: 0x0000000200000001n });
    expect([slot(dm0, 510).data, slot(dm0, 0).data]).toEqual([1, 2]);
    expect(pointers(dm0)).toEqual([510, 512]);
  });

  test('legacy: run freely, past 32 bits', () => {
    const dm0 = model(abi.HVM_IOREQSRV_BUFIOREQ_LEGACY);
    setPointers(dm0, 0xffffffff, 0xffffffff);
    expect(wentBuffered(write())).toBe(true);
    expect(pointers(dm0)).toEqual([0xffffffff, 0]);
    expect(slot(dm0, 0xffffffff % IOREQ_BUFFER_SLOT_NUM).data).toBe(0x11223344);
  });

  test('atomic: kept small once the reader has passed a round', () => {
    const dm0 = model();
    setPointers(dm0, 3 * IOREQ_BUFFER_SLOT_NUM + 5, 3 * IOREQ_BUFFER_SLOT_NUM + 6);
    expect(wentBuffered(write())).toBe(true);
    expect(pointers(dm0)).toEqual([5, 7]);
  });
});

describe('time offset', () => {
  test('goes through every enabled ring, without address, in two slots', () => {
    const dm0 = model();
    const off = model(abi.HVM_IOREQSRV_BUFIOREQ_OFF);
    expect(t.hvm.ioreq.dispatcher.sendTimeOffset(-2n)).toBe(0);
    expect(slot(dm0, 0)).toEqual({ type: IOREQ_TYPE_TIMEOFFSET, dir: 0, size: 3, addr: 0, data: 0xfffffffe });
    expect(slot(dm0, 1).data).toBe(0xffffffff);
    expect(off.notified[0]).toBe(0);
    expect(t.hvm.ioreq.dispatcher.sendTimeOffset(0n)).toBe(0);
    expect(pointers(dm0)).toEqual([0, 2]);
    setPointers(dm0, 0, IOREQ_BUFFER_SLOT_NUM);
    expect(t.hvm.ioreq.dispatcher.sendTimeOffset(1n)).toBe(1);
  });
});
