/** `postern xenstored`: the XenStore daemon. */
import { resolve } from 'node:path';
import { Command } from 'commander';
import { HANDOVER_VARIABLE, type XenstoredInfo, type XenstoredOptions } from '../daemons/xenstored/options.js';
import { defaultSocketPath } from '../daemons/xenstored/socket-path.js';
import { UserError } from '../host/native-library.js';
import { ReactorThread } from '../host/reactor-thread.js';
import { print, printJson, say } from './output.js';

interface Options {
  socket?: string;
  state?: string;
  sync?: true;
  host?: string;
  allowRestrict?: true;
  trace?: string;
  json?: true;
}

const WORKER = new URL('../daemons/xenstored/xenstored-worker.js', import.meta.url);
const FROM = { nothing: 'a fresh store', state: 'restored', handover: 'taken over' } as const;

export function xenstoredCommand(): Command {
  return new Command('xenstored')
    .description('Run the XenStore daemon until it is ended; unmodified libxenstore programs connect to it.')
    .option('--socket <path>', 'where clients connect (default: where libxenstore looks, /run/xenstored/socket)')
    .option(
      '--state <file>',
      'keep the store in this file and its journal: nothing acknowledged is lost, even by kill -9',
    )
    .option('--sync', 'with --state: wait for the disk before every reply, against the end of the whole machine')
    .option('--host <socket>', "serve a running host's kernel and domains too (postern host --xenstore external)")
    .option('--allow-restrict', 'serve RESTRICT, by which a client becomes an unprivileged one for good')
    .option('--trace <file>', 'add every message and denial to a file, one JSON object a line')
    .option('--json', 'print one JSON object when it serves')
    .addHelpText(
      'after',
      `
Examples:
  postern xenstored --socket /tmp/xs/socket --state /tmp/xs/state
  XENSTORED_PATH=/tmp/xs/socket xenstore-ls
  kill -HUP PID                                          a live update

Live update: on SIGHUP, or by xenstore-control live-update FILE, the process becomes the program that is on the disk now
(or FILE). Its process id and its clients' connections, watches and transactions stay.`,
    )
    .action(serve);
}

async function serve(options: Options): Promise<void> {
  const data = daemonOptions(options);
  // Everything it makes is its user's alone.
  process.umask(0o077);
  const daemon = await ReactorThread.start<XenstoredInfo>(WORKER, data, {
    shortPauses: true,
    onLog: (line) => say(`postern: ${line}`),
  });
  const end = (): void => void daemon.stop();
  const update = (): void =>
    void daemon.command('live-update').catch((e: Error) => say(`postern: no live update: ${e.message}`));
  process.on('SIGINT', end).on('SIGTERM', end).on('SIGHUP', update);
  announce(options, data, daemon.info);
  const error = await daemon.ended;
  process.off('SIGINT', end).off('SIGTERM', end).off('SIGHUP', update);
  if (error === undefined) return;
  // The machine's fault, such as a full disk: nobody was told of what could not be kept.
  if ('syscall' in error) throw new UserError(`the daemon has ended: ${error.message}; what was acknowledged is kept`);
  throw error;
}

function daemonOptions(options: Options): XenstoredOptions {
  const handover = process.env[HANDOVER_VARIABLE];
  delete process.env[HANDOVER_VARIABLE];
  const [script = '', ...args] = process.argv.slice(1);
  return {
    socketPath: resolve(options.socket ?? defaultSocketPath(process.env)),
    ...(options.state !== undefined && { statePath: resolve(options.state) }),
    ...(options.sync && { sync: true }),
    ...(options.host !== undefined && { hostSocket: resolve(options.host) }),
    ...(options.allowRestrict && { allowRestrict: true }),
    ...(options.trace !== undefined && { tracePath: resolve(options.trace) }),
    ...(handover !== undefined && /^\d+$/.test(handover) && { handover: Number(handover) }),
    program: { node: process.execPath, nodeArguments: process.execArgv, script, arguments: args },
  };
}

function announce(options: Options, { socketPath, statePath }: XenstoredOptions, info: XenstoredInfo): void {
  if (options.json) {
    printJson({ socket: socketPath, state: statePath ?? null, pid: process.pid, ...info });
    return;
  }
  const clients = info.from === 'handover' ? `, ${info.connections} connections` : '';
  print(`XenStore is up: ${socketPath} (${FROM[info.from]}, ${info.nodes} nodes${clients})`);
  print(statePath === undefined ? 'the store ends with the daemon; --state FILE keeps it' : `state: ${statePath}`);
  for (const note of info.notes) print(`note: ${note}`);
  print(`export XENSTORED_PATH=${socketPath}`);
}
