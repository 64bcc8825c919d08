/** A gate's ways upstream over descriptors: what goes out in which pieces, and what happens when they end. */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { type GateConnection, GateSocket } from '../../../dist/host/gate-socket.js';
import { FileUpstream, openUpstream, type UpstreamFile } from '../../../dist/host/gate-upstream-file.js';
import {
  AF_UNIX,
  allocateNative,
  libc,
  MSG_DONTWAIT,
  SOCK_NONBLOCK,
  SOCK_SEQPACKET,
  SOCK_STREAM,
  SystemError,
} from '../../../dist/host/libc.js';
import { Reactor } from '../../../dist/host/reactor.js';
import { connectUnix } from '../../../dist/host/unix-socket.js';
import { BoundPolicy } from '../../../dist/xenstore/gate/bound-policy.js';
import { builtinPolicy } from '../../../dist/xenstore/gate/builtin.js';
import { Gate } from '../../../dist/xenstore/gate/gate.js';
import type { Policy } from '../../../dist/xenstore/gate/policy.js';
import { bytes, decode, encode, show } from '../xenstore/harness.js';

const word = allocateNative(1 << 16);
let home: string;
let reactor: Reactor;
let gate: Gate;
let socket: GateSocket;
let client: number;
/** Our ends of the connections upstream, the last one last. */
let far: number[];
/** What `open` does now. */
let open: () => UpstreamFile;

beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'postern-test-'));
  reactor = new Reactor();
  far = [];
});

afterEach(() => {
  socket.close();
  for (const fd of [client, ...far]) libc.close(fd);
  reactor.close();
  rmSync(home, { recursive: true, force: true });
});

function pair(kind: UpstreamFile['kind'], type: number, payloadMax = 4096): UpstreamFile {
  expect(libc.socketpair(AF_UNIX, type | SOCK_NONBLOCK, 0, word.address)).toBe(0);
  const [near, other] = [word.view.getInt32(0, true), word.view.getInt32(4, true)];
  far.push(other);
  return { fd: near, kind, payloadMax, close: () => libc.close(near) };
}

function start(first: () => UpstreamFile): void {
  open = first;
  const policy = new BoundPolicy(builtinPolicy('every-path') as Policy, { domid: 1, dm: 0 });
  gate = new Gate(policy, { now: () => performance.now() }, 1);
  const path = join(home, 'gate');
  const connect = (connection: GateConnection) => new FileUpstream(connection, () => open());
  socket = new GateSocket(reactor, gate, { path, connect });
  expect(statSync(path).mode & 0o777).toBe(0o600);
  client = connectUnix(path, SOCK_STREAM);
  reactor.round(100);
}

function write(fd: number, data: Uint8Array): void {
  word.bytes.set(data);
  expect(libc.send(fd, word.address, data.length, MSG_DONTWAIT)).toBe(data.length);
  reactor.round(100);
  reactor.round(0);
}

/** What a descriptor has for us: null at its end, undefined where there is nothing. */
function read(fd: number): Uint8Array | null | undefined {
  const n = libc.recv(fd, word.address, 1 << 16, MSG_DONTWAIT);
  return n === 0 ? null : n < 0 ? undefined : word.bytes.slice(0, n);
}

const messages = (data: Uint8Array | null | undefined) => (data ? decode(data).map(show) : data);
const READ = 2;
const two = () => Uint8Array.from([...encode(READ, bytes('/a|'), 1), ...encode(READ, bytes('/b|'), 2)]);

describe('a daemon', () => {
  it('gets all there is at once', () => {
    start(() => pair('socket', SOCK_STREAM));
    write(client, two());
    expect(messages(read(far[0] as number))).toEqual(['READ /a|', 'READ /b|']);
    write(far[0] as number, encode(READ, bytes('value'), 1));
    expect(messages(read(client))).toEqual(['READ value']);
    expect(messages(read(client))).toBe(undefined);
  });

  it('that ends is connected to again, later and later, and asked again', async () => {
    start(() => pair('socket', SOCK_STREAM));
    write(client, encode(READ, bytes('/a|'), 7));
    let tries = 0;
    open = () => {
      if (++tries < 4) throw new SystemError('connect', 111);
      return pair('socket', SOCK_STREAM);
    };
    const before = performance.now();
    libc.close(far.pop() as number);
    for (let i = 0; i < 100 && far.length === 0; i++) reactor.round(50);
    expect(performance.now() - before).toBeGreaterThan(10 + 20 + 40 + 80 - 5);
    expect(messages(read(far[0] as number))).toEqual(['READ /a|']);
    write(far[0] as number, encode(READ, bytes('value'), 2));
    expect(decode(read(client) as Uint8Array)).toEqual([
      { type: 'READ', requestId: 7, transactionId: 0, payload: 'value' },
    ]);
    expect(gate.counts().lost).toBe(1);
  });

  it('that talks nonsense is dropped', () => {
    start(() => pair('socket', SOCK_STREAM));
    write(far[0] as number, encode(READ, bytes('value'), 9));
    for (let i = 0; i < 100 && far.length === 1; i++) reactor.round(50);
    expect(read(far[0] as number)).toBe(null);
    expect(far.length).toBe(2);
  });

  it("sees its client's end at once", () => {
    start(() => pair('socket', SOCK_STREAM));
    libc.close(client);
    client = -1;
    reactor.round(100);
    expect(read(far[0] as number)).toBe(null);
    expect(gate.counts().connections).toBe(0);
  });

  it('that does not take any more is waited for', () => {
    start(() => pair('socket', SOCK_STREAM));
    const value = 'x'.repeat(4000);
    let sent = 0;
    for (; sent < 400; sent++) {
      const request = encode(11, bytes(`/a|${value}`), sent + 1);
      word.bytes.set(request);
      if (libc.send(client, word.address, request.length, MSG_DONTWAIT) !== request.length) break;
      reactor.round(0);
    }
    expect(sent).toBeLessThan(400);
    let arrived = 0;
    for (let quiet = 0; quiet < 20; ) {
      reactor.round(5);
      const data = read(far[0] as number);
      quiet = data ? 0 : quiet + 1;
      arrived += data?.length ?? 0;
    }
    const requests = Math.floor(arrived / (16 + 3 + value.length));
    expect(requests).toBeGreaterThan(0);
    expect(gate.counts().connections).toBe(1);
  });
});

describe('a device', () => {
  it('gets one message a write, and one at a time', () => {
    start(() => pair('device', SOCK_SEQPACKET));
    write(client, two());
    expect(messages(read(far[0] as number))).toEqual(['READ /a|']);
    expect(messages(read(far[0] as number))).toBe(undefined);
    write(far[0] as number, encode(READ, bytes('value'), 1));
    expect(messages(read(client))).toEqual(['READ value']);
    expect(messages(read(far[0] as number))).toEqual(['READ /b|']);
    write(far[0] as number, encode(READ, bytes('other'), 2));
    expect(messages(read(client))).toEqual(['READ other']);
  });

  it('gets none that it has no room for', () => {
    start(() => pair('device', SOCK_SEQPACKET, 4080));
    write(client, encode(11, bytes(`/a|${'x'.repeat(4080)}`), 1));
    expect(messages(read(client))).toEqual(['ERROR E2BIG|']);
    expect(read(far[0] as number)).toBe(undefined);
  });

  it('that refuses a message fails that request', () => {
    // nothing can be written to one of these, and nothing comes of it
    const fd = libc.epollCreate(0);
    start(() => ({ fd, kind: 'device', payloadMax: 4080, close: () => libc.close(fd) }));
    write(client, two());
    expect(decode(read(client) as Uint8Array).map(({ requestId, payload }) => [requestId, payload])).toEqual([
      [1, 'EINVAL|'],
      [2, 'EINVAL|'],
    ]);
    expect(gate.counts()).toMatchObject({ connections: 1, lost: 0 });
  });
});

describe('a path', () => {
  it('is taken for what it is', () => {
    start(() => pair('socket', SOCK_STREAM));
    expect(() => openUpstream(join(home, 'nobody'))).toThrow(SystemError);
    expect(() => openUpstream('/dev/postern-has-no-such')).toThrow(/ENOENT/);
    const device = openUpstream('/dev/null');
    expect(device).toMatchObject({ kind: 'device', payloadMax: 4080 });
    device.close();
  });
});
