/** The QMP client against a device model that may do anything, on a socket as in a real run. */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { QmpClient, QmpError } from '../../../dist/qmp/client.js';

const GREETING = '{"QMP":{"version":{"qemu":{"micro":0,"minor":2,"major":7}},"capabilities":["oob"]}}\r\n';

interface Command {
  execute: string;
  arguments?: unknown;
  id: number;
}

let folder: string;
let path: string;
let events: [string, unknown][];
let server: Server | undefined;
const clients: QmpClient[] = [];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'postern-qmp-'));
  path = join(folder, 'qmp');
  events = [];
});
afterEach(async () => {
  for (const client of clients.splice(0)) client.close();
  server?.close();
  server = undefined;
  rmSync(folder, { recursive: true });
});

/** The device model's side of one connection. */
class Peer {
  readonly commands: Command[] = [];
  readonly closed: Promise<void>;
  private readonly lines: AsyncIterator<string>;

  constructor(readonly socket: Socket) {
    socket.on('error', () => {});
    this.closed = new Promise((resolve) => socket.once('close', () => resolve()));
    const lines = createInterface({ input: socket });
    lines.on('error', () => {});
    this.lines = lines[Symbol.asyncIterator]();
  }

  send(...messages: (string | object)[]): void {
    this.socket.write(messages.map((m) => (typeof m === 'string' ? m : `${JSON.stringify(m)}\r\n`)).join(''));
  }

  async next(): Promise<Command> {
    const command = JSON.parse((await this.lines.next()).value as string) as Command;
    this.commands.push(command);
    return command;
  }

  /** Greets, and takes the negotiation. */
  async negotiate(): Promise<void> {
    this.send(GREETING);
    this.send({ return: {}, id: (await this.next()).id });
  }
}

async function listen(serve: (peer: Peer) => void): Promise<void> {
  server = createServer((socket) => serve(new Peer(socket)));
  server.listen(path);
  await once(server, 'listening');
}

async function connectClient(timeoutMs?: number): Promise<QmpClient> {
  const client = await QmpClient.connect(path, (name, data) => events.push([name, data]), timeoutMs);
  clients.push(client);
  return client;
}

/** A client that has negotiated, and the device model it talks to. */
async function connected(timeoutMs?: number): Promise<{ client: QmpClient; peer: Peer }> {
  const peer = new Promise<Peer>((resolve) => {
    void listen((one) => void one.negotiate().then(() => resolve(one)));
  });
  while (!server?.listening) await new Promise(setImmediate);
  return { client: await connectClient(timeoutMs), peer: await peer };
}

/** What a promise is rejected with: `class: message`. */
async function refusal(promise: Promise<unknown>): Promise<string> {
  const error = await promise.then(
    (value) => new Error(`not refused but ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  );
  if (!(error instanceof QmpError)) throw error;
  return `${error.errorClass}: ${error.message}`;
}

describe('connecting', () => {
  it('waits for the greeting, then takes no capabilities', async () => {
    const { peer } = await connected();
    expect(peer.commands).toEqual([{ execute: 'qmp_capabilities', id: expect.any(Number) }]);
  });

  it('says nothing before the greeting', async () => {
    let received = 0;
    await listen((peer) => {
      peer.socket.on('data', (chunk: Buffer) => (received += chunk.length));
      setTimeout(() => {
        expect(received).toBe(0);
        void peer.negotiate();
      }, 20);
    });
    await connectClient();
    expect(received).toBeGreaterThan(0);
  });

  it('takes events that come before and between', async () => {
    await listen(async (peer) => {
      peer.send({ event: 'EARLY', data: { n: 1 } }, GREETING, { event: 'BETWEEN' });
      peer.send({ return: {}, id: (await peer.next()).id });
    });
    await connectClient();
    expect(events).toEqual([
      ['EARLY', { n: 1 }],
      ['BETWEEN', undefined],
    ]);
  });

  it('takes a greeting in pieces and empty lines', async () => {
    await listen(async (peer) => {
      for (const piece of ['\r\n\n', GREETING.slice(0, 9), GREETING.slice(9, 40), GREETING.slice(40)]) {
        peer.send(piece);
        await new Promise((resolve) => setTimeout(resolve, 3));
      }
      peer.send({ return: {}, id: (await peer.next()).id });
    });
    await connectClient();
  });

  it('is refused where nobody listens', async () => {
    expect(await refusal(connectClient())).toMatch(/^Disconnected: QMP socket: .*ENOENT/);
  });

  it.each<[string, (peer: Peer) => unknown, RegExp]>([
    ['a peer that closes at once', (peer) => peer.socket.destroy(), /^Disconnected: /],
    ['a peer that closes after the greeting', (peer) => peer.socket.end(GREETING), /^Disconnected: /],
    [
      'a peer that closes instead of an answer',
      async (peer) => {
        peer.send(GREETING);
        await peer.next();
        peer.socket.destroy();
      },
      /^Disconnected: the device model closed/,
    ],
    [
      'a peer that refuses',
      async (peer) => {
        peer.send(GREETING);
        peer.send({ error: { class: 'CommandNotFound', desc: 'no' }, id: (await peer.next()).id });
      },
      /^CommandNotFound: no$/,
    ],
    [
      'an answer instead of a greeting',
      (peer) => peer.send({ return: {}, id: 1 }),
      /^Protocol: .*nothing that was asked/,
    ],
    ['garbage instead of a greeting', (peer) => peer.send('HTTP/1.1 200 OK\r\n'), /^Protocol: .*not JSON/],
    ['a peer that never greets', () => {}, /^Timeout: the greeting: no answer within 400 ms/],
    ['a peer that never answers', (peer) => peer.send(GREETING), /^Timeout: qmp_capabilities: no answer within 400 ms/],
  ])('fails with %s', async (_name, serve, message) => {
    await listen(serve);
    const timeoutMs = message.source.startsWith('^Timeout') ? 400 : 10_000; // long enough for a loaded machine
    expect(await refusal(connectClient(timeoutMs))).toMatch(message);
  });
});

describe('commands', () => {
  it('go out with their arguments, and come back', async () => {
    const { client, peer } = await connected();
    const answer = client.execute('device_add', { driver: 'VGA', id: 'x' });
    const command = await peer.next();
    expect(command).toMatchObject({ execute: 'device_add', arguments: { driver: 'VGA', id: 'x' } });
    peer.send({ return: [{ a: 1 }], id: command.id });
    expect(await answer).toEqual([{ a: 1 }]);
  });

  it('are matched with their answers by id, in whatever order those come', async () => {
    const { client, peer } = await connected();
    const names = ['stop', 'query-status', 'cont'];
    const answers = names.map((name) => client.execute(name));
    const ids = [await peer.next(), await peer.next(), await peer.next()].map((command) => command.id);
    expect(new Set(ids).size).toBe(3);
    peer.send({ id: ids[2], return: 'third' }, { event: 'STOP' }, { id: ids[0], return: 'first' });
    peer.send({ id: ids[1], error: { class: 'GenericError', desc: 'second' } });
    expect(await answers[2]).toBe('third');
    expect(await answers[0]).toBe('first');
    expect(await refusal(answers[1] as Promise<unknown>)).toBe('GenericError: second');
    expect(events).toEqual([['STOP', undefined]]);
  });

  it('that are refused leave the connection as it is', async () => {
    const { client, peer } = await connected();
    const first = client.execute('nonsense');
    const error = { class: 'CommandNotFound', desc: 'The command nonsense has not been found' };
    peer.send({ error, id: (await peer.next()).id });
    expect(await refusal(first)).toBe(`${error.class}: ${error.desc}`);
    const second = client.execute('cont');
    peer.send({ return: {}, id: (await peer.next()).id });
    expect(await second).toEqual({});
  });

  it('have answers in pieces that cut characters, and many in one', async () => {
    const { client, peer } = await connected();
    const answers = [client.execute('a'), client.execute('b')];
    const ids = [(await peer.next()).id, (await peer.next()).id];
    const text = 'Ωmega 🦊';
    const bytes = Buffer.from(ids.map((id) => `${JSON.stringify({ return: text, id })}\n`).join(''));
    for (const byte of bytes.subarray(0, 40)) {
      peer.socket.write(Uint8Array.of(byte));
      await new Promise(setImmediate);
    }
    peer.socket.write(bytes.subarray(40));
    expect(await Promise.all(answers)).toEqual([text, text]);
  });

  it('may have long answers', async () => {
    const { client, peer } = await connected();
    const answer = client.execute('query-qmp-schema');
    const long = 'x'.repeat(3 << 20);
    peer.send({ return: long, id: (await peer.next()).id });
    expect(await answer).toBe(long);
  });

  it('after close are refused, and so are those before it', async () => {
    const { client, peer } = await connected();
    const waiting = client.execute('query-status');
    client.close();
    expect(await refusal(waiting)).toMatch(/^Disconnected/);
    expect(await refusal(client.execute('cont'))).toBe('Disconnected: cont: the connection is closed');
    await peer.closed;
  });

  it('are all refused when the device model goes', async () => {
    const { client, peer } = await connected();
    const waiting = [client.execute('a'), client.execute('b')];
    await peer.next();
    peer.socket.destroy();
    for (const one of waiting) expect(await refusal(one)).toMatch(/^Disconnected/);
    expect(await refusal(client.execute('c'))).toMatch(/^Disconnected/);
  });

  it('do not wait for ever', async () => {
    const { client, peer } = await connected(400);
    const waiting = [client.execute('quit'), client.execute('cont')];
    for (const one of waiting) expect(await refusal(one)).toBe('Timeout: quit: no answer within 400 ms');
    await peer.closed;
  });
});

describe('a device model that breaks the protocol', () => {
  const MANY = 5 << 20;
  /** `$` is the id of the command that waits. */
  it.each<[string, string, RegExp]>([
    ['with garbage', 'garbage\n', /not JSON/],
    ['with half a message', '{"return":\n', /not JSON/],
    ['with a number', '5\n', /not an object/],
    ['with a string', '"return"\n', /not an object/],
    ['with null', 'null\n', /not an object/],
    ['with a list', '[{"return":{},"id":$}]\n', /nothing that was asked/],
    ['with an empty object', '{}\n', /nothing that was asked/],
    ['with an answer without an id', '{"return":{}}\n', /nothing that was asked/],
    ['with an answer to another id', '{"return":{},"id":9999}\n', /nothing that was asked/],
    ['with an answer to the negotiation, again', '{"return":{},"id":1}\n', /nothing that was asked/],
    ['with an id of another type', '{"return":{},"id":"$"}\n', /nothing that was asked/],
    ['with an event without a name', '{"event":5}\n', /nothing that was asked/],
    ['with neither a result nor an error', '{"id":$}\n', /without a result/],
    ['with an error of null', '{"id":$,"error":null}\n', /without class and description/],
    ['with an error that is a string', '{"id":$,"error":"no"}\n', /without class and description/],
    ['with an error without a description', '{"id":$,"error":{"class":"GenericError"}}\n', /without class and desc/],
    [
      'with an error that cannot be made text',
      '{"id":$,"error":{"class":{"toString":1,"valueOf":1},"desc":"x"}}\n',
      /without class and description/,
    ],
    ['with a message that has no end', 'x'.repeat(MANY), /more than 4194304 bytes/],
    ['with depth', `${'['.repeat(1 << 20)}\n`, /not JSON|nothing that was asked/],
  ])('%s is cut off, and whatever waits is refused', async (_name, message, why) => {
    const { client, peer } = await connected();
    const waiting = client.execute('query-status');
    const { id } = await peer.next();
    peer.send(message.replaceAll('$', String(id)));
    const said = await refusal(waiting);
    expect(said).toMatch(/^Protocol: the device model broke the QMP protocol: /);
    expect(said).toMatch(why);
    await peer.closed;
    expect(await refusal(client.execute('cont'))).toMatch(/^Disconnected/);
  });

  it('is not listened to any more, not even to the rest of what it sent', async () => {
    const { client, peer } = await connected();
    const waiting = client.execute('query-status');
    const { id } = await peer.next();
    peer.send({ event: 'BEFORE' }, 'garbage\n', { event: 'AFTER' }, { return: 'too late', id });
    expect(await refusal(waiting)).toMatch(/^Protocol/);
    await peer.closed;
    expect(events).toEqual([['BEFORE', undefined]]);
  });

  it('by answering twice is cut off at the second', async () => {
    const { client, peer } = await connected();
    const answer = client.execute('cont');
    const { id } = await peer.next();
    peer.send({ return: 1, id }, { return: 2, id });
    expect(await answer).toBe(1);
    await peer.closed;
  });

  it('by greeting again does no harm', async () => {
    const { client, peer } = await connected();
    const answer = client.execute('cont');
    peer.send(GREETING, { return: 1, id: (await peer.next()).id });
    expect(await answer).toBe(1);
  });
});
