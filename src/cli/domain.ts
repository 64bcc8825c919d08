/** `postern domain`: the domains of a running host. */
import { Command } from 'commander';
import { askHost } from '../host/control.js';
import { integer } from './options.js';
import { print, printJson, table } from './output.js';

const domid = integer(1, 0x7fef);

function onHost(command: Command): Command {
  return command.requiredOption('--host <socket>', "the host's socket");
}

export function domainCommand(): Command {
  const command = new Command('domain').description('Make, list and end domains of a running host.').addHelpText(
    'after',
    `
Examples:
  postern domain create --host /tmp/xen/host --memory 128 --vcpus 2
  postern domain list --host /tmp/xen/host --json
  postern domain destroy 1 --host /tmp/xen/host`,
  );
  onHost(command.command('create').description('Make a paused domain and print its domid.'))
    .option('--memory <MiB>', 'its memory', integer(1, 65536), 64)
    .option('--vcpus <n>', 'its vCPUs', integer(1, 128), 1)
    .option('--pv', 'a PV domain instead of an HVM one')
    .option('--json', 'print one JSON object')
    .action(async (options: { host: string; memory: number; vcpus: number; pv?: true; json?: true }) => {
      const { memory: memoryMiB, vcpus, pv } = options;
      const plan = { kind: pv ? 'pv' : 'hvm', memoryMiB, vcpus, introduced: true } as const;
      const result = await askHost(options.host, 'createDomain', plan);
      if (options.json) printJson(result);
      else print(String(result.domid));
    });
  onHost(command.command('list').description('List the domains.'))
    .option('--json', 'print one JSON array')
    .action(async (options: { host: string; json?: true }) => {
      const rows = await askHost(options.host, 'listDomains', null);
      if (options.json) return printJson(rows);
      const cells = rows.map((row) => [
        String(row.domid),
        row.kind,
        `${row.memoryMiB} MiB`,
        String(row.vcpus),
        row.state,
      ]);
      print(table(['domid', 'kind', 'memory', 'vcpus', 'state'], cells));
    });
  const actions = [
    ['pause', 'Pause a domain.', 'pauseDomain'],
    ['unpause', 'Let a domain run.', 'unpauseDomain'],
    ['destroy', 'End a domain; its domid inherits nothing.', 'destroyDomain'],
  ] as const;
  for (const [name, description, request] of actions) {
    onHost(command.command(name).description(description))
      .argument('<domid>', 'the domain', domid)
      .action(async (id: number, options: { host: string }) => {
        await askHost(options.host, request, { domid: id });
      });
  }
  return command;
}
