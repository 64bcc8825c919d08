#!/usr/bin/env node
/** The command line. Each command has a file; this one puts them together and turns failures into messages. */
import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { SystemError } from '../host/libc.js';
import { UserError } from '../host/native-library.js';
import { colors, say } from './output.js';

const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  version: string;
};

/** Exit statuses beside a command's own: the command line was wrong; something failed. */
const STATUS_FAILURE = 1;

/** Loaded when it is asked for: what all of them need together takes longer to load than most take to run. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  run: async () => (await import('./run.js')).runCommand(),
  exec: async () => (await import('./exec.js')).execCommand(),
  host: async () => (await import('./host.js')).hostCommand(),
  domain: async () => (await import('./domain.js')).domainCommand(),
  io: async () => (await import('./io.js')).ioCommand(),
  xenstore: async () => (await import('./xenstore.js')).xenstoreCommand(),
  xenstored: async () => (await import('./xenstored.js')).xenstoredCommand(),
  gate: async () => (await import('./gate.js')).gateCommand(),
  support: async () => (await import('./support.js')).supportCommand(),
  audit: async () => (await import('./audit.js')).auditCommand(),
};

const program = new Command('postern')
  .description('A Xen host for device models: run, restrict and trace them on any Linux machine.')
  .version(version)
  .enablePositionalOptions()
  .addHelpText(
    'after',
    `
Examples:
  postern run                                  a restricted QEMU on a fresh domain, until Ctrl-C
  postern run --device-model builtin --seconds 5 --json
  postern exec --domains 1 -- ./my-device-model 1
  postern host --socket /tmp/xen/host &  postern domain list --host /tmp/xen/host
  postern xenstored --socket /tmp/xs &  postern xenstore ls -p --socket /tmp/xs
  postern gate --domid 3 --socket /run/dm-3    before the XenStore of this machine, for one device model`,
  );

const asked = process.argv[2];
const wanted = asked !== undefined && Object.hasOwn(COMMANDS, asked) ? [asked] : Object.keys(COMMANDS);
for (const name of wanted) program.addCommand(await (COMMANDS[name] as () => Promise<Command>)());

// Whoever reads our output may stop reading: `postern support | head`.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

// Settings are not handed down to commands that are put together elsewhere.
function explainErrors(command: Command): void {
  command.showHelpAfterError('(see --help for usage and examples)');
  for (const each of command.commands) explainErrors(each);
}
explainErrors(program);

try {
  await program.parseAsync();
} catch (error) {
  const isKnown = error instanceof UserError || error instanceof SystemError;
  say(`${colors.red('postern:')} ${isKnown ? error.message : (error as Error).stack}`);
  process.exitCode = STATUS_FAILURE;
}
