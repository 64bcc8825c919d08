// The XenStore client against a server that breaks the protocol, and its parts that look at a server's bytes.
import fc from 'fast-check';
import { afterEach, describe, expect, it } from 'vitest';

import { XS_ERROR, XS_READ, XS_TRANSACTION_START, XS_WATCH_EVENT } from '../../../dist/abi/xs-wire.js';
import { Connection } from '../../../dist/sdk/xenstore/connection.js';
import { parsePermissions } from '../../../dist/sdk/xenstore/permissions.js';
import type { Receiver, Transport } from '../../../dist/sdk/xenstore/transport.js';
import { MessageReader } from '../../../dist/sdk/xenstore/wire.js';
import { XenStore, XenStoreError } from '../../../dist/sdk/xenstore.js';
import { message, ScriptedServer, type Seen } from './xenstore-server.js';

let daemon: ScriptedServer;
let xs: XenStore;

async function connect(answer: (request: Seen) => Buffer | undefined): Promise<void> {
  daemon = await new ScriptedServer(answer).listen();
  xs = await XenStore.connect({ path: daemon.path });
}

afterEach(async () => {
  xs?.close();
  await daemon?.close();
});

const BROKEN: [string, (request: Seen) => Buffer, string][] = [
  ['a length beyond the limit', ({ requestId }) => message(XS_READ, requestId, '', 4097), 'more than 4096 bytes'],
  ['a length of 4 GiB', ({ requestId }) => message(XS_READ, requestId, 'x', 0xffffffff), 'more than 4096 bytes'],
  ['a reply to nobody', ({ requestId }) => message(XS_READ, requestId + 1, 'x'), 'which nobody waits for'],
  [
    'a reply twice',
    ({ requestId }) => Buffer.concat([1, 2].map(() => message(XS_READ, requestId, 'x'))),
    'nobody waits',
  ],
  ['a reply numbered 0', () => message(XS_READ, 0, 'x'), 'which nobody waits for'],
  ['a reply of another type', ({ requestId }) => message(XS_WATCH_EVENT + 8, requestId, 'x'), 'a reply of type 23 to'],
  ['an event without a token', () => message(XS_WATCH_EVENT, 0, 'path|'), 'an event without path and token'],
];

describe('the connection ends', () => {
  for (const [what, answer, why] of BROKEN) {
    it(`at ${what}`, async () => {
      await connect(answer);
      await xs.read('/a').catch(() => {}); // the first of two replies is a good one
      const error = (await xs.read('/b').catch((reason: unknown) => reason)) as XenStoreError;
      expect(error).toBeInstanceOf(XenStoreError);
      expect(error.code).toBe('EPROTO');
      expect(error.message).toContain(why);
    });
  }

  it('also where it would be made again after a mere loss', async () => {
    daemon = await new ScriptedServer(({ requestId }) => message(99, requestId, '')).listen();
    xs = await XenStore.connect({ path: daemon.path, reconnect: true });
    await expect(xs.read('/a')).rejects.toMatchObject({ code: 'EPROTO' });
    await expect(xs.read('/a')).rejects.toMatchObject({ code: 'EPROTO' });
    expect(daemon.seen).toHaveLength(1);
  });
});

describe('one request fails', () => {
  it.each(['x0', 'n', 'n99999999', 'n0 ', '', 'n0|r', 'n-1'])('by permissions of %j', async (text) => {
    await connect(({ typeNumber, requestId }) => message(typeNumber, requestId, `${text}|`));
    await expect(xs.getPermissions('/a')).rejects.toMatchObject({ code: 'EPROTO', path: '/a' });
  });

  it.each(['', '0', '-1', '4294967296', '0x10', 'x'.repeat(4000)])('by a transaction numbered %j', async (text) => {
    await connect(({ typeNumber, requestId }) => message(typeNumber, requestId, `${text}|`));
    await expect(xs.transaction(() => {})).rejects.toMatchObject({ code: 'EPROTO' });
  });

  it.each(['nonsense', '', 'E\u001b[31m', 'x'.repeat(4000)])(
    'by an error named %j, which is not shown raw',
    async (name) => {
      await connect(({ requestId }) => message(XS_ERROR, requestId, `${name}|`));
      const error = (await xs.read('/a').catch((reason: unknown) => reason)) as XenStoreError;
      expect(error.code).toBe('EINVAL');
      expect(error.message).not.toContain('\u001b');
      expect(error.message.length).toBeLessThan(200);
    },
  );

  it('by a list in parts that has no end', async () => {
    await connect(({ type, typeNumber, requestId }) =>
      type === 'DIRECTORY' ? message(XS_ERROR, requestId, 'E2BIG|') : message(typeNumber, requestId, '1|'),
    );
    await expect(xs.list('/a')).rejects.toMatchObject({ code: 'EPROTO' });
  });

  it('by a list in parts without a generation', async () => {
    await connect(({ type, typeNumber, requestId }) =>
      type === 'DIRECTORY' ? message(XS_ERROR, requestId, 'E2BIG|') : message(typeNumber, requestId, 'name'),
    );
    await expect(xs.list('/a')).rejects.toMatchObject({ code: 'EPROTO' });
  });
});

describe('nothing happens', () => {
  it('at events for watches that nobody has set', async () => {
    await connect(({ typeNumber, requestId }) =>
      Buffer.concat([message(XS_WATCH_EVENT, 0, '/a|no-such-token|'), message(typeNumber, requestId, 'x')]),
    );
    expect(await xs.read('/a')).toBe('x');
    expect(await xs.read('/a')).toBe('x');
  });

  it('to a transaction whose start nobody waits for, but that the server is told', async () => {
    let answer: (() => void) | undefined;
    daemon = await new ScriptedServer(({ typeNumber, requestId }, socket) => {
      if (typeNumber !== XS_TRANSACTION_START) return message(typeNumber, requestId, 'OK|');
      answer = () => void socket.write(message(typeNumber, requestId, '77|'));
      return undefined;
    }).listen();
    xs = await XenStore.connect({ path: daemon.path });
    const controller = new AbortController();
    const starting = xs.transaction(() => {}, { signal: controller.signal });
    await expect.poll(() => answer).toBeDefined();
    controller.abort();
    await expect(starting).rejects.toThrow('aborted');
    answer?.();
    await expect
      .poll(() => daemon.seen.at(-1))
      .toMatchObject({ type: 'TRANSACTION_END', transactionId: 77, payload: 'F|' });
  });
});

describe('the reader of messages', () => {
  const stream = Buffer.concat([
    message(XS_READ, 1, 'hello'),
    message(XS_READ, 2, ''),
    message(XS_READ, 3, 'x'.repeat(4096)),
    message(XS_READ, 4, 'end'),
  ]);

  it.each([1, 2, 3, 7, 15, 16, 17, 40, 4000, 4112, 9000])('takes them from chunks of %d bytes', (size) => {
    const reader = new MessageReader();
    const lengths: string[] = [];
    for (let at = 0; at < stream.length; at += size) {
      const chunk = Buffer.from(stream.subarray(at, at + size));
      const take = ({ requestId, payload }: { requestId: number; payload: Buffer }): boolean => {
        lengths.push(`${requestId}: ${payload.length} ${payload.toString('latin1', 0, 5)}`);
        return true;
      };
      expect(reader.push(chunk, take)).toBe(true);
      chunk.fill(0); // the chunk is the transport's again
    }
    expect(lengths).toEqual(['1: 5 hello', '2: 0 ', '3: 4096 xxxxx', '4: 3 end']);
  });

  it('believes no length beyond the limit, in whatever pieces it comes', () => {
    const bytes = Buffer.concat([message(XS_READ, 1, 'ok'), message(XS_READ, 2, 'more', 4097)]);
    for (const size of [1, 5, 16, 20, 100]) {
      const reader = new MessageReader();
      const outcomes: boolean[] = [];
      for (let at = 0; at < bytes.length; at += size)
        outcomes.push(reader.push(bytes.subarray(at, at + size), () => true));
      expect(outcomes).toContain(false);
    }
  });
});

describe('a connection that is sent anything', () => {
  /** Messages that mean something, and ones that don't. */
  const piece = fc.oneof(
    fc
      .record({
        type: fc.integer({ min: 0, max: 27 }),
        id: fc.integer({ min: 0, max: 8 }),
        text: fc.string({ maxLength: 40 }),
      })
      .map(({ type, id, text }) => message(type, id, text)),
    fc.tuple(fc.nat(), fc.nat(), fc.nat()).map(([type, id, length]) => message(type, id, 'x', length)),
    fc.uint8Array({ maxLength: 64 }).map((bytes) => Buffer.from(bytes)),
  );

  it('settles every request once, and throws nothing', async () => {
    const property = fc.asyncProperty(
      fc.array(piece, { maxLength: 12 }),
      fc.integer({ min: 1, max: 50 }),
      async (pieces, cut) => {
        let receiver: Receiver | undefined;
        const transport: Transport = {
          path: 'nowhere',
          maxPayload: 4096,
          maxOutstanding: 4,
          answersWatchesItself: true,
          start: (given) => {
            receiver = given;
          },
          send: () => {},
          close: () => {},
        };
        let losses = 0;
        const connection = new Connection(transport, { event: () => {}, lost: () => void losses++ });
        const types = [XS_READ, 4, 5, XS_TRANSACTION_START, 3, XS_READ];
        const requests = types.map((type) => {
          const decode = (reply: Buffer): number => reply.length;
          return connection.request({ type, payload: Buffer.from('x'), operation: 'ask', decode });
        });
        const settled = Promise.allSettled(requests);
        const bytes = Buffer.concat(pieces);
        for (let at = 0; at < bytes.length; at += cut) receiver?.data(bytes.subarray(at, at + cut));
        receiver?.ended('the end');
        for (const { status, reason } of (await settled) as PromiseRejectedResult[]) {
          if (status === 'rejected') expect(reason).toBeInstanceOf(XenStoreError);
        }
        expect(losses).toBe(1);
      },
    );
    await fc.assert(property, { numRuns: 500 });
  });
});

describe('permissions', () => {
  it('are read from text as they are written', () => {
    expect(parsePermissions(['b0', 'n1', 'w2'])).toEqual({
      owner: 0,
      others: 'both',
      domains: [
        { domid: 1, access: 'none' },
        { domid: 2, access: 'write' },
      ],
    });
    expect(parsePermissions([])).toBeUndefined();
  });
});
