/** `postern exec`: an unmodified Xen program under an ephemeral host (or a running one). */
import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { Command } from 'commander';
import type { XenstoreMode } from '../host/commands.js';
import { askHost } from '../host/control.js';
import { Host } from '../host/host.js';
import { nativeLibrary, UserError } from '../host/native-library.js';
import { Interrupts } from './interrupts.js';
import { integer, planDomains, vcpuList, xenstoreOption } from './options.js';

interface ExecOptions {
  domains: number;
  memory: number;
  vcpus: number[];
  pv: number;
  trace?: string;
  xenstore: XenstoreMode;
  host?: string;
}

export function execCommand(): Command {
  return new Command('exec')
    .description('Run an unmodified Xen program with /dev/xen served by a host of its own; exits with its status.')
    .argument('<command...>', 'the program and its arguments, after --')
    .option('--domains <n>', 'HVM domains to make, domids 1 to n', integer(0, 1000), 1)
    .option('--memory <MiB>', 'memory of each domain', integer(1, 65536), 64)
    .option('--vcpus <list>', 'vCPUs of the HVM domains in order, such as 2,1', vcpuList, [1])
    .option('--pv <n>', 'PV domains to make after them', integer(0, 1000), 0)
    .option('--trace <file>', 'write every call to a file, one JSON object a line')
    .addOption(xenstoreOption())
    .option('--host <socket>', 'use a running host (postern host) instead; the options above do not apply')
    .passThroughOptions()
    .addHelpText(
      'after',
      `
Examples:
  postern exec -- ./nr-vcpus 1
  postern exec --domains 2 --vcpus 2,1 --pv 1 --trace calls.jsonl -- ./conformance
  postern exec --host /tmp/xen/host -- xenstore-ls`,
    )
    .action(async (command: string[], options: ExecOptions) => {
      process.exitCode = await exec(command, options);
    });
}

async function exec(command: string[], options: ExecOptions): Promise<number> {
  const library = await nativeLibrary();
  const interrupts = new Interrupts();
  try {
    if (options.host !== undefined) {
      await askHost(options.host, 'status', null);
      const xenstored = `${options.host}.xenstored`;
      const environment = { LD_PRELOAD: library, POSTERN_HOST: options.host, XENSTORED_PATH: xenstored };
      return await runProgram(command, environment, interrupts);
    }
    const host = await Host.start({
      domains: planDomains(options),
      xenstore: options.xenstore,
      ...(options.trace !== undefined && { tracePath: options.trace }),
    });
    try {
      return await runProgram(command, host.environment(library), interrupts);
    } finally {
      await host.close();
    }
  } finally {
    interrupts.release();
  }
}

/** Runs it to its end, with this process's standard streams. @returns its exit status, 128+n for a signal */
async function runProgram(
  [program, ...args]: string[],
  environment: Record<string, string>,
  interrupts: Interrupts,
): Promise<number> {
  if (interrupts.received !== undefined) return interrupts.status;
  const child = spawn(program as string, args, { stdio: 'inherit', env: { ...process.env, ...environment } });
  interrupts.onSignal = (signal) => child.kill(signal);
  return await new Promise((resolve, reject) => {
    child.on('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'ENOENT' ? 'there is no such program' : error.message;
      reject(new UserError(`cannot run ${program}: ${why}`));
    });
    child.on('exit', (code, signal) => resolve(signal ? 128 + constants.signals[signal] : (code ?? 1)));
  });
}
