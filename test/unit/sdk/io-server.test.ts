/** The I/O server against a Xen in memory whose guest can lie. */
import { describe, expect, it } from 'vitest';
import { ERRNO } from '../../../dist/abi/errno.js';
import * as dm from '../../../dist/abi/xen/dm-op.js';
import {
  type BufferedRequests,
  type DeviceModel,
  type IoRequest,
  openDeviceModel,
  type RequestHandler,
  XenDeviceError,
} from '../../../dist/sdk/device-model.js';
import { FakeXen, PAGE, type Post, until } from './fake-xen.js';

const PIO = 0;
const COPY = 1;
const PCI = 2;
const ALL_ONES = 0xffff_ffff_ffff_ffffn;

function setUp(xen = new FakeXen(), bufferedRequests: BufferedRequests = 'atomic') {
  const model = openDeviceModel({ domid: 1, devices: xen });
  const server = model.createIoServer({ bufferedRequests });
  server.enable();
  return { xen, model, server };
}

/** Serves posts one after the other; returns what the guest got and what the handler saw. */
async function play(posts: Post[], handler: RequestHandler, xen = new FakeXen(), wait: 'async' | 'block' = 'async') {
  const { server } = setUp(xen);
  const stop = new AbortController();
  const seen: IoRequest[] = [];
  const serving = server.serve(
    (request) => {
      seen.push(request);
      return handler(request);
    },
    { signal: stop.signal, wait },
  );
  const answers: bigint[] = [];
  for (const [i, post] of posts.entries()) {
    xen.post(0, post);
    await until(() => xen.evtchn.notified.length > i);
    expect(xen.slot().flags.state).toBe(3);
    answers.push(xen.finish());
  }
  stop.abort();
  await serving;
  return { answers, seen, server, xen };
}

describe.each(['async', 'block'] as const)('serving, %s', (wait) => {
  it('hands over each kind of access and answers it', async () => {
    const { answers, seen, server } = await play(
      [
        { type: PIO, addr: 0x3f8n, size: 1, isRead: true },
        { type: PIO, addr: 0x3f8n, size: 2, data: 0xffff_1234n },
        { type: COPY, addr: 0xf000_0000n, size: 8, isRead: true },
        { type: COPY, addr: 0x1_0000_0000n, size: 8, data: 0x1122_3344_5566_7788n },
        { type: PCI, addr: (0x10n << 32n) | 0x44n, size: 4, isRead: true },
      ],
      () => 0x1_2345_6789n,
      new FakeXen(),
      wait,
    );
    expect(answers).toEqual([0x89n, 0xffff_1234n, 0x1_2345_6789n, 0x1122_3344_5566_7788n, 0x2345_6789n]);
    expect(seen.map((r) => [r.kind, r.isWrite, r.address, r.size, r.sbdf, r.value])).toEqual([
      ['port', false, 0x3f8, 1, 0, 0n],
      ['port', true, 0x3f8, 2, 0, 0x1234n],
      ['memory', false, 0xf000_0000, 8, 0, 0n],
      ['memory', true, 0x1_0000_0000, 8, 0, 0x1122_3344_5566_7788n],
      ['pci', false, 0x44, 4, 0x10, 0n],
    ]);
    expect(server.stats).toMatchObject({ served: 5, malformed: 0, abandoned: 0 });
  });

  it('waits for a handler that promises', async () => {
    const handler = async () => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      return 0x42;
    };
    const { answers } = await play([{ isRead: true }], handler, new FakeXen(), wait);
    expect(answers).toEqual([0x42n]);
  });

  it('answers all ones and fails when the handler throws', async () => {
    const { xen, server } = setUp();
    xen.post(0, { isRead: true, size: 4 });
    const bug = new Error('a bug');
    const serving = server.serve(
      () => {
        throw bug;
      },
      { wait },
    );
    await expect(serving).rejects.toBe(bug);
    expect(xen.finish()).toBe(0xffff_ffffn);
  });

  it('fails likewise when the handler’s promise does', async () => {
    const { xen, server } = setUp();
    xen.post(0, { isRead: true });
    await expect(server.serve(() => Promise.reject(new Error('later')), { wait })).rejects.toThrow('later');
    expect(xen.finish()).toBe(0xffn);
  });
});

describe('answers', () => {
  it.each([
    [undefined, 0xffn],
    [-1, 0xffn],
    [0x1ff, 0xffn],
    [0x1_00n, 0n],
    [7.9, 7n],
  ])('%s in one byte is %s', async (answer, expected) => {
    const { answers } = await play([{ isRead: true, size: 1 }], () => answer);
    expect(answers).toEqual([expected]);
  });
});

describe('repeated requests', () => {
  it('fetches the data of REP OUTS from guest memory', async () => {
    const xen = new FakeXen();
    xen.ram.set([1, 0, 2, 0, 3, 0], PAGE - 2);
    const post = { addr: 0x80n, size: 2, count: 3, dataIsPtr: true, data: BigInt(PAGE - 2) };
    const { seen, answers } = await play([post], () => undefined, xen);
    expect(seen.map((r) => [r.address, r.value])).toEqual([
      [0x80, 1n],
      [0x80, 2n],
      [0x80, 3n],
    ]);
    expect(answers).toEqual([BigInt(PAGE - 2)]); // the pointer itself goes back unchanged
  });

  it('stores the data of a downward REP INS', async () => {
    const xen = new FakeXen();
    let next = 0x10;
    const post = { addr: 0x80n, size: 1, count: 3, dataIsPtr: true, df: true, isRead: true, data: 0x102n };
    await play([post], () => next++, xen);
    expect([...xen.ram.subarray(0x100, 0x103)]).toEqual([0x12, 0x11, 0x10]);
  });

  it('steps the address of repeated MMIO, up and down', async () => {
    const copy = { type: COPY, addr: 0xa0010n, size: 4, count: 3 };
    const { seen } = await play(
      [
        { ...copy, data: 5n },
        { ...copy, df: true, data: 6n },
      ],
      () => undefined,
    );
    expect(seen.map((r) => r.address)).toEqual([0xa0010, 0xa0014, 0xa0018, 0xa0010, 0xa000c, 0xa0008]);
    expect(seen.map((r) => r.value)).toEqual([5n, 5n, 5n, 6n, 6n, 6n]);
  });

  it('gives all ones for data outside guest memory, drops what is stored there, and counts both', async () => {
    const outside = { addr: 0x80n, size: 1, count: 2, dataIsPtr: true };
    const { seen, server } = await play(
      [
        { ...outside, data: 0xffff_f000n },
        { ...outside, isRead: true, data: ALL_ONES },
        { ...outside, df: true, data: 0n },
      ],
      () => 1,
    );
    expect(seen.slice(0, 2).map((r) => r.value)).toEqual([0xffn, 0xffn]);
    expect(server.stats.unmappedData).toBe(2 + 2 + 1);
  });
});

describe('hostile requests', () => {
  const hostile: [string, Post][] = [
    ['size 0', { size: 0 }],
    ['size 3', { size: 3 }],
    ['size 16', { size: 16 }],
    ['size 2^32-1', { size: 0xffffffff }],
    ['count 0', { count: 0 }],
    ['count 2^32-1', { count: 0xffffffff }],
    ['a port of 8 bytes', { size: 8 }],
    ['a port beyond the last', { addr: 0x10000n }],
    ['a port access over the end', { addr: 0xffffn, size: 2 }],
    ['a port of 64 bits', { addr: 1n << 32n }],
    ['an address beyond 52 bits', { type: COPY, addr: 1n << 52n }],
    ['the highest address', { type: COPY, addr: ALL_ONES }],
    ['MMIO that runs below zero', { type: COPY, addr: 4n, size: 4, count: 3, df: true }],
    ['MMIO that runs beyond the end', { type: COPY, addr: (1n << 52n) - 8n, size: 4, count: 3 }],
    ['configuration of 8 bytes', { type: PCI, size: 8 }],
    ['a register beyond the space', { type: PCI, addr: 4095n, size: 2 }],
    ['an unknown type', { type: 3 }],
    ['type 255', { type: 255 }],
  ];

  it.each(hostile)('%s is answered with all ones and no device sees it', async (_name, post) => {
    const { answers, seen, server } = await play([{ isRead: true, ...post }], () => 0);
    expect(answers).toEqual([ALL_ONES]);
    expect(seen).toEqual([]);
    expect(server.stats.malformed).toBe(1);
  });

  it('leaves a slot alone that was taken away while a device worked', async () => {
    const { xen, server } = setUp();
    xen.post(0, { isRead: true });
    const stop = new AbortController();
    await server.serve(
      () => {
        xen.ioreqPage[30] = 0;
        stop.abort();
        return 1;
      },
      { signal: stop.signal },
    );
    expect(xen.slot().flags.state).toBe(0);
    expect(xen.evtchn.notified).toEqual([]);
    expect(server.stats).toMatchObject({ served: 0, abandoned: 1 });
  });

  it('survives events without requests and events of ports that nobody bound', async () => {
    const { xen, server } = setUp();
    const stop = new AbortController();
    const serving = server.serve(() => 1, { signal: stop.signal });
    xen.evtchn.raise(50);
    xen.evtchn.raiseLocal(4000);
    await until(() => server.stats.spurious === 2);
    xen.post(0, { isRead: true });
    await until(() => xen.evtchn.notified.length === 1);
    stop.abort();
    await serving;
  });

  it('does not read a field twice: what changes after the request was taken has no effect', async () => {
    const xen = new FakeXen();
    const { seen } = await play(
      [{ addr: 0x80n, size: 2, count: 1, data: 0x1234n }],
      () => {
        xen.ioreqPage.fill(0xff, 0, 24);
        return undefined;
      },
      xen,
    );
    expect(seen.map((r) => [r.address, r.size, r.value])).toEqual([[0x80, 2, 0x1234n]]);
  });
});

describe('buffered writes', () => {
  it('come before the synchronous request that follows them, in order', async () => {
    const { xen, server } = setUp();
    const stop = new AbortController();
    const seen: string[] = [];
    xen.buffer(
      { addr: 0xa0000, data: 1 },
      { addr: 0xa0001, data: 0x1_02, size: 0 },
      { addr: 0x80, type: PIO, size: 1, data: 3 },
    );
    xen.buffer({ addr: 0xa0008, size: 3, data: 4 }, { size: 3, data: 5 });
    xen.post(0, { type: COPY, addr: 0xa0000n, isRead: true });
    await server.serve(
      (r) => {
        seen.push(`${r.kind} ${r.isWrite ? 'w' : 'r'} ${r.address.toString(16)} ${r.size} ${r.value.toString(16)}`);
        if (!r.isWrite) stop.abort();
        return 0;
      },
      { signal: stop.signal },
    );
    expect(seen).toEqual([
      'memory w a0000 1 1',
      'memory w a0001 1 2',
      'port w 80 2 3',
      'memory w a0008 8 500000004',
      'memory r a0000 1 0',
    ]);
    expect(server.stats).toMatchObject({ buffered: 4, served: 1 });
  });

  it('nonsense in the ring is dropped and counted', async () => {
    const { xen, server } = setUp();
    xen.buffer({ isRead: true }, { type: 9 }, { type: PIO, size: 3 }, {}, { type: PIO, addr: 0xffff, size: 1 });
    const stop = new AbortController();
    const serving = server.serve(() => undefined, { signal: stop.signal });
    await until(() => server.stats.malformed > 0);
    stop.abort();
    await serving;
    expect(server.stats).toMatchObject({ malformed: 4, buffered: 0 });
  });

  it('a broken write pointer is counted and does not stop the server', async () => {
    const { xen, server } = setUp();
    new Uint32Array(xen.ring.buffer)[1] = 0x80000000;
    const stop = new AbortController();
    const serving = server.serve(() => 7, { signal: stop.signal });
    xen.post(0, { isRead: true });
    await until(() => xen.evtchn.notified.length === 1);
    expect(server.stats).toMatchObject({ malformed: 1, served: 1, buffered: 0 });
    stop.abort();
    await serving;
  });

  it('without a ring none is mapped or bound', () => {
    const { xen } = setUp(new FakeXen(), 'off');
    expect(xen.nrMappings).toBe(1);
    expect([...xen.evtchn.bound.values()]).toEqual([50]);
  });
});

describe('notices', () => {
  it('drops cached mappings on invalidate and tells, without a device seeing it', async () => {
    const xen = new FakeXen();
    const { model, server } = setUp(xen);
    model.memory.read(0n, new Uint8Array(1));
    const mapped = xen.nrMappings;
    let told = 0;
    server.hooks = { onInvalidate: () => told++ };
    const stop = new AbortController();
    const serving = server.serve(() => expect.fail('not for a device'), { signal: stop.signal });
    xen.post(0, { type: 8, size: 4, data: ALL_ONES });
    await until(() => told === 1);
    expect(xen.nrMappings).toBe(mapped - 1);
    expect(xen.slot().flags.state).toBe(3);
    stop.abort();
    await serving;
  });

  it('passes on a signed time offset from the ring', async () => {
    const { xen, server } = setUp();
    let offset = 0n;
    server.hooks = { onTimeOffset: (seconds) => (offset = seconds) };
    xen.buffer({ type: 7, size: 3, data: 0xfffffffe }, { type: 7, size: 3, data: 0xffffffff });
    const stop = new AbortController();
    const serving = server.serve(() => undefined, { signal: stop.signal });
    await until(() => offset !== 0n);
    expect(offset).toBe(-2n);
    stop.abort();
    await serving;
  });
});

describe('for await', () => {
  it('yields requests of several vCPUs, which may be answered out of order', async () => {
    const { xen, server } = setUp(new FakeXen(2));
    xen.post(0, { addr: 1n, isRead: true });
    xen.post(1, { addr: 2n, isRead: true });
    const open: IoRequest[] = [];
    for await (const request of server.requests()) {
      open.push(request);
      if (open.length === 2) break;
    }
    expect(open.map((r) => [r.vcpu, r.address])).toEqual([
      [0, 1],
      [1, 2],
    ]);
    open[1]?.respond(0x22);
    expect([xen.slot(0).flags.state, xen.slot(1).flags.state]).toEqual([2, 3]);
    open[0]?.respond(0x11);
    open[0]?.respond(0x99); // a second answer does nothing
    expect([xen.finish(0), xen.finish(1)]).toEqual([0x11n, 0x22n]);
    expect(xen.evtchn.notified).toEqual([17, 16]);
  });

  it('a broken-off loop loses nothing that it has not seen', async () => {
    const { xen, server } = setUp(new FakeXen(3));
    for (let v = 0; v < 3; v++) xen.post(v, { addr: BigInt(v), isRead: true });
    const seen: number[] = [];
    const one = async () => {
      for await (const request of server.requests()) {
        seen.push(request.address);
        request.respond(0);
        return;
      }
    };
    await one();
    await one();
    await one();
    expect(seen).toEqual([0, 1, 2]);
  });

  it('goes on with a repeated request when its access is answered late', async () => {
    const { xen, server } = setUp();
    xen.post(0, { type: COPY, addr: 0x1000n, count: 3, data: 1n });
    const stop = new AbortController();
    const addresses: number[] = [];
    for await (const request of server.requests({ signal: stop.signal })) {
      addresses.push(request.address);
      setTimeout(() => {
        request.respond();
        if (addresses.length === 3) stop.abort();
      }, 1);
    }
    expect(addresses).toEqual([0x1000, 0x1001, 0x1002]);
    expect(xen.slot().flags.state).toBe(3);
  });

  it('ends when the server is closed while it waits', async () => {
    const { server } = setUp();
    const loop = (async () => {
      for await (const request of server.requests()) request.respond();
    })();
    await new Promise((resolve) => setImmediate(resolve));
    server.close();
    await loop;
  });
});

describe('life of a device model', () => {
  const RANGES: [string, (s: ReturnType<DeviceModel['createIoServer']>) => void, string][] = [
    ['ports', (s) => s.mapPortRange(0x3f8, 0x3ff), 'port 3f8-3ff'],
    ['MMIO', (s) => s.mapMmioRange(0xf000_0000, 0xf000_0fffn), 'memory f0000000-f0000fff'],
    ['a PCI device', (s) => s.mapPciDevice(0x10), 'pci 10-10'],
  ];
  it.each(RANGES)('claims %s', (_name, map, range) => {
    const { xen, server } = setUp();
    map(server);
    expect([...xen.ranges]).toEqual([range]);
  });

  it('restricts what is open and what is opened later, and closes what is not restrictable', () => {
    const { xen, model } = setUp();
    model.populateMemory(0x100n, 1);
    model.restrict();
    model.restrict();
    expect(xen.restrictedTo).toBe(1);
    expect(xen.evtchn.restrictedTo).toBe(1);
    expect(xen.isHypercallClosed).toBe(true);
    model.createIoServer();
    expect(xen.evtchns[1]?.restrictedTo).toBe(1);
    expect(() => model.populateMemory(0x101n, 1)).toThrow(/EPERM/);
  });

  it('says when the domain gets less memory than asked', () => {
    const { xen, model } = setUp();
    xen.populateLimit = 3;
    expect(() => model.populateMemory(0x100n, 4)).toThrow(/3 of 4 frames.*ENOMEM/);
  });

  it('closes everything, once', () => {
    const { xen, model } = setUp();
    model.memory.read(0n, new Uint8Array(1));
    model.close();
    model.close();
    expect(xen).toMatchObject({ serverExists: false, isPrivcmdClosed: true, nrMappings: 0 });
    expect(xen.evtchn.isClosed).toBe(true);
    expect(xen.ops.filter((o) => o.op === dm.XEN_DMOP_destroy_ioreq_server)).toHaveLength(1);
  });

  it.each([
    ['map 0', ERRNO.EPERM],
    ['map 1', ERRNO.ENOMEM],
    [dm.XEN_DMOP_get_ioreq_server_info, ERRNO.EPERM],
  ])('leaves nothing behind when %s fails while a server is made', (what, errno) => {
    const xen = new FakeXen();
    xen.failing.set(what, errno);
    const model = openDeviceModel({ domid: 1, devices: xen });
    expect(() => model.createIoServer()).toThrow(XenDeviceError);
    expect(xen).toMatchObject({ serverExists: false, nrMappings: 0 });
    expect(xen.evtchn.isClosed).toBe(true);
  });

  it('binds each vCPU once, however often it is enabled', () => {
    const { xen, server } = setUp(new FakeXen(3));
    server.disable();
    expect(xen.enabled).toBe(false);
    server.enable();
    expect([...xen.evtchn.bound.values()]).toEqual([50, 51, 52, 40]);
  });

  it('maps guest memory and reports frames that are not there', () => {
    const { model } = setUp();
    expect(model.mapGuestMemory(2n, 3).allMapped).toBe(true);
    const partly = model.mapGuestMemory(15n, 2);
    expect([partly.errno(0), partly.errno(1), partly.allMapped]).toEqual([0, ERRNO.EINVAL, false]);
  });
});
