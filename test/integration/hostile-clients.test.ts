/**
 * The host against clients that break the connection protocol, do not read, flood, or die: each loses its connection,
 * with a reason in the trace, and a well-behaved client beside it notices nothing.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { IOCTL_EVTCHN_BIND_UNBOUND_PORT, IOCTL_EVTCHN_NOTIFY } from '../../dist/abi/linux/evtchn.js';
import { IOCTL_PRIVCMD_DM_OP } from '../../dist/abi/linux/privcmd.js';
import { Host } from '../../dist/host/host.js';
import { allocateNative, libc, SO_SNDBUF, SOL_SOCKET } from '../../dist/host/libc.js';
import { nativeLibrary } from '../../dist/host/native-library.js';
import {
  MAX_MESSAGE,
  POSTERN_BLOCK_DATA,
  POSTERN_HELLO,
  POSTERN_IOCTL,
  POSTERN_MAGIC,
  POSTERN_MAX_BLOCKS,
  POSTERN_MMAP,
  POSTERN_MUNMAP,
  POSTERN_OPEN,
  POSTERN_VERSION,
} from '../../dist/host/protocol.js';
import { cCompiler } from '../support/compile-c.js';
import { descriptorsOf, program, until } from './harness.js';
import { dmOp, dmOpBlocks, encodeMessage, GoodClient, RawConnection, RawProcess, SOMEWHERE } from './raw-client.js';

const HELLO = { kind: POSTERN_HELLO, arg: BigInt(POSTERN_VERSION) };
/** Holes of a 64 MiB domain, below its special pages. */
const HOLES = { first: 0x10000n, nr: 0xe0000 };

let host: Host;
let good: GoodClient;
let descriptors: number;

beforeAll(async () => {
  host = await Host.start({
    domains: [
      { kind: 'hvm', memoryMiB: 64, vcpus: 2 },
      { kind: 'hvm', memoryMiB: 64, vcpus: 1 },
    ],
  });
  await host.command('status', null); // everything that is opened once has been
  descriptors = descriptorsOf('self').length;
});
afterAll(async () => await host.close());

beforeEach(() => {
  good = new GoodClient(host.socketPath);
});
afterEach(async () => {
  expect(good.nrVcpus(1), 'the good client works as before').toBe(2);
  expect(good.ring(1), 'and has its event channels').toBe(0);
  good.close();
  await until('all connections have ended', async () => (await host.command('status', null)).connections === 0);
  await until('all descriptors are given back', () => descriptorsOf('self').length <= descriptors);
});

async function violations(): Promise<Map<string, number>> {
  const { refusals } = await host.command('status', null);
  const closed = Object.entries(refusals).filter(([reason]) => reason.startsWith('closed connection: '));
  return new Map(closed.map(([reason, n]) => [reason.slice('closed connection: '.length), n]));
}

/** Runs the attack on a connection; it must end with that connection closed for the reason. */
async function expectClosed(reason: string, attack: () => RawConnection): Promise<void> {
  const before = (await violations()).get(reason) ?? 0;
  const connection = attack();
  expect(connection.isClosedByHost(), 'the host closes the connection').toBe(true);
  const after = await violations();
  expect(after.get(reason) ?? 0, `"${reason}" among: ${[...after.keys()].join('; ')}`).toBe(before + 1);
}

/** A connection that sends something and is its own to close. */
const opened: (RawConnection | RawProcess)[] = [];
afterEach(() => {
  for (const connection of opened.splice(0)) connection.close();
});

function connection(): RawConnection {
  const made = new RawConnection(host.socketPath);
  opened.push(made);
  return made;
}

function client(): RawProcess {
  const made = new RawProcess(host.socketPath);
  opened.push(made);
  return made;
}

function sends(bytes: Uint8Array): RawConnection {
  const made = connection();
  expect(made.send(bytes)).toBe(true);
  return made;
}

/** What a client that is known sends on its open file. */
function fileSends(make: (process: RawProcess) => Uint8Array): RawConnection {
  const process = client();
  const file = process.open('privcmd');
  expect(file.send(make(process))).toBe(true);
  return file;
}

describe('a first message that is none', () => {
  const magic = Buffer.from(encodeMessage({ kind: POSTERN_HELLO })).subarray(0, 4);
  it.each<[string, Uint8Array, string]>([
    ['garbage', Buffer.alloc(100, 0xa5), 'data on a connection that is no open file'],
    ['one byte', Buffer.alloc(1), 'data on a connection that is no open file'],
    ['the magic number alone', magic, 'message of 4 bytes'],
    ['half a message', encodeMessage(HELLO).subarray(0, 21), 'message of 21 bytes'],
    ['a byte too many', Buffer.concat([encodeMessage(HELLO), Buffer.alloc(1)]), 'message of 41 bytes, 40 announced'],
    [
      'a version of the future',
      encodeMessage({ ...HELLO, arg: 77n }),
      `client speaks protocol version 77, the host ${POSTERN_VERSION}`,
    ],
    ['a call without a hello', encodeMessage({ kind: POSTERN_IOCTL }), 'request of a process that has not said hello'],
    ['an unknown kind', encodeMessage({ kind: 999 }), 'request of a process that has not said hello'],
  ])('%s', async (_, bytes, reason) => {
    await expectClosed(reason, () => sends(bytes));
  });

  it('an oversized message', async () => {
    const bytes = Buffer.alloc(MAX_MESSAGE + 4096);
    bytes.writeUInt32LE(POSTERN_MAGIC, 0);
    await expectClosed(`message of ${bytes.length} bytes`, () => sends(bytes));
  });

  it('an empty packet is nothing at all', () => {
    const made = connection();
    expect(made.send(new Uint8Array(0))).toBe(true);
    expect(made.send(encodeMessage(HELLO))).toBe(true);
    expect(made.receive()?.readUInt32LE(0)).toBe(POSTERN_MAGIC);
  });

  it('the end of sending is the end of the connection', () => {
    for (const make of [connection, () => client().open('evtchn')]) {
      const made = make();
      made.endSending();
      expect(made.isClosedByHost()).toBe(true);
    }
  });
});

describe('a client that is not who it says', () => {
  it.each<[string, (process: RawProcess) => { process: number; token: bigint }]>([
    ['a token that is off by one bit', ({ id, token }) => ({ process: id, token: token ^ 1n })],
    ['no token', ({ id }) => ({ process: id, token: 0n })],
    ['the id of another process', ({ token }) => ({ process: good.id, token })],
    ['an id that was never given', ({ token }) => ({ process: 0xffffffff, token })],
    ['the id that is nobody', ({ token }) => ({ process: 0, token })],
  ])('%s', async (_, pretend) => {
    await expectClosed('request of a process that has not said hello', () =>
      fileSends((process) => encodeMessage({ kind: POSTERN_IOCTL, ...pretend(process) })),
    );
  });

  it('the token of a process that has ended', async () => {
    const gone = client();
    const file = gone.open('privcmd');
    gone.own.close();
    await until('the host has noticed', async () => (await host.command('status', null)).connections === 4);
    await expectClosed('request of a process that has not said hello', () => {
      file.send(gone.message({ kind: POSTERN_IOCTL }));
      return file;
    });
  });
});

describe('a known client that breaks the order of things', () => {
  it('says hello twice', async () => {
    await expectClosed('a second hello', () => {
      const { own } = client();
      own.send(encodeMessage(HELLO));
      return own;
    });
  });

  it('says hello on an open file', async () => {
    await expectClosed('a second hello', () => fileSends(() => encodeMessage(HELLO)));
  });

  it('opens a file on its own connection', async () => {
    await expectClosed('open on a connection in use', () => {
      const process = client();
      process.own.send(process.message({ kind: POSTERN_OPEN, blocks: [{ data: Buffer.from('privcmd') }] }));
      return process.own;
    });
  });

  it('opens a file twice', async () => {
    await expectClosed('open on a connection in use', () =>
      fileSends((process) => process.message({ kind: POSTERN_OPEN, blocks: [{ data: Buffer.from('evtchn') }] })),
    );
  });

  it('calls on a connection that is no file', async () => {
    await expectClosed(`request kind ${POSTERN_IOCTL} on a connection that is no open file`, () => {
      const process = client();
      process.own.send(process.message({ kind: POSTERN_IOCTL, cmd: IOCTL_PRIVCMD_DM_OP }));
      return process.own;
    });
  });

  it('unmaps in the name of another process', async () => {
    await expectClosed('munmap on a connection of another process', () =>
      fileSends((process) => process.message({ kind: POSTERN_MUNMAP, cmd: 1 })),
    );
  });

  it.each([0, 6, 0xffff])('asks for kind %i', async (kind) => {
    await expectClosed(`request of unknown kind ${kind}`, () => fileSends((process) => process.message({ kind })));
  });
});

describe('blocks that lie', () => {
  const data = Buffer.alloc(16);
  it.each<[string, Parameters<RawProcess['message']>[0], string]>([
    [
      'one too many',
      { kind: POSTERN_IOCTL, nrBlocks: POSTERN_MAX_BLOCKS + 1 },
      `${POSTERN_MAX_BLOCKS + 1} blocks in one request`,
    ],
    ['as many as can be said', { kind: POSTERN_IOCTL, nrBlocks: 0xffffffff }, '4294967295 blocks in one request'],
    ['none of those announced', { kind: POSTERN_IOCTL, nrBlocks: 3 }, 'blocks missing'],
    [
      'longer than its data',
      { kind: POSTERN_IOCTL, blocks: [{ data, size: 17 }] },
      'message of 72 bytes, 73 announced',
    ],
    [
      'shorter than its data',
      { kind: POSTERN_IOCTL, blocks: [{ data, size: 15 }] },
      'message of 72 bytes, 71 announced',
    ],
    ['larger than allowed', { kind: POSTERN_IOCTL, blocks: [{ data, size: 0x20001 }] }, 'block of 131073 bytes'],
    [
      'as large as can be said',
      { kind: POSTERN_IOCTL, blocks: [{ size: 0xffffffff, flags: 0 }] },
      'block of 4294967295 bytes',
    ],
    [
      'data where none is said to be',
      { kind: POSTERN_IOCTL, blocks: [{ data, flags: 0 }] },
      'message of 72 bytes, 56 announced',
    ],
    [
      'sizes that add up to a wrap',
      {
        kind: POSTERN_IOCTL,
        blocks: [
          { size: 0x20000, flags: POSTERN_BLOCK_DATA },
          { data, size: 0x20000 },
        ],
      },
      'message of 88 bytes, 262216 announced',
    ],
  ])('%s', async (_, message, reason) => {
    await expectClosed(reason, () => fileSends((process) => process.message(message)));
  });

  it('overlapping, at the end of the address space, of no size: an errno, and the file lives', () => {
    const process = client();
    const file = process.open('privcmd');
    const op = Buffer.alloc(64);
    op.writeUInt32LE(20, 0);
    const [argument, list, buffer] = dmOpBlocks(1, [op]);
    const call = (...blocks: object[]) =>
      process.call(file, { kind: POSTERN_IOCTL, cmd: IOCTL_PRIVCMD_DM_OP, arg: BigInt(SOMEWHERE), blocks }).ret;
    expect(call()).toBe(-14);
    expect(call({ ...argument, address: 2 ** 52 }, { ...list, address: 2 ** 52 })).toBe(-14);
    expect(call({ address: SOMEWHERE, size: 0, flags: 3 })).toBe(-14);
    expect(call(argument as object, argument as object, argument as object)).toBe(-14);
    expect(call(argument as object, list as object, buffer as object, { ...buffer, data: Buffer.alloc(64) })).toBe(0);
  });
});

describe('clients that do not keep up', () => {
  it('never reads its answers', async () => {
    await expectClosed('process does not take its answers (EAGAIN)', () => {
      const process = client();
      const file = process.open('privcmd');
      const [argument, ...more] = dmOpBlocks(1, [Buffer.alloc(64)]);
      const bytes = process.message({
        kind: POSTERN_IOCTL,
        cmd: IOCTL_PRIVCMD_DM_OP,
        arg: BigInt(SOMEWHERE),
        blocks: [argument as object, ...more],
      });
      for (let i = 0; i < 5000; i++) if (!file.send(bytes)) expect(good.nrVcpus(1)).toBe(2);
      return process.own;
    });
  });

  it('floods unmask without reading', () => {
    const process = client();
    const file = process.open('evtchn');
    const ports = Buffer.alloc(4096, 1);
    let taken = 0;
    for (let i = 0; i < 3000; i++) {
      if (file.send(ports)) taken++;
      if (i % 100 === 0) expect(good.nrVcpus(1)).toBe(2);
    }
    expect(taken).toBeGreaterThan(0);
    expect(good.nrVcpus(1)).toBe(2);
  });

  it('never reads its events: each waits once, and the host keeps no more', () => {
    const process = client();
    const file = process.open('evtchn');
    const notifier = client();
    const ports: number[] = [];
    const remote = Buffer.alloc(4);
    for (let i = 0; i < 400; i++) {
      const { ret } = process.ioctl(file, IOCTL_EVTCHN_BIND_UNBOUND_PORT, remote);
      expect(ret).toBeGreaterThan(0);
      ports.push(ret);
    }
    const far = notifier.open('evtchn');
    const bind = Buffer.alloc(8);
    const bell = Buffer.alloc(4);
    for (const port of ports) {
      bind.writeUInt32LE(port, 4);
      const { ret } = notifier.ioctl(far, 0x00084501, bind);
      expect(ret).toBeGreaterThan(0);
      bell.writeUInt32LE(ret);
      for (let i = 0; i < 2; i++) expect(notifier.ioctl(far, IOCTL_EVTCHN_NOTIFY, bell).ret).toBe(0);
    }
    const seen = new Set<number>();
    while (file.isReadable(seen.size < ports.length ? 5000 : 50)) {
      const packet = file.receive();
      expect(packet?.length).toBe(4);
      const port = packet?.readUInt32LE(0) as number;
      expect(seen.has(port), `port ${port} came twice`).toBe(false);
      seen.add(port);
    }
    expect([...seen].sort((a, b) => a - b)).toEqual([...ports].sort((a, b) => a - b));
  });

  it('asks for more hypercall memory than there is', () => {
    const process = client();
    const file = process.open('hypercall');
    const map = (address: bigint, pages: number) =>
      process.call(file, { kind: POSTERN_MMAP, arg: address, cmd: pages }).ret;
    expect(map(0x1000n, 0xffffffff)).toBe(-12);
    expect(map(0x1000n, 0x10000)).toBe(-12);
    let areas = 0;
    while (areas < 5000 && map(BigInt(0x100000 + areas * 0x2000), 1) === 0) areas++;
    expect(areas).toBe(1024);
    expect(process.call(process.own, { kind: POSTERN_MUNMAP, arg: 0n, cmd: 0xffffffff }).ret).toBe(0);
    expect(map(0x1000n, 1)).toBe(0);
  });

  it('passes descriptors along: they get no further than the kernel', () => {
    const process = client();
    const file = process.open('privcmd');
    const before = descriptorsOf('self').length;
    const bytes = process.message({ kind: POSTERN_IOCTL, cmd: 0x50ff, arg: 0n });
    for (let i = 0; i < 20; i++) {
      const passed = file.send(
        bytes,
        Array.from({ length: 50 }, () => 2),
      );
      if (!passed) continue; // the kernel refuses them
      expect(process.answer(1).ret).toBe(-25);
    }
    expect(descriptorsOf('self').length).toBe(before);
    expect(dmOp(process, file, 1, [Buffer.alloc(64)]).ret).toBeLessThanOrEqual(0);
  });

  it('opens more than its share: refused with a reason, others are not', async () => {
    const crowd: RawConnection[] = [];
    let refused = 0;
    try {
      for (let i = 0; i < 4200 && refused === 0; i++) {
        const one = new RawConnection(host.socketPath);
        crowd.push(one);
        if (i % 64 === 63) expect(good.nrVcpus(1)).toBe(2); // keeps the accept queue short
      }
      await until('the host has looked at all of them', () => {
        refused = crowd.filter((one) => one.isReadable()).length;
        return refused > 0;
      });
      expect(refused).toBeLessThan(crowd.length);
      expect([...(await violations()).keys()].some((reason) => reason.includes('connections from this process'))).toBe(
        true,
      );
    } finally {
      for (const one of crowd) one.close();
    }
  });
});

describe('in the middle of a long call', () => {
  /** XEN_DMOP_set_mem_type over a million holes: allowed, changes nothing, takes many slices. */
  function longCall(process: RawProcess, file: RawConnection): void {
    const op = Buffer.alloc(64);
    op.writeUInt32LE(12, 0);
    op.writeUInt32LE(HOLES.nr, 8);
    op.writeUInt16LE(2, 12); // mmio_dm
    op.writeBigUInt64LE(HOLES.first, 16);
    const [argument, ...more] = dmOpBlocks(1, [op]);
    const blocks = [argument as object, ...more];
    file.send(process.message({ kind: POSTERN_IOCTL, cmd: IOCTL_PRIVCMD_DM_OP, arg: BigInt(SOMEWHERE), blocks }));
  }

  it('is long, and succeeds', () => {
    const process = client();
    const file = process.open('privcmd');
    longCall(process, file);
    expect(good.nrVcpus(1)).toBe(2);
    expect(process.own.isReadable(), 'the good client was served meanwhile').toBe(false);
    expect(process.answer(1).ret).toBe(0);
  });

  it('the caller goes away: nobody else gets its answer', async () => {
    for (let round = 0; round < 10; round++) {
      const process = client();
      const file = process.open('privcmd');
      longCall(process, file);
      process.own.close();
      if (round % 2 === 0) file.close();
      // Newcomers get the descriptor numbers that were given back, in the host too.
      const newcomers = Array.from({ length: 4 }, () => client());
      for (const newcomer of newcomers) expect(newcomer.own.isReadable(20), 'a stray answer').toBe(false);
      for (const newcomer of newcomers) newcomer.close();
    }
  });

  it('the domain goes away: the call ends with an errno or well', async () => {
    const { domid } = await host.command('createDomain', { kind: 'hvm', memoryMiB: 64, vcpus: 1 });
    const process = client();
    const file = process.open('privcmd');
    const op = Buffer.alloc(64);
    op.writeUInt32LE(12, 0);
    op.writeUInt32LE(HOLES.nr, 8);
    op.writeUInt16LE(2, 12);
    op.writeBigUInt64LE(HOLES.first, 16);
    const [argument, ...more] = dmOpBlocks(domid, [op]);
    const blocks = [argument as object, ...more];
    file.send(process.message({ kind: POSTERN_IOCTL, cmd: IOCTL_PRIVCMD_DM_OP, arg: BigInt(SOMEWHERE), blocks }));
    await host.command('destroyDomain', { domid });
    expect([0, -3, -22]).toContain(process.answer(1).ret);
    expect((await host.command('listDomains', null)).map((row) => row.domid)).toEqual([1, 2]);
  });

  it('a queue full of long calls on many files: all are answered, each to its own', () => {
    const process = client();
    const files = Array.from({ length: 12 }, () => process.open('privcmd'));
    for (const file of files) longCall(process, file);
    for (let i = 0; i < 20; i++) expect(good.nrVcpus(1)).toBe(2);
    for (const _ of files) expect(process.answer(1).ret).toBe(0);
  });
});

describe.skipIf(!cCompiler.ok)(cCompiler.named('a program that dies'), () => {
  /** Starts a program, waits until it is under way, and stops it where it is. */
  async function stopped(name: string, underWay: RegExp): Promise<ReturnType<typeof spawn>> {
    const env = { ...process.env, ...host.environment(await nativeLibrary()) };
    const child = spawn(program(name), { env, stdio: ['ignore', 'pipe', 'inherit'] });
    let output = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    await until(`${name} is under way`, () => underWay.test(output));
    child.kill('SIGSTOP');
    return child;
  }

  it.each([
    ['in the middle of a long call', 'long-call', /log-dirty on/],
    ['among calls of many threads and processes', 'one-file-many-users', /frames to tell apart/],
  ])('%s', async (_, name, underWay) => {
    for (let round = 0; round < 3; round++) {
      const child = await stopped(name, underWay);
      const ended = once(child, 'close');
      expect(good.nrVcpus(1)).toBe(2);
      await sleep(20 * round); // the host goes on with what was asked, and finds nobody to tell
      expect(good.nrVcpus(1)).toBe(2);
      child.kill('SIGKILL');
      expect(good.ring(1)).toBe(0);
      await ended;
    }
    // children of a program that was killed end by themselves; then all its connections are gone (afterEach)
  });
});

it('sends with a tiny buffer in the way', () => {
  // A client that shrinks its own buffers hurts itself only.
  const process = client();
  const size = allocateNative(4096);
  size.view.setUint32(0, 1, true);
  libc.setsockopt(process.own.fd, SOL_SOCKET, SO_SNDBUF, size.address, 4);
  const file = process.open('privcmd');
  expect(dmOp(process, file, 1, [Buffer.alloc(64)]).ret).toBeLessThanOrEqual(0);
});
