/** Files that the host hands over: xenbus as a stream with programs that behave in every way, and what /proc/xen holds. */
import { closeSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Dom0Kernel } from '../../../dist/dom0/kernel.js';
import type { Xenbus } from '../../../dist/dom0/xenbus.js';
import { EmbeddedXenstore } from '../../../dist/host/embedded-xenstore.js';
import { HandedFiles } from '../../../dist/host/handed-files.js';
import { allocateNative, libc, MSG_DONTWAIT, MSG_NOSIGNAL, mapShared } from '../../../dist/host/libc.js';
import { memoryFiles } from '../../../dist/host/memory-files.js';
import { Reactor } from '../../../dist/host/reactor.js';
import { Trace } from '../../../dist/host/trace.js';
import { XenbusStreams } from '../../../dist/host/xenbus-streams.js';
import { Hypervisor } from '../../../dist/hypervisor/hypervisor.js';
import { bytes, Client, decode, encode, type Message, show, TYPES } from '../xenstore/harness.js';

const PID = 4242;
const memory = allocateNative(1 << 17);

let folder: string;
let reactor: Reactor;
let store: EmbeddedXenstore;
let files: HandedFiles;
let bus: Xenbus;
let local: Client;
let notes: string[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'postern-streams-'));
  reactor = new Reactor();
  const hypervisor = new Hypervisor({ extents: memoryFiles });
  const kernel = new Dom0Kernel(hypervisor.callsOfDom0());
  const page = memoryFiles.allocate(1);
  const soon = (run: () => void) =>
    reactor.queue(() => {
      run();
      return true;
    });
  bus = kernel.startXenbus(page.bytes, soon);
  hypervisor.dom0.evtchn.onUpcall = (port) => {
    if (!store?.upcall(port)) kernel.upcall(port);
  };
  store = new EmbeddedXenstore(reactor, hypervisor, {
    kernel: { page, port: bus.port },
    socketPath: join(folder, 'socket'),
    trace: new Trace(),
    log: () => {},
  });
  notes = [];
  files = new HandedFiles(bus, page, new XenbusStreams(reactor, bus, (pid, reason) => notes.push(`${pid} ${reason}`)));
  local = new Client(store.server, { domid: 0 });
});

afterEach(() => {
  store.close();
  files.close();
  reactor.close();
  rmSync(folder, { recursive: true, force: true });
});

function settle(): void {
  for (let i = 0; i < 30; i++) reactor.round(0);
}

const nrDescriptors = () => readdirSync('/proc/self/fd').length;

/** A program with the device open. */
class Program {
  readonly fd: number;
  private received = new Uint8Array(0);

  constructor(pid = PID) {
    this.fd = files.open('xenbus', pid) as number;
  }

  /** @returns bytes that the kernel took */
  raw(data: Uint8Array): number {
    memory.bytes.set(data);
    return libc.send(this.fd, memory.address, data.length, MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  send(type: string, payload = '', id = 0): number {
    return this.raw(encode(TYPES[type] as number, bytes(payload), id));
  }

  /** Reads what is there; undefined at the end of the file. */
  take(): Message[] | undefined {
    const n = libc.recv(this.fd, memory.address, memory.bytes.length, MSG_DONTWAIT);
    if (n === 0) return undefined;
    if (n > 0) this.received = Buffer.concat([this.received, memory.bytes.slice(0, n)]);
    let end = 0;
    const view = new DataView(this.received.buffer, this.received.byteOffset);
    while (this.received.length - end >= 16 && this.received.length - end - 16 >= view.getUint32(end + 12, true)) {
      end += 16 + view.getUint32(end + 12, true);
    }
    const messages = decode(this.received.subarray(0, end));
    this.received = Uint8Array.from(this.received.subarray(end));
    return messages;
  }

  all(type: string, payload: string): string[] | undefined {
    this.send(type, payload);
    settle();
    return this.take()?.map(show);
  }

  close(): void {
    closeSync(this.fd);
  }
}

describe('/dev/xen/xenbus as a stream', () => {
  it('answers', () => {
    const program = new Program();
    expect(program.all('WRITE', '/a|hello')).toEqual(['WRITE OK|']);
    expect(program.all('READ', '/a|')).toEqual(['READ hello']);
    expect([...files.streams.open()].map(({ pid }) => pid)).toEqual([PID]);
    program.close();
    settle();
    expect([...files.streams.open()]).toEqual([]);
  });

  it('does what was written before a hang-up, also what had to wait', () => {
    const program = new Program();
    for (let i = 0; i < 200; i++) expect(program.send('WRITE', `/last|${i}`)).toBeGreaterThan(0);
    program.close();
    settle();
    settle();
    expect(local.ask('READ', '/last|')).toBe('199');
    expect([...files.streams.open()]).toEqual([]);
    expect(bus.counts).toEqual({ waiting: 0, watches: 0 });
  });

  it('holds a program up that asks and never reads, until it does', () => {
    const program = new Program();
    local.ask('WRITE', `/big|${'x'.repeat(2000)}`);
    let asked = 0;
    for (let stuck = 0; stuck < 5; settle()) {
      if (program.send('READ', '/big|', asked) > 0) asked++;
      else stuck++;
      if (asked > 100_000) throw new Error('nothing holds it up');
    }
    expect(store.server.connections.size).toBe(2);
    const other = new Program(PID + 1);
    expect(other.all('READ', '/tool|')).toEqual(['READ']);
    let answered = 0;
    for (let idle = 0; idle < 5; settle()) {
      const { length } = program.take() ?? [];
      answered += length;
      idle = length > 0 ? 0 : idle + 1;
    }
    expect(answered).toBe(asked);
    program.close();
    other.close();
  });

  it('ends with a message that no buffer holds, and says why to the trace', () => {
    const [bad, good] = [new Program(), new Program()];
    const header = encode(2, new Uint8Array(0));
    new DataView(header.buffer).setUint32(12, 5000, true);
    bad.raw(header);
    settle();
    expect(bad.take()).toBeUndefined();
    expect(notes).toEqual([`${PID} a message of 5000 bytes`]);
    expect(good.all('READ', '/tool|')).toEqual(['READ']);
    bad.close();
    good.close();
  });

  it('is to be had only so often by one process, and again once some are closed', () => {
    const programs = Array.from({ length: 1024 }, () => new Program());
    expect(() => files.open('xenbus', PID)).toThrow('ENOMEM');
    const other = new Program(PID + 1);
    expect(other.all('READ', '/tool|')).toEqual(['READ']);
    for (const program of programs) program.close();
    for (let i = 0; i < 20; i++) settle();
    const again = new Program();
    expect(again.all('READ', '/tool|')).toEqual(['READ']);
    again.close();
    other.close();
  });

  it('leaves nothing behind, however it is closed', () => {
    settle();
    const before = nrDescriptors();
    for (let i = 0; i < 100; i++) {
      const program = new Program();
      program.send('WATCH', `/${i}|t|`);
      if (i % 2 === 0) settle();
      if (i % 3 === 0) program.send('TRANSACTION_START', '|');
      if (i % 5 === 0) program.raw(new Uint8Array(5));
      program.close();
      settle();
    }
    settle();
    expect(nrDescriptors()).toBe(before);
    expect(bus.counts).toEqual({ waiting: 0, watches: 0 });
    const control = store.server.domains.get(0);
    expect([control?.watches, control?.transactions]).toEqual([0, 0]);
  });
});

describe('/proc/xen', () => {
  const text = (name: string) => {
    const fd = files.open(name, PID) as number;
    try {
      return readFileSync(fd, 'utf8');
    } finally {
      closeSync(fd);
    }
  };

  it('says where the kernel waits for a daemon', () => {
    expect(text('xsd_port')).toBe(`${bus.port}`);
    const fd = files.open('xsd_kva', PID) as number;
    const { view, unmap } = mapShared(fd, 4096);
    closeSync(fd);
    expect(view.getUint32(2064, true)).toBe(store.server.features);
    unmap();
  });

  it('says that this is dom0, and of which Xen', () => {
    expect(text('capabilities')).toBe('control_d\n');
    expect(text('hypervisor/type')).toBe('xen\n');
    expect(`${text('hypervisor/version/major').trim()}.${text('hypervisor/version/minor').trim()}`).toBe('4.17');
  });

  it.each(['', 'xsd', 'hypervisor/', 'xenbus\0', '__proto__', 'privcmd'])('%j is no such file', (name) => {
    expect(files.open(name, PID)).toBeUndefined();
  });
});
