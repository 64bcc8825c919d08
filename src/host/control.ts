/**
 * The control socket of a long-running host: one JSON object a line, `{id, name, argument}` to `{id, result}` or
 * `{id, error}`. Whoever may connect to it (the socket's permissions) may do anything to the host.
 */
import { once } from 'node:events';
import { chmod } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { CommandMap, CommandName } from './commands.js';
import { UserError } from './native-library.js';

type Run = (name: CommandName, argument: never) => Promise<unknown>;

const COMMANDS: ReadonlySet<string> = new Set<CommandName>([
  'createDomain',
  'listDomains',
  'pauseDomain',
  'unpauseDomain',
  'destroyDomain',
  'io',
  'status',
]);

const MAX_LINE_BYTES = 16 << 20;

export async function serveControl(path: string, run: Run): Promise<Server> {
  const server = createServer((socket) => serve(socket, run));
  server.listen(path);
  await once(server, 'listening');
  await chmod(path, 0o600);
  server.unref();
  return server;
}

function serve(socket: Socket, run: Run): void {
  socket.on('error', () => socket.destroy());
  let bytes = 0;
  socket.on('data', (chunk: Buffer) => {
    bytes = chunk.includes(10) ? 0 : bytes + chunk.length;
    if (bytes > MAX_LINE_BYTES) socket.destroy();
  });
  const lines = createInterface({ input: socket });
  lines.on('error', () => {}); // the socket's, which is destroyed then; unheard it would end the host
  lines.on('line', async (line) => {
    const reply = await answer(line, run);
    if (!socket.destroyed) socket.write(`${JSON.stringify(reply)}\n`);
  });
}

async function answer(line: string, run: Run): Promise<object> {
  let id: unknown;
  try {
    const request = JSON.parse(line) as { id?: unknown; name?: unknown; argument?: unknown };
    id = request.id;
    if (typeof request.name !== 'string' || !COMMANDS.has(request.name)) throw new Error('unknown command');
    return { id, result: await run(request.name as CommandName, request.argument as never) };
  } catch (error) {
    return { id, error: (error as Error).message };
  }
}

/** Asks a running host one thing. @param socketPath the host's socket, as given to `postern host --socket` */
export async function askHost<N extends CommandName>(
  socketPath: string,
  name: N,
  argument: CommandMap[N]['argument'],
): Promise<CommandMap[N]['result']> {
  const socket = connect(`${socketPath}.control`);
  try {
    await once(socket, 'connect');
  } catch (error) {
    throw new UserError(
      `no host answers at ${socketPath} (${(error as NodeJS.ErrnoException).code}); ` +
        `start one with: postern host --socket ${socketPath}`,
    );
  }
  const lines = createInterface({ input: socket });
  const reply = once(lines, 'line') as Promise<[string]>;
  const ended = once(socket, 'close');
  ended.catch(() => {});
  socket.write(`${JSON.stringify({ id: 1, name, argument })}\n`);
  const [line] = await Promise.race([reply, ended.then(() => [])]).catch(() => []);
  socket.destroy();
  if (line === undefined) throw new UserError(`the host at ${socketPath} ended without an answer`);
  const answer = JSON.parse(line) as { result: never; error?: string };
  if (answer.error !== undefined) throw new UserError(answer.error);
  return answer.result;
}
