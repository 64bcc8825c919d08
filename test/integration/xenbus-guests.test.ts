/**
 * Guests whose store is a daemon of its own: `postern xenstored --host`, which maps their pages through privcmd and binds
 * their event channels through evtchn. The host runs in this process, so that guests can be played through their memory.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NEVER_PREEMPT } from '../../dist/boundary/operation.js';
import { Dom0Kernel } from '../../dist/dom0/kernel.js';
import { DeviceServer } from '../../dist/host/device-server.js';
import { HandedFiles } from '../../dist/host/handed-files.js';
import { memoryFiles } from '../../dist/host/memory-files.js';
import { Reactor } from '../../dist/host/reactor.js';
import { Trace } from '../../dist/host/trace.js';
import { XenbusStreams } from '../../dist/host/xenbus-streams.js';
import { createHvmDomain, giveStoreRing } from '../../dist/hypervisor/build-domain.js';
import { Hypervisor } from '../../dist/hypervisor/hypervisor.js';
import { GuestKernel } from '../support/guest-kernel.js';
import { bytes, decode, encode, show, TYPES } from '../unit/xenstore/harness.js';
import { CLI } from './harness.js';

const LIMIT_MS = 30_000;

let folder: string;
let reactor: Reactor;
let hypervisor: Hypervisor;
let devices: DeviceServer;
let daemon: ChildProcess | undefined;
let said: string;
let pumping: boolean;
let pumped: Promise<void>;
let local: Tool;

/** A local tool on the daemon's socket. */
class Tool {
  private received = new Uint8Array(0);

  constructor(private readonly socket: Socket) {
    socket.on('data', (data) => {
      this.received = Buffer.concat([this.received, data]);
    });
  }

  /** The reply, or the error's name. */
  async ask(type: string, payload: string): Promise<string> {
    this.received = new Uint8Array(0);
    this.socket.write(encode(TYPES[type] as number, bytes(payload)));
    await until(`${type} is answered`, () => decodeWhole(this.received).length > 0);
    return show(decodeWhole(this.received)[0] as ReturnType<typeof decode>[number]).replace(/^\S+ /, '');
  }

  close(): void {
    this.socket.destroy();
  }
}

function decodeWhole(data: Uint8Array): ReturnType<typeof decode> {
  if (data.length < 16) return [];
  const length = new DataView(data.buffer, data.byteOffset).getUint32(12, true);
  return data.length < 16 + length ? [] : decode(data.subarray(0, 16 + length));
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  for (const deadline = Date.now() + LIMIT_MS; !(await holds()); await sleep(2)) {
    if (Date.now() > deadline) throw new Error(`waited in vain until ${what}; the daemon said: ${said}`);
  }
}

async function pump(): Promise<void> {
  while (pumping) {
    for (let i = 0; i < 5; i++) reactor.round(0);
    await sleep(1);
  }
}

async function startDaemon(): Promise<void> {
  const socket = join(folder, 'xenstored');
  const args = ['xenstored', '--socket', socket, '--host', join(folder, 'host'), '--state', join(folder, 'state')];
  daemon = spawn(process.execPath, [CLI, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  said = '';
  for (const stream of [daemon.stdout, daemon.stderr]) stream?.setEncoding('utf8').on('data', (text) => (said += text));
  await until('the daemon is up', () => said.includes('XenStore is up'));
  const client = connect(socket);
  await once(client, 'connect');
  local = new Tool(client);
}

async function killDaemon(): Promise<void> {
  local?.close();
  if (!daemon) return;
  const ended = once(daemon, 'exit');
  daemon.kill('SIGKILL');
  await ended;
  daemon = undefined;
}

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'postern-guests-'));
  reactor = new Reactor();
  hypervisor = new Hypervisor({ extents: memoryFiles });
  const kernel = new Dom0Kernel(hypervisor.callsOfDom0());
  const page = memoryFiles.allocate(1);
  const bus = kernel.startXenbus(page.bytes, () => {});
  hypervisor.dom0.evtchn.onUpcall = (port) => kernel.upcall(port);
  const handed = new HandedFiles(bus, page, new XenbusStreams(reactor, bus, () => {}));
  devices = new DeviceServer(reactor, kernel, new Trace(), join(folder, 'host'), handed);
  pumping = true;
  pumped = pump();
  await startDaemon();
});

afterEach(async () => {
  await killDaemon();
  pumping = false;
  await pumped;
  for (const domain of [...hypervisor.domains]) if (domain !== hypervisor.dom0) domain.kill(NEVER_PREEMPT);
  devices.close();
  reactor.close();
  rmSync(folder, { recursive: true, force: true });
});

class Guest extends GuestKernel {
  /** What comes of a request: `count` messages. */
  async all(count: number, type: string, payload: string): Promise<string[]> {
    this.ring.send(type, payload, 5);
    return await this.take(count);
  }

  async take(count: number): Promise<string[]> {
    const lines: string[] = [];
    await until(`domain ${this.domain.domid} has ${count} messages (${lines})`, () => {
      lines.push(...this.ring.take().map(show));
      this.ring.push();
      return lines.length >= count;
    });
    return lines;
  }
}

async function make(domid = 0): Promise<Guest> {
  const domain = createHvmDomain(hypervisor, { memoryMiB: 4, domid });
  const { gfn, port } = giveStoreRing(domain);
  const home = `/local/domain/${domain.domid}`;
  await local.ask('MKDIR', `${home}|`);
  await local.ask('SET_PERMS', `${home}|n${domain.domid}|`);
  expect(await local.ask('INTRODUCE', `${domain.domid}|${gfn}|${port}|`)).toBe('OK|');
  return new Guest(domain);
}

const introduced = async (domid: number) => (await local.ask('IS_DOMAIN_INTRODUCED', `${domid}|`)) === 'T|';

describe('a guest of a daemon that is a process of its own', () => {
  it('reads, writes and watches', async () => {
    const guest = await make();
    expect(await guest.all(1, 'WRITE', 'a|hello')).toEqual(['WRITE OK|']);
    expect(await guest.all(1, 'READ', 'a|')).toEqual(['READ hello']);
    expect(await guest.all(2, 'WATCH', 'a|t|')).toEqual(['WATCH OK|', 'WATCH_EVENT a|t|']);
    await local.ask('WRITE', '/local/domain/1/a|x');
    expect(await guest.take(1)).toEqual(['WATCH_EVENT a|t|']);
    expect(await guest.all(1, 'READ', '/tool|')).toEqual(['ERROR EACCES|']);
    const long = 'v'.repeat(2000);
    expect(await guest.all(1, 'WRITE', `b|${long}`)).toEqual(['WRITE OK|']);
    expect(await guest.all(1, 'READ', 'b|')).toEqual([`READ ${long}`]);
  });

  it('is ignored after garbage, and served again when it reconnects', async () => {
    const guest = await make();
    guest.ring.set('req_prod', guest.ring.get('req_cons') + 2000);
    guest.ring.notify();
    await until('the error is told', () => guest.ring.get('error') === 2);
    guest.ring.set('connection', 1);
    guest.ring.notify();
    await until('it is connected', () => guest.ring.get('connection') === 0);
    expect(await guest.all(1, 'WRITE', 'a|x')).toEqual(['WRITE OK|']);
  });

  it('ends in the middle of a request, and leaves nothing to the next with its domid', async () => {
    const first = await make(5);
    await first.all(1, 'WRITE', 'secret|x');
    await first.all(2, 'WATCH', 'secret|t|');
    first.ring.raw(new Uint8Array(7));
    first.domain.kill(NEVER_PREEMPT);
    await until('it is released', async () => !(await introduced(5)));
    await until('nobody has it mapped', () => hypervisor.domains.find(5) === undefined);
    const second = await make(5);
    expect(await second.all(1, 'READ', 'secret|')).toEqual(['ERROR ENOENT|']);
    await local.ask('WRITE', '/local/domain/5/secret|y');
    expect(await second.all(1, 'READ', 'secret|')).toEqual(['READ y']);
  });

  it('that shuts down stays, and its end is told once', async () => {
    const guest = await make();
    await guest.all(1, 'WRITE', 'a|x');
    guest.domain.shutdown(0);
    expect(await introduced(1)).toBe(true);
    expect(await local.ask('READ', '/local/domain/1/a|')).toBe('x');
    guest.domain.kill(NEVER_PREEMPT);
    await until('it is released', async () => !(await introduced(1)));
    expect(await local.ask('READ', '/local/domain/1/a|')).toBe('ENOENT|');
  });

  it('refuses a page or a port that is not there', async () => {
    const domain = createHvmDomain(hypervisor, { memoryMiB: 4 });
    const { gfn, port } = giveStoreRing(domain);
    expect(await local.ask('INTRODUCE', `1|${0xf0000}|${port}|`)).toBe('EINVAL|');
    expect(await local.ask('INTRODUCE', `1|${gfn}|${port + 3}|`)).toBe('EINVAL|');
    expect(await introduced(1)).toBe(false);
    expect(await introduced(9)).toBe(false);
  });

  it('goes on where it was when the daemon is killed and another follows', async () => {
    const guest = await make();
    await guest.all(1, 'WRITE', 'a|hello');
    await guest.all(2, 'WATCH', 'a|t|');
    await killDaemon();
    guest.ring.send('READ', 'a|'); // nobody is there to read it
    await startDaemon();
    expect(await guest.take(1)).toEqual(['READ hello']);
    await local.ask('WRITE', '/local/domain/1/a|x');
    expect(await guest.take(1)).toEqual(['WATCH_EVENT a|t|']);
    expect(await introduced(1)).toBe(true);
  });

  it('keeps its transaction and half of a long request over a live update', async () => {
    const guest = await make();
    const [started] = await guest.all(1, 'TRANSACTION_START', '|');
    const tx = Number.parseInt(started?.split(' ')[1] ?? '', 10);
    const request = encode(TYPES.WRITE as number, bytes(`long|${'x'.repeat(1800)}`), 9, tx);
    guest.ring.raw(request.subarray(0, 900));
    await local.ask('READ', '/tool|');
    await until('the page is empty', () => guest.ring.get('req_cons') === guest.ring.get('req_prod'));
    daemon?.kill('SIGHUP');
    await until('the next is up', () => said.match(/XenStore is up/g)?.length === 2);
    guest.ring.raw(request.subarray(900));
    expect(await guest.take(1)).toEqual(['WRITE OK|']);
    guest.ring.send('TRANSACTION_END', 'T|', 3, tx);
    expect(await guest.take(1)).toEqual(['TRANSACTION_END OK|']);
    expect(await guest.all(1, 'READ', 'long|')).toEqual([`READ ${'x'.repeat(1800)}`]);
  });

  it('may be in the middle of a request then', async () => {
    const guest = await make();
    const request = encode(TYPES.WRITE as number, bytes('a|hello'), 9);
    guest.ring.raw(request.subarray(0, 19));
    await local.ask('READ', '/tool|'); // the daemon has had time to look
    await killDaemon();
    await startDaemon();
    guest.ring.raw(request.subarray(19));
    expect(await guest.take(1)).toEqual(['WRITE OK|']);
    expect(await guest.all(1, 'READ', 'a|')).toEqual(['READ hello']);
  });

  it('that ended while no daemon was there is noticed by the next', async () => {
    const guest = await make();
    await killDaemon();
    guest.domain.kill(NEVER_PREEMPT);
    await startDaemon();
    expect(await introduced(1)).toBe(false);
    expect(await local.ask('READ', '/local/domain/1|')).toBe('ENOENT|');
  });
});
