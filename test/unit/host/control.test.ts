/** The control socket: one request a line, answered by id; nothing but the commands that are meant for it. */
import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { askHost, serveControl } from '../../../dist/host/control.js';
import { UserError } from '../../../dist/host/native-library.js';

let folder: string;
let socketPath: string;
let asked: unknown[][];
let run: (name: string, argument: unknown) => Promise<unknown>;
const servers: Server[] = [];
const sockets: Socket[] = [];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'postern-control-'));
  socketPath = join(folder, 'host');
  asked = [];
  run = async () => null;
  const answer = (name: string, argument: unknown) => {
    asked.push([name, argument]);
    return run(name, argument);
  };
  servers.push(await serveControl(`${socketPath}.control`, answer));
});
afterEach(() => {
  for (const socket of sockets.splice(0)) socket.destroy();
  for (const server of servers.splice(0)) server.close();
  rmSync(folder, { recursive: true });
});

async function client() {
  const socket = connect(`${socketPath}.control`);
  sockets.push(socket);
  socket.on('error', () => {});
  await once(socket, 'connect');
  const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  const next = async () => JSON.parse((await lines.next()).value as string) as { id?: unknown; error?: string };
  return { socket, next, send: (text: string) => socket.write(`${text}\n`) };
}

describe('a host', () => {
  it('runs what is asked and answers', async () => {
    run = async (name) => ({ domid: name.length });
    const plan = { kind: 'hvm', memoryMiB: 64, vcpus: 1 } as const;
    expect(await askHost(socketPath, 'createDomain', plan)).toEqual({ domid: 12 });
    expect(asked).toEqual([['createDomain', plan]]);
  });

  it('passes a refusal on as a message for the user', async () => {
    run = async () => {
      throw new Error('ESRCH: there is no domain 9');
    };
    const refusal = askHost(socketPath, 'pauseDomain', { domid: 9 });
    await expect(refusal).rejects.toThrow(new UserError('ESRCH: there is no domain 9'));
  });

  it('can only be reached by its owner', () => {
    expect(statSync(`${socketPath}.control`).mode & 0o777).toBe(0o600);
  });

  it.each(['stop', 'startGuest', 'openFiles', '', 'toString', '__proto__', 'constructor', 5, null, ['status']])(
    'knows no command %j here',
    async (name) => {
      const { send, next } = await client();
      send(JSON.stringify({ id: 7, name }));
      expect(await next()).toEqual({ id: 7, error: 'unknown command' });
      expect(asked).toEqual([]);
    },
  );

  it.each(['', 'garbage', '{', 'null', '5', '"status"', '[]', '\0\0'])('survives the line %j', async (line) => {
    const { send, next } = await client();
    send(line);
    expect((await next()).error).toEqual(expect.any(String));
    send('{"id":2,"name":"status"}');
    expect(await next()).toEqual({ id: 2, result: null });
  });

  it('answers each request when it is done, by id', async () => {
    const done: (() => void)[] = [];
    run = (name) => new Promise((resolve) => done.push(() => resolve(name)));
    const { send, next } = await client();
    send('{"id":"one","name":"status"}\n{"id":{"two":2},"name":"listDomains"}');
    while (done.length < 2) await new Promise(setImmediate);
    done[1]?.();
    expect(await next()).toEqual({ id: { two: 2 }, result: 'listDomains' });
    done[0]?.();
    expect(await next()).toEqual({ id: 'one', result: 'status' });
  });

  it('takes a request in pieces', async () => {
    const { socket, next } = await client();
    for (const piece of ['{"id":1,', '"name":"sta', 'tus"}\n']) {
      socket.write(piece);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(await next()).toEqual({ id: 1, result: null });
  });

  it('does not mind a client that goes before its answer', async () => {
    let finish = () => {};
    run = () => new Promise((resolve) => (finish = () => resolve('late')));
    const { socket, send } = await client();
    send('{"id":1,"name":"status"}');
    while (asked.length === 0) await new Promise(setImmediate);
    socket.destroy();
    await once(socket, 'close');
    finish();
    run = async () => 'still here';
    expect(await askHost(socketPath, 'status', null)).toBe('still here');
  });

  it('cuts off a client whose line has no end', async () => {
    const { socket } = await client();
    const closed = new Promise((resolve) => socket.once('close', resolve));
    const chunk = Buffer.alloc(1 << 20, 'x');
    for (let i = 0; i < 18; i++) socket.write(chunk);
    await closed;
    expect(asked).toEqual([]);
  });
});

describe('asking', () => {
  it('says how to start a host where none answers', async () => {
    const nobody = askHost(join(folder, 'nobody'), 'status', null);
    await expect(nobody).rejects.toThrow(/no host answers at .*nobody \(ENOENT\).*postern host --socket/s);
    await expect(nobody).rejects.toBeInstanceOf(UserError);
  });

  it.each([
    ['ends', (socket: Socket) => socket.resume().once('data', () => socket.end())],
    ['is killed before it has read the request', (socket: Socket) => setTimeout(() => socket.destroy(), 20)],
  ])('does not wait for a host that %s', async (_name, serve) => {
    const server = createServer({ pauseOnConnect: true }, serve);
    servers.push(server);
    server.listen(join(folder, 'mute.control'));
    await once(server, 'listening');
    const mute = askHost(join(folder, 'mute'), 'status', null);
    await expect(mute).rejects.toThrow(new UserError(`the host at ${join(folder, 'mute')} ended without an answer`));
  });
});
