/** `postern io`: plays a guest's I/O accesses to the device model of a domain. */
import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { Command } from 'commander';
import { askHost } from '../host/control.js';
import { UserError } from '../host/native-library.js';
import { integer } from './options.js';
import { print } from './output.js';

interface IoOptions {
  host: string;
  domid: number;
  vcpu: number;
  json?: true;
}

export function ioCommand(): Command {
  return new Command('io')
    .description("Play port, MMIO and PCI configuration accesses to a domain's device model, and print the answers.")
    .argument('[script]', 'a file of accesses; standard input without it, or with -', '-')
    .requiredOption('--host <socket>', "the host's socket")
    .option('--domid <n>', 'the domain', integer(1, 0x7fef), 1)
    .option('--vcpu <n>', 'the vCPU that makes the accesses', integer(0, 127), 0)
    .option('--json', 'print one JSON object a line')
    .addHelpText(
      'after',
      `
Examples:
  echo 'inb 0x3fd' | postern io --host /tmp/xen/host
  postern io --host /tmp/xen/host --domid 2 probe.io --json
The script language is described in docs/io-player.md.`,
    )
    .action(async (file: string, options: IoOptions) => {
      const script = file === '-' ? await text(process.stdin) : await read(file);
      const { domid, vcpu } = options;
      const result = await askHost(options.host, 'io', { domid, vcpu, script, json: options.json === true });
      for (const line of result.lines) print(line);
      if (result.error !== undefined) throw new UserError(result.error);
      if (result.failures > 0) process.exitCode = 1;
    });
}

async function read(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new UserError(`cannot read the script ${file}: ${(error as Error).message}`);
  }
}
