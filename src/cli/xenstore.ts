/** `postern xenstore`: the store from the command line, with the look of Xen's xenstore-* tools. */
import { Command } from 'commander';
import { UserError } from '../host/native-library.js';
import { XenStore, XenStoreError } from '../sdk/xenstore.js';
import { integer } from './options.js';
import { print, printJson, say } from './output.js';
import { changePermissions, parseModes, removeNode } from './xenstore-changes.js';
import { lsJson, lsLines } from './xenstore-ls.js';
import { escapeValue, jsonValue, unescapeValue } from './xenstore-values.js';

/** What every command of the group takes. */
interface Where {
  readonly socket?: string;
  readonly host?: string;
  readonly json?: true;
}

/** As xenstore-control: the server refused the command. */
const STATUS_REFUSED = 3;

const HELP = `
Without --socket and --host the store is found as the C tools find it: XENSTORED_PATH, XENSTORED_RUNDIR/socket,
/run/xenstored/socket, /dev/xen/xenbus.

Examples:
  postern xenstore ls -p /local/domain/1 --host /tmp/xen/host
  postern xenstore write /tool/a 1 /tool/b 'two\\nlines'     both or neither
  postern xenstore read -p /tool/a /tool/b
  postern xenstore watch -n 2 /local/domain --json
  postern xenstore chmod -r /local/domain/1/data n1 r0
  postern xenstore control quota`;

export function xenstoreCommand(): Command {
  const group = new Command('xenstore').description('Read, change and watch a XenStore.').addHelpText('after', HELP);
  for (const make of [ls, read, write, list, exists, mkdir, rm, chmod, watch, control]) {
    group.addCommand(
      make()
        .option('--socket <path>', "the daemon's or a gate's socket, or the xenbus device")
        .option('--host <socket>', "a running host's store (postern host)")
        .option('--json', 'print JSON, one object a line'),
    );
  }
  return group;
}

async function withStore(where: Where, use: (store: XenStore) => Promise<void>): Promise<void> {
  if (where.socket !== undefined && where.host !== undefined) throw new UserError('give --socket or --host, not both');
  try {
    const store = await XenStore.connect({ path: where.socket, host: where.host });
    try {
      await use(store);
    } finally {
      store.close();
    }
  } catch (error) {
    if (!(error instanceof XenStoreError)) throw error;
    throw new UserError(error.code === 'ENOTCONN' ? `${error.message}\n${ADVICE}` : error.message);
  }
}

const ADVICE =
  'Start a daemon (postern xenstored --socket PATH, or postern host --socket PATH), or say where one is: ' +
  '--socket PATH, --host SOCKET or XENSTORED_PATH.';

function ls(): Command {
  return new Command('ls')
    .description('Show the tree below a node.')
    .argument('[path...]', 'nodes to begin at', ['/'])
    .option('-f, --flat', 'whole paths, nothing cut off')
    .option('-p, --permissions', 'permissions too')
    .action((paths: string[], options: Where & { flat?: true; permissions?: true }) =>
      withStore(options, async (store) => {
        const { flat = false, permissions = false } = options;
        const { columns } = process.stdout;
        for (const path of paths) {
          if (options.json) printJson(await lsJson(store, path));
          else for await (const line of lsLines(store, path, { flat, permissions, columns })) print(line);
        }
      }),
    );
}

function read(): Command {
  return new Command('read')
    .description('Print values; several are read in one transaction.')
    .argument('<key...>', 'nodes')
    .option('-p, --prefix', 'with the path before each value')
    .option('-R, --raw', 'the bytes as they are')
    .action((keys: string[], options: Where & { prefix?: true; raw?: true }) =>
      withStore(options, async (store) => {
        let output: Uint8Array[] = [];
        const readAll = async (from: Pick<XenStore, 'readBytes'>): Promise<void> => {
          output = [];
          for (const key of keys) output.push(shown(key, await from.readBytes(key), options));
        };
        try {
          await (keys.length === 1 ? readAll(store) : store.transaction(readAll));
        } finally {
          process.stdout.write(Buffer.concat(output)); // also what came before a failure, as xenstore-read does
        }
      }),
    );
}

function shown(key: string, value: Uint8Array, options: { json?: true; prefix?: true; raw?: true }): Uint8Array {
  if (options.json) return Buffer.from(`${JSON.stringify({ path: key, ...jsonValue(value) })}\n`);
  const prefix = options.prefix ? `${key}: ` : '';
  return options.raw ? Buffer.concat([Buffer.from(prefix), value]) : Buffer.from(`${prefix}${escapeValue(value)}\n`);
}

function write(): Command {
  return new Command('write')
    .description('Set values; several are set in one transaction.')
    .argument('<key-value...>', 'node and value, in pairs; \\n, \\t, \\r, \\xHH and \\OOO stand for bytes')
    .option('-R, --raw', 'values as they are, without escapes')
    .action((words: string[], options: Where & { raw?: true }, command: Command) => {
      if (words.length % 2 === 1) command.error(`error: no value for ${words.at(-1)}: keys and values come in pairs`);
      return withStore(options, async (store) => {
        const writeAll = async (to: Pick<XenStore, 'write'>): Promise<void> => {
          for (let i = 0; i < words.length; i += 2) {
            const value = words[i + 1] as string;
            await to.write(words[i] as string, options.raw ? value : unescapeValue(value));
          }
        };
        await (words.length === 2 ? writeAll(store) : store.transaction(writeAll));
        if (options.json) printJson({ written: words.filter((_, i) => i % 2 === 0) });
      });
    });
}

function list(): Command {
  return new Command('list')
    .description('Print the names of the nodes right below a node.')
    .argument('<key...>', 'nodes')
    .option('-p, --prefix', 'with the path before each name')
    .action((keys: string[], options: Where & { prefix?: true }) =>
      withStore(options, async (store) => {
        let lines: string[] = [];
        try {
          await store.transaction(async (tx) => {
            lines = [];
            for (const key of keys) {
              const names = await tx.list(key);
              if (options.json) lines.push(JSON.stringify({ path: key, children: names }));
              else lines.push(...names.map((name) => (options.prefix ? `${key}/${name}` : name)));
            }
          });
        } finally {
          for (const line of lines) print(line);
        }
      }),
    );
}

function exists(): Command {
  return new Command('exists')
    .description('Exit with 0 if all nodes exist, else with 1.')
    .argument('<key...>', 'nodes')
    .action((keys: string[], options: Where) =>
      withStore(options, async (store) => {
        const found = await store.transaction((tx) => Promise.all(keys.map((key) => tx.exists(key))));
        for (const [i, key] of keys.entries()) if (options.json) printJson({ path: key, exists: found[i] });
        if (found.includes(false)) process.exitCode = 1;
      }),
    );
}

function mkdir(): Command {
  return new Command('mkdir')
    .description('Make empty nodes, in one transaction; those that exist stay as they are.')
    .argument('<key...>', 'nodes')
    .action((keys: string[], options: Where) =>
      withStore(options, async (store) => {
        await store.transaction(async (tx) => {
          for (const key of keys) await tx.mkdir(key);
        });
        if (options.json) printJson({ made: keys });
      }),
    );
}

function rm(): Command {
  return new Command('rm')
    .description('Remove nodes with all below them, in one transaction.')
    .argument('<key...>', 'nodes')
    .option('-t, --tidy', 'also the nodes above that are left empty')
    .action((keys: string[], options: Where & { tidy?: true }) =>
      withStore(options, async (store) => {
        await store.transaction(async (tx) => {
          for (const key of keys) await removeNode(tx, key, options.tidy ?? false);
        });
        if (options.json) printJson({ removed: keys });
      }),
    );
}

function chmod(): Command {
  return new Command('chmod')
    .description("Set a node's permissions, in one transaction.")
    .argument('<key>', 'the node')
    .argument('<mode...>', 'n, r, w or b (none, read, write, both) and a domid: first the owner and what others may')
    .option('-r, --recurse', 'also of all nodes below')
    .option('-u, --upto', 'also of all nodes above')
    .action((key: string, modes: string[], options: Where & { recurse?: true; upto?: true }, command: Command) => {
      const permissions = parseModes(modes);
      if (permissions === undefined) {
        return command.error(`error: '${modes.join(' ')}': a mode is n, r, w or b and a domid, such as r1`);
      }
      return withStore(options, async (store) => {
        const how = { upto: options.upto ?? false, recurse: options.recurse ?? false };
        await store.transaction((tx) => changePermissions(tx, key, permissions, how));
        if (options.json) printJson({ path: key, permissions: modes });
      });
    });
}

function watch(): Command {
  return new Command('watch')
    .description(
      'Print the path of each change of the nodes and of what is below them; once for each node at the start.',
    )
    .argument('<key...>', 'nodes, @introduceDomain, @releaseDomain')
    .option('-n, --number <n>', 'end after so many events', integer(0, 2 ** 31 - 1))
    .option('-d, --depth <n>', 'levels below the nodes that count', integer(0, 999_999_999))
    .action((keys: string[], options: Where & { number?: number; depth?: number }) =>
      withStore(options, async (store) => {
        let left = options.number ?? Number.POSITIVE_INFINITY;
        if (left === 0) return;
        const { depth } = options;
        const follow = async (key: string): Promise<void> => {
          for await (const { path } of store.watch(key, { ...(depth !== undefined && { depth }) })) {
            if (left <= 0) return;
            if (options.json) printJson({ watched: key, path });
            else print(path);
            if (--left <= 0) return store.close();
          }
        };
        await Promise.all(keys.map(follow));
      }),
    );
}

function control(): Command {
  return new Command('control')
    .description("An administrator's command to the daemon; `help` lists them.")
    .argument('<command>', 'the command')
    .argument('[parameter...]', 'its parameters')
    .action((name: string, parameters: string[], options: Where) =>
      withStore(options, async (store) => {
        try {
          const reply = await store.control(name, parameters);
          if (options.json) printJson({ reply });
          else if (reply !== '') print(reply);
        } catch (error) {
          if (!(error instanceof XenStoreError) || error.code === 'ECONNRESET') throw error;
          say(`postern: ${error.message}`);
          if (error.code === 'EINVAL') say(`The daemon's commands:\n${await store.control('help')}`);
          process.exitCode = STATUS_REFUSED;
        }
      }),
    );
}
