/** `postern host`: a long-running host that other commands and programs use. */
import { once } from 'node:events';
import { access, mkdir, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { Command } from 'commander';
import type { XenstoreMode } from '../host/commands.js';
import { askHost } from '../host/control.js';
import { Host } from '../host/host.js';
import { nativeLibrary, UserError } from '../host/native-library.js';
import { Interrupts } from './interrupts.js';
import { integer, planDomains, vcpuList, xenstoreOption } from './options.js';
import { print, say } from './output.js';

interface HostOptions {
  socket: string;
  domains: number;
  memory: number;
  vcpus: number[];
  trace?: string;
  xenstore: XenstoreMode;
}

export function hostCommand(): Command {
  return new Command('host')
    .description('Run a host until it is ended; programs and the other commands connect to it.')
    .requiredOption('--socket <path>', 'where clients connect')
    .option('--domains <n>', 'HVM domains to begin with', integer(0, 1000), 0)
    .option('--memory <MiB>', 'memory of each of them', integer(1, 65536), 64)
    .option('--vcpus <list>', 'vCPUs of each of them in order, such as 2,1', vcpuList, [1])
    .option('--trace <file>', 'write every call to a file, one JSON object a line')
    .addOption(xenstoreOption())
    .addHelpText(
      'after',
      `
Examples:
  postern host --socket /tmp/xen/host --domains 1
  postern exec --host /tmp/xen/host -- ./my-device-model 1
  postern domain list --host /tmp/xen/host`,
    )
    .action(serve);
}

async function serve(options: HostOptions): Promise<void> {
  const interrupts = new Interrupts();
  try {
    await serveUntil(interrupts.signal, options);
  } finally {
    interrupts.release();
  }
}

async function serveUntil(signal: AbortSignal, options: HostOptions): Promise<void> {
  const socketPath = resolve(options.socket);
  await mkdir(dirname(socketPath), { recursive: true });
  await refuseIfTaken(socketPath);
  const host = await Host.start({
    socketPath,
    domains: planDomains(options),
    xenstore: options.xenstore,
    onLog: (line) => say(`xenstore: ${line}`),
    ...(options.trace !== undefined && { tracePath: options.trace }),
  });
  print(`host is up: ${socketPath}`);
  const library = await nativeLibrary().catch((error: Error) => void say(`postern: ${error.message}`));
  if (library) {
    for (const [name, value] of Object.entries(host.environment(library))) print(`export ${name}=${value}`);
  }
  if (!signal.aborted) await once(signal, 'abort');
  await host.close();
}

/** A socket that is left over from a host that was killed is taken over; one that answers is not. */
async function refuseIfTaken(socketPath: string): Promise<void> {
  try {
    await access(socketPath);
  } catch {
    return;
  }
  const answers = await askHost(socketPath, 'status', null).then(
    () => true,
    () => false,
  );
  if (answers) throw new UserError(`a host is running at ${socketPath} already`);
  for (const path of [socketPath, `${socketPath}.control`, `${socketPath}.xenstored`]) await rm(path, { force: true });
}
