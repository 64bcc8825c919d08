/** A guest's accesses on their way to a device model and back. */
import { beforeEach, describe, expect, test } from 'vitest';
import * as abi from '../../../../dist/abi/xen/dm-op.js';
import {
  IOREQ_READ,
  IOREQ_TYPE_COPY,
  IOREQ_TYPE_INVALIDATE,
  IOREQ_TYPE_PCI_CONFIG,
  IOREQ_TYPE_PIO,
  IOREQ_WRITE,
  STATE_IOREQ_INPROCESS,
  STATE_IOREQ_NONE,
  STATE_IOREQ_READY,
  STATE_IORESP_READY,
} from '../../../../dist/abi/xen/ioreq.js';
import type { IoRequest, IoResult } from '../../../../dist/hypervisor/ioreq/io-request.js';
import { addDomain, dm, guestPage, type TestDomain, testDomain } from '../../../support/dm-op.js';
import { FakeDeviceModel } from '../../../support/fake-device-model.js';

const { XEN_DMOP_IO_RANGE_PORT: PORT, XEN_DMOP_IO_RANGE_MEMORY: MEMORY, XEN_DMOP_IO_RANGE_PCI: PCI } = abi;
const SHUTDOWN_CRASH = 3;

let t: TestDomain;
beforeEach(() => {
  t = testDomain();
});

type Access = Partial<IoRequest> & Pick<IoRequest, 'addr'>;

/** Begins an access; its result appears in the returned array. */
function start(access: Access, vcpu = 0): IoResult[] {
  const results: IoResult[] = [];
  const request: IoRequest = { space: 'port', size: 1, isWrite: false, data: 0n, ...access };
  t.hvm.ioreq.dispatcher.start(vcpu, request, (result) => results.push(result));
  return results;
}

const served = (data: bigint, count = 1) => [{ data, outcome: 'served', count }];

describe('one access', () => {
  test('a read: slot filled, device model woken, answer taken, slot empty', () => {
    const dm0 = new FakeDeviceModel(t).claim(PORT, 0x3f8n, 0x3ffn);
    const results = start({ addr: 0x3fdn, size: 2 }, 1);
    expect(dm0.notified).toEqual([0, 1]);
    expect(dm0.request(1)).toEqual({
      addr: 0x3fdn,
      data: 0n,
      count: 1,
      size: 2,
      type: IOREQ_TYPE_PIO,
      state: STATE_IOREQ_READY,
      dir: IOREQ_READ,
      df: 0,
      dataIsPtr: 0,
    });
    expect(results).toEqual([]);
    expect(t.hvm.ioreq.dispatcher.isWaiting(1)).toBe(true);
    dm0.answer(1, 0xabcdn);
    expect(results).toEqual(served(0xabcdn));
    expect(dm0.request(1).state).toBe(STATE_IOREQ_NONE);
    expect(dm0.slotPort(1)).not.toBe(0);
    expect(t.hvm.ioreq.dispatcher.isWaiting(1)).toBe(false);
  });

  test('a write carries its data and gives none', () => {
    const dm0 = new FakeDeviceModel(t).claim(MEMORY, 0xf0000000n, 0xf0000fffn);
    const results = start({ space: 'memory', addr: 0xf0000ff8n, size: 8, isWrite: true, data: 0x1122334455667788n });
    expect(dm0.request(0)).toMatchObject({
      type: IOREQ_TYPE_COPY,
      dir: IOREQ_WRITE,
      data: 0x1122334455667788n,
      size: 8,
    });
    dm0.answer(0, 0xdeadn);
    expect(results).toEqual(served(0n));
  });

  test.each([
    [1, 0xffn],
    [2, 0xffffn],
    [4, 0xffffffffn],
    [8, 0xffffffffffffffffn],
  ])('an answer is cut to the %i bytes asked for', (size, expected) => {
    const dm0 = new FakeDeviceModel(t).claim(PORT, 0n, 0xffffn);
    const results = start({ addr: 0x100n, size });
    dm0.answer(0, 0xffffffffffffffffn);
    expect(results).toEqual(served(expected));
  });

  test('states in between, and spurious wake-ups', () => {
    const dm0 = new FakeDeviceModel(t).claim(PORT, 0n, 0xffn);
    dm0.notify(0); // nobody waits
    const results = start({ addr: 1n });
    dm0.notify(0);
    dm0.setState(0, STATE_IOREQ_INPROCESS);
    dm0.notify(0);
    dm0.notify(0);
    dm0.notify(1);
    expect(results).toEqual([]);
    dm0.answer(0, 7n);
    dm0.notify(0);
    expect(results).toEqual(served(7n));
  });

  test('vCPUs wait independently', () => {
    const dm0 = new FakeDeviceModel(t).claim(PORT, 0n, 0xffn);
    const first = start({ addr: 1n }, 0);
    const second = start({ addr: 2n }, 1);
    dm0.answer(1, 2n);
    expect([first.length, second.length]).toEqual([0, 1]);
    dm0.answer(0, 1n);
    expect(first).toEqual(served(1n));
  });

  test('the next access may begin from within the completion', () => {
    const dm0 = new FakeDeviceModel(t).claim(PORT, 0n, 0xffn);
    const results: bigint[] = [];
    const next = (n: number): void => {
      const request: IoRequest = { space: 'port', addr: BigInt(n), size: 1, isWrite: false, data: 0n };
      t.hvm.ioreq.dispatcher.start(0, request, ({ data }) => {
        results.push(data);
        if (n < 3) next(n + 1);
      });
    };
    next(1);
    for (const data of [10n, 20n, 30n]) dm0.answer(0, data);
    expect(results).toEqual([10n, 20n, 30n]);
  });

  test('a vCPU that waits cannot begin another', () => {
    new FakeDeviceModel(t).claim(PORT, 0n, 0xffn);
    start({ addr: 1n });
    expect(() => start({ addr: 2n })).toThrow(/waits already/);
  });
});

describe('nobody claims it', () => {
  test('reads give all ones, writes are dropped', () => {
    expect(start({ addr: 0x80n, size: 4 })).toEqual([{ data: 0xffffffffn, outcome: 'unclaimed', count: 1 }]);
    expect(start({ addr: 0x80n, size: 8, space: 'memory' })[0]?.data).toBe(0xffffffffffffffffn);
    expect(start({ addr: 0x80n, isWrite: true, data: 5n })).toEqual([{ data: 0n, outcome: 'unclaimed', count: 1 }]);
  });

  test('a server that claims part of it, is disabled, or has gone', () => {
    const dm0 = new FakeDeviceModel(t).claim(PORT, 0x80n, 0x82n);
    expect(start({ addr: 0x80n, size: 4 })[0]?.outcome).toBe('unclaimed');
    expect(start({ addr: 0x7fn, size: 2 })[0]?.outcome).toBe('unclaimed');
    t.hvm.ioreq.setState(t.hypervisor.dom0, dm0.id, false);
    expect(start({ addr: 0x80n })[0]?.outcome).toBe('unclaimed');
    t.hvm.ioreq.destroy(t.hypervisor.dom0, dm0.id);
    expect(start({ addr: 0x80n })[0]?.outcome).toBe('unclaimed');
  });

  test.each([0, 3, 5, 16])('%i bytes at a time', (size) => {
    new FakeDeviceModel(t).claim(PORT, 0n, 0xffn);
    expect(start({ addr: 1n, size })[0]?.outcome).toBe('unhandled');
  });

  test('a repeated read into memory fills it with ones', () => {
    start({ addr: 0x80n, size: 2, count: 3, dataIsPtr: true, data: 0x5ff0n });
    expect([...guestPage(t, 5).subarray(0xfee, 0xff8)]).toEqual([0, 0, 255, 255, 255, 255, 255, 255, 0, 0]);
  });

  test('addresses that wrap', () => {
    new FakeDeviceModel(t).claim(MEMORY, 0n, 0xffffffffffffffffn).claim(PORT, 0n, 0xffffffffffffffffn);
    const max = 0xffffffffffffffffn;
    expect(start({ space: 'memory', addr: max, size: 4 })[0]?.outcome).toBe('unclaimed');
    expect(start({ addr: max, size: 4 })[0]?.outcome).toBe('unclaimed');
    expect(start({ space: 'memory', addr: 0n, size: 4, count: 2, df: true }, 1)).toEqual([]); // limited to one
  });
});

describe('which server', () => {
  test('the highest id that claims all of it', () => {
    const low = new FakeDeviceModel(t).claim(PORT, 0x100n, 0x1ffn);
    const high = new FakeDeviceModel(t).claim(PORT, 0x180n, 0x18fn);
    const select = (addr: bigint, size: number) =>
      t.hvm.ioreq.dispatcher.select({ space: 'port', addr, size, isWrite: false, data: 0n })?.id;
    expect(select(0x180n, 4)).toBe(high.id);
    expect(select(0x18en, 4)).toBe(low.id);
    expect(select(0x100n, 4)).toBe(low.id);
    expect(select(0x1fen, 4)).toBeUndefined();
  });

  test('adjacent ranges count as one, ports and memory apart', () => {
    new FakeDeviceModel(t).claim(PORT, 0x10n, 0x11n).claim(PORT, 0x12n, 0x13n);
    expect(
      t.hvm.ioreq.dispatcher.select({ space: 'port', addr: 0x10n, size: 4, isWrite: false, data: 0n }),
    ).toBeDefined();
    expect(
      t.hvm.ioreq.dispatcher.select({ space: 'memory', addr: 0x10n, size: 4, isWrite: false, data: 0n }),
    ).toBeUndefined();
  });

  test('PCI configuration cycles go by the device', () => {
    const device = BigInt(abi.XEN_DMOP_PCI_SBDF(0, 0, 4, 1));
    const ports = new FakeDeviceModel(t).claim(PORT, 0xcf8n, 0xcffn);
    const card = new FakeDeviceModel(t).claim(PCI, device, device);
    const setAddress = (value: bigint) => {
      const results = start({ addr: 0xcf8n, size: 4, isWrite: true, data: value });
      ports.answer(0, 0n);
      expect(results).toEqual(served(0n));
    };
    setAddress(0x80000000n | (device << 8n) | 0x10n);
    const results = start({ addr: 0xcfen, size: 2 });
    expect(card.request(0)).toMatchObject({ type: IOREQ_TYPE_PCI_CONFIG, addr: (device << 32n) | 0x12n, size: 2 });
    card.answer(0, 0x1234n);
    expect(results).toEqual(served(0x1234n));
    setAddress(0x80000000n | ((device + 1n) << 8n));
    expect(start({ addr: 0xcfcn, size: 4 })[0]).toMatchObject({ outcome: 'unclaimed', data: 0xffffffffn });
    setAddress(device << 8n); // not enabled: an ordinary port
    start({ addr: 0xcfcn, size: 4 });
    expect(ports.request(0)).toMatchObject({ type: IOREQ_TYPE_PIO, addr: 0xcfcn });
  });

  test('only a 4-byte write is the PCI address', () => {
    const device = BigInt(abi.XEN_DMOP_PCI_SBDF(0, 0, 4, 0));
    new FakeDeviceModel(t).claim(PCI, device, device);
    start({ addr: 0xcf8n, size: 4, isWrite: true, data: 0x80000000n | (device << 8n) });
    start({ addr: 0xcf8n, size: 2, isWrite: true, data: 0n });
    start({ addr: 0xcf8n, size: 1, isWrite: true, data: 0n });
    start({ addr: 0xcfcn, size: 1 });
    expect(t.hvm.ioreq.dispatcher.isWaiting(0)).toBe(true);
  });
});

describe('repetitions', () => {
  test.each([
    ['as asked', { space: 'memory', addr: 0x1000n, count: 10 }, 10],
    ['to the end of the page', { space: 'memory', addr: 0x1ff0n, count: 10 }, 4],
    ['downwards to its start', { space: 'memory', addr: 0x100cn, count: 10, df: true }, 4],
    ['one that crosses', { space: 'memory', addr: 0x1ffen, count: 10 }, 1],
    [
      'ports, data to the end of a page',
      { space: 'port', addr: 0x80n, count: 4000000000, dataIsPtr: true, data: 0x2ff4n },
      3,
    ],
    ['both sides', { space: 'memory', addr: 0x1ff0n, count: 10, dataIsPtr: true, data: 0x2ff8n }, 2],
  ] as const)('%s', (_, access, count) => {
    const dm0 = new FakeDeviceModel(t).claim(PORT, 0n, 0xffffn).claim(MEMORY, 0n, 0xffffn);
    const results = start({ size: 4, ...access });
    const df = 'df' in access ? 1 : 0;
    const dataIsPtr = 'dataIsPtr' in access ? 1 : 0;
    expect(dm0.request(0)).toMatchObject({ count, df, dataIsPtr, data: 'data' in access ? access.data : 0n });
    dm0.answer(0, 0n);
    expect(results).toEqual(served(0n, count));
  });

  test('all of them have to be claimed', () => {
    new FakeDeviceModel(t).claim(MEMORY, 0x1000n, 0x100fn);
    expect(start({ space: 'memory', addr: 0x1000n, size: 4, count: 5 })[0]).toMatchObject({
      outcome: 'unclaimed',
      count: 5,
    });
    expect(start({ space: 'memory', addr: 0x1010n, size: 4, count: 2, df: true })[0]?.outcome).toBe('unclaimed');
    expect(start({ space: 'memory', addr: 0x100cn, size: 4, count: 4, df: true })).toEqual([]);
  });
});

describe('a device model that breaks the protocol', () => {
  test.each([
    ['back from in process', [STATE_IOREQ_INPROCESS, STATE_IOREQ_READY]],
    ['beyond the last', [4]],
    ['15', [15]],
  ])('state goes %s: the domain is crashed, the vCPU goes on', (_, states) => {
    const dm0 = new FakeDeviceModel(t).claim(PORT, 0n, 0xffn);
    const results = start({ addr: 1n });
    for (const state of states) {
      dm0.setState(0, state);
      dm0.notify(0);
    }
    expect(results).toEqual([{ data: 0xffn, outcome: 'crashed', count: 1 }]);
    expect(t.domain.shutdownCode).toBe(SHUTDOWN_CRASH);
    expect(t.hvm.ioreq.dispatcher.crashReason).toMatch(/state/);
    expect(t.hvm.ioreq.dispatcher.isWaiting(0)).toBe(false);
  });

  test('a slot that is emptied without an answer: all ones, as from a device model that goes away', () => {
    const dm0 = new FakeDeviceModel(t).claim(PORT, 0n, 0xffn);
    const results = start({ addr: 1n, size: 2 });
    dm0.setState(0, STATE_IOREQ_NONE);
    dm0.notify(0);
    expect(results).toEqual([{ data: 0xffffn, outcome: 'lost', count: 1 }]);
    expect(t.domain.isShutDown).toBe(false);
  });

  test.each([
    ['slot not empty', (dm0: FakeDeviceModel) => dm0.setState(0, STATE_IORESP_READY)],
    ['event channel changed', (dm0: FakeDeviceModel) => dm0.setSlotPort(0, 99)],
  ])('%s: a port access crashes, a memory access fails', (_, spoil) => {
    const dm0 = new FakeDeviceModel(t).claim(PORT, 0n, 0xffn).claim(MEMORY, 0n, 0xffn);
    spoil(dm0);
    expect(start({ space: 'memory', addr: 1n })).toEqual([{ data: 0xffn, outcome: 'unhandled', count: 1 }]);
    expect(t.domain.isShutDown).toBe(false);
    expect(start({ addr: 1n })[0]?.outcome).toBe('crashed');
    expect(t.domain.shutdownCode).toBe(SHUTDOWN_CRASH);
    expect(dm0.notified[0]).toBe(0);
  });

  test('data written after the answer was taken has no effect', () => {
    const dm0 = new FakeDeviceModel(t).claim(PORT, 0n, 0xffn);
    const results = start({ addr: 1n });
    dm0.answer(0, 1n);
    dm0.setData(0, 2n);
    dm0.setState(0, STATE_IORESP_READY);
    dm0.notify(0);
    expect(results).toEqual(served(1n));
  });

  test('a server without pages', () => {
    t.hvm.ioreq.create(t.hypervisor.dom0, 0);
    t.hvm.ioreq.setState(t.hypervisor.dom0, 0, true);
    t.hvm.ioreq.mapRange(t.hypervisor.dom0, 0, PORT, 0n, 0xffn);
    expect(start({ addr: 1n })[0]).toEqual({ data: 0xffn, outcome: 'unhandled', count: 1 });
    expect(t.domain.isShutDown).toBe(false);
  });
});

describe('servers that go away under a waiting vCPU', () => {
  test('destroyed', () => {
    const dm0 = new FakeDeviceModel(t).claim(PORT, 0n, 0xffn);
    const results = start({ addr: 1n });
    t.hvm.ioreq.destroy(t.hypervisor.dom0, dm0.id);
    expect(results).toEqual([{ data: 0xffn, outcome: 'lost', count: 1 }]);
  });

  test('disabled: the answer may still come', () => {
    const dm0 = new FakeDeviceModel(t).claim(PORT, 0n, 0xffn);
    const results = start({ addr: 1n });
    t.hvm.ioreq.setState(t.hypervisor.dom0, dm0.id, false);
    expect(results).toEqual([]);
    dm0.answer(0, 3n);
    expect(results).toEqual(served(3n));
  });

  test('disabled with its page in guest memory: the slot is gone', () => {
    const { dom0 } = t.hypervisor;
    t.hvm.ioreq.create(dom0, 0);
    t.hvm.ioreq.info(dom0, 0, true);
    t.hvm.ioreq.mapRange(dom0, 0, PORT, 0n, 0xffn);
    t.hvm.ioreq.setState(dom0, 0, true);
    const results = start({ addr: 1n });
    expect(results).toEqual([]);
    t.hvm.ioreq.setState(dom0, 0, false);
    expect(results).toEqual([{ data: 0xffn, outcome: 'lost', count: 1 }]);
    expect(guestPage(t, 0xfeff0).every((byte) => byte === 0)).toBe(true);
  });

  test('with the domain', () => {
    new FakeDeviceModel(t).claim(PORT, 0n, 0xffn);
    const results = [start({ addr: 1n }, 0), start({ addr: 2n }, 1)];
    t.domain.kill({ due: () => false });
    expect(results.map((r) => r[0]?.outcome)).toEqual(['lost', 'lost']);
  });
});

describe('memory claimed by its type', () => {
  beforeEach(() => {
    const dm0 = new FakeDeviceModel(t);
    t.hvm.ioreq.mapMemType(t.hypervisor.dom0, dm0.id, true);
    dm(t, abi.XEN_DMOP_set_mem_type, { mem_type: abi.HVMMEM_ioreq_server, first_pfn: 0x30n, nr: 1 });
  });

  test('writes go to the server, reads to the memory', () => {
    guestPage(t, 0x30).set([1, 2, 3, 4], 0x10);
    expect(start({ space: 'memory', addr: 0x30010n, size: 4 })).toEqual([
      { data: 0x04030201n, outcome: 'emulated', count: 1 },
    ]);
    start({ space: 'memory', addr: 0x30010n, size: 4, isWrite: true, data: 9n });
    expect(t.hvm.ioreq.dispatcher.isWaiting(0)).toBe(true);
    expect(guestPage(t, 0x30)[0x10]).toBe(1);
  });

  test('after the server has gone, the access is done again', () => {
    t.hvm.ioreq.destroy(t.hypervisor.dom0, 0);
    expect(start({ space: 'memory', addr: 0x30010n, isWrite: true, data: 9n })[0]?.outcome).toBe('retry');
  });
});

describe('broadcasts', () => {
  test('every enabled server is asked, and waited for', () => {
    const first = new FakeDeviceModel(t);
    const second = new FakeDeviceModel(t);
    const results: IoResult[] = [];
    t.hvm.ioreq.dispatcher.invalidateMapcache(0, (result) => results.push(result));
    for (const each of [first, second]) {
      expect(each.request(0)).toMatchObject({
        type: IOREQ_TYPE_INVALIDATE,
        size: 4,
        dir: IOREQ_WRITE,
        data: 0xffffffffffffffffn,
      });
    }
    second.answer(0, 0n);
    expect(results).toEqual([]);
    first.answer(0, 0n);
    expect(results).toEqual(served(0n));
  });

  test('a device model that answers while others are still being asked', () => {
    const models = [new FakeDeviceModel(t), new FakeDeviceModel(t)];
    const { evtchn } = t.hypervisor.dom0;
    const before = evtchn.onUpcall;
    evtchn.onUpcall = (port) => {
      before?.(port);
      for (const each of models) if (each.request(0).state === STATE_IOREQ_READY) each.answer(0, 0n);
    };
    const results: IoResult[] = [];
    t.hvm.ioreq.dispatcher.invalidateMapcache(0, (result) => results.push(result));
    expect(results).toEqual(served(0n));
    expect(models.map((each) => each.notified[0])).toEqual([1, 1]);
    expect(models.map((each) => each.request(0).state)).toEqual([STATE_IOREQ_NONE, STATE_IOREQ_NONE]);
  });

  test('one that does not answer is told apart', () => {
    const models = [new FakeDeviceModel(t), new FakeDeviceModel(t)];
    const results: IoResult[] = [];
    t.hvm.ioreq.dispatcher.invalidateMapcache(0, (result) => results.push(result));
    models[0]?.setState(0, STATE_IOREQ_NONE);
    models[1]?.answer(0, 0n);
    expect(results).toEqual([{ data: 0n, outcome: 'lost', count: 1 }]);
  });

  test('without servers it is done at once', () => {
    const results: IoResult[] = [];
    t.hvm.ioreq.dispatcher.invalidateMapcache(0, (result) => results.push(result));
    expect(results).toHaveLength(1);
  });

  test('requested ones come before the next access completes, once a vCPU', () => {
    const dm0 = new FakeDeviceModel(t).claim(PORT, 0n, 0xffn);
    t.hvm.ioreq.dispatcher.requestMapcacheInvalidate();
    const results = start({ addr: 1n });
    dm0.answer(0, 5n);
    expect(results).toEqual([]);
    expect(dm0.request(0).type).toBe(IOREQ_TYPE_INVALIDATE);
    dm0.answer(0, 0n);
    expect(results).toEqual(served(5n));
    const again = start({ addr: 1n });
    dm0.answer(0, 6n);
    expect(again).toEqual(served(6n));
  });
});

test('domains are apart', () => {
  const other = addDomain(t.hypervisor);
  new FakeDeviceModel(other).claim(PORT, 0n, 0xffn);
  expect(start({ addr: 1n })[0]?.outcome).toBe('unclaimed');
});
