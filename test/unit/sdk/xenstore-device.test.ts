// The client over the kernel's device, whose part is played by the other end of a socket that keeps messages apart: one
// packet is one write, as the driver takes them.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { XS_ERROR, XS_READ, XS_UNWATCH, XS_WATCH, XS_WATCH_EVENT } from '../../../dist/abi/xs-wire.js';
import {
  AF_UNIX,
  allocateNative,
  libc,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_SEQPACKET,
} from '../../../dist/host/libc.js';
import { Connection } from '../../../dist/sdk/xenstore/connection.js';
import { DeviceTransport } from '../../../dist/sdk/xenstore/device-transport.js';
import type { XenStoreError } from '../../../dist/sdk/xenstore.js';
import { message, parseRequest, type Seen } from './xenstore-server.js';

const memory = allocateNative(8192);

/** The kernel's end. */
class Kernel {
  readonly theirs: number;
  readonly #ours: number;

  constructor() {
    const type = SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK;
    if (libc.socketpair(AF_UNIX, type, 0, memory.address) < 0) throw new Error('socketpair');
    this.#ours = memory.view.getInt32(0, true);
    this.theirs = memory.view.getInt32(4, true);
  }

  /** The next write, parsed as the driver parses it: what follows the first message in it would be lost. */
  take(): Seen | undefined {
    const count = libc.recv(this.#ours, memory.address, 8192, MSG_DONTWAIT);
    if (count <= 0) return undefined;
    const bytes = Buffer.from(memory.bytes.subarray(0, count));
    expect(bytes.length).toBe(16 + bytes.readUInt32LE(12));
    return parseRequest(bytes);
  }

  async next(): Promise<Seen> {
    let seen: Seen | undefined;
    await expect.poll(() => (seen = this.take())).toBeDefined();
    return seen as Seen;
  }

  put(bytes: Buffer): void {
    memory.bytes.set(bytes);
    libc.send(this.#ours, memory.address, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  close(): void {
    libc.close(this.#ours);
  }
}

let kernel: Kernel;
let connection: Connection;
const events: string[] = [];
let lost: XenStoreError | undefined;

beforeEach(() => {
  kernel = new Kernel();
  events.length = 0;
  lost = undefined;
  connection = new Connection(new DeviceTransport('/dev/xen/xenbus', kernel.theirs), {
    event: (path, token) => void events.push(`${path} ${token}`),
    lost: (error) => {
      lost = error;
    },
  });
});

afterEach(() => {
  connection.close();
  kernel.close();
});

const ask = (type: number, text: string, signal?: AbortSignal): Promise<string> =>
  connection.request({
    type,
    payload: Buffer.from(text.replaceAll('|', '\0')),
    operation: `type ${type}`,
    path: text,
    signal,
    decode: (reply) => reply.toString(),
  });

describe('the xenbus device', () => {
  it('gets one message a write and one at a time', async () => {
    const replies = ['/a|', '/b|', '/c|'].map((path) => ask(XS_READ, path));
    for (const path of ['/a', '/b', '/c']) {
      const request = await kernel.next();
      expect(request.payload).toBe(`${path}|`);
      await new Promise((resolve) => setTimeout(resolve, 5));
      expect(kernel.take()).toBeUndefined();
      kernel.put(message(XS_READ, request.requestId, path));
    }
    expect(await Promise.all(replies)).toEqual(['/a', '/b', '/c']);
  });

  it('answers watches itself, without the number', async () => {
    const watching = ask(XS_WATCH, '/a|token|');
    expect((await kernel.next()).type).toBe('WATCH');
    kernel.put(message(XS_WATCH_EVENT, 0x5a5a5a5a, '/a|token|')); // whatever number the driver leaves there
    kernel.put(message(XS_WATCH, 0, 'OK|'));
    expect(await watching).toBe('OK\0');
    expect(events).toEqual(['/a token']);
    const ending = ask(XS_UNWATCH, '/a|token|');
    await kernel.next();
    kernel.put(message(XS_UNWATCH, 0, 'OK|'));
    expect(await ending).toBe('OK\0');
  });

  it('may answer in pieces, and with several messages a read', async () => {
    const reading = ask(XS_READ, '/a|');
    const { requestId } = await kernel.next();
    const bytes = Buffer.concat([message(XS_WATCH_EVENT, 0, '/b|t|'), message(XS_READ, requestId, 'value')]);
    kernel.put(bytes.subarray(0, 10));
    kernel.put(bytes.subarray(10, 40));
    kernel.put(bytes.subarray(40));
    expect([await reading, events]).toEqual(['value', ['/b t']]);
  });

  it('is not asked for what has been given up before its turn, and answers for what has been after it', async () => {
    const controller = new AbortController();
    const first = ask(XS_READ, '/a|', controller.signal);
    const second = ask(XS_READ, '/b|', controller.signal);
    const third = ask(XS_READ, '/c|');
    const { requestId } = await kernel.next();
    controller.abort(new Error('enough'));
    await expect(first).rejects.toThrow('enough');
    await expect(second).rejects.toThrow('enough');
    expect(kernel.take()).toBeUndefined(); // the first is still on its way
    kernel.put(message(XS_READ, requestId, 'too late'));
    const next = await kernel.next();
    expect(next.payload).toBe('/c|');
    kernel.put(message(XS_ERROR, next.requestId, 'ENOENT|'));
    await expect(third).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('has room for 4080 bytes of payload', async () => {
    await expect(ask(XS_READ, `${'x'.repeat(4080)}|`)).rejects.toMatchObject({ code: 'E2BIG' });
    expect(kernel.take()).toBeUndefined();
    const fits = ask(XS_READ, `${'x'.repeat(4079)}|`);
    const { requestId, payload } = await kernel.next();
    expect(payload.length).toBe(4080);
    kernel.put(message(XS_READ, requestId, ''));
    expect(await fits).toBe('');
  });

  it('may refuse a write, which fails that request', async () => {
    kernel.close(); // the write then fails with EPIPE, the next read finds the end
    const refused = ask(XS_WATCH, 'bad path|t|');
    await expect(refused).rejects.toMatchObject({ code: expect.stringMatching(/EINVAL|ECONNRESET/) });
    await expect.poll(() => lost?.code).toBe('ECONNRESET');
    await expect(ask(XS_READ, '/a|')).rejects.toMatchObject({ code: 'ECONNRESET' });
  });

  it('can be closed while the thread waits for it, and another be opened after it', async () => {
    const waiting = ask(XS_READ, '/a|');
    await kernel.next();
    connection.close();
    await expect(waiting).rejects.toMatchObject({ code: 'ECANCELED' });
    const again = new Kernel();
    const other = new Connection(new DeviceTransport('/dev/xen/xenbus', again.theirs), {
      event: () => {},
      lost: () => {},
    });
    const call = {
      type: XS_READ,
      payload: Buffer.from('/a\0'),
      operation: 'read',
      decode: (b: Buffer) => b.toString(),
    };
    const reading = other.request(call);
    again.put(message(XS_READ, (await again.next()).requestId, 'value'));
    expect(await reading).toBe('value');
    other.close();
    again.close();
  });
});
