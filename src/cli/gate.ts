/** `postern gate`: a device model's own, restricted way into XenStore; and what its policies say. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import { COUNTS, type GateCounts, type GateDaemonInfo, type GateDaemonOptions } from '../daemons/gate/options.js';
import { UserError } from '../host/native-library.js';
import { ReactorThread } from '../host/reactor-thread.js';
import { BoundPolicy } from '../xenstore/gate/bound-policy.js';
import { BUILTIN_POLICIES, builtinPolicy, DEFAULT_POLICY } from '../xenstore/gate/builtin.js';
import { explainPath, type PathExplanation } from '../xenstore/gate/explain.js';
import { checkPolicy, type Policy, PolicyError } from '../xenstore/gate/policy.js';
import { Interrupts, unlessAborted } from './interrupts.js';
import { integer, octalMode } from './options.js';
import { colors, print, printJson, table } from './output.js';

interface GateOptions {
  domid: number;
  dmDomid: number;
  socket?: string;
  upstream?: string;
  host?: string;
  policy: string;
  trace?: string;
  mode: number;
  uid?: number;
  gid?: number;
  json?: true;
  explain?: string;
  list?: true;
  show?: true;
}

const MAX_DOMID = 0x7fef;
const MAX_ID = 2 ** 32 - 2;

export function gateCommand(): Command {
  return new Command('gate')
    .description(
      "Let one device model into XenStore as far as a policy goes: a socket of its own, in libxenstore's way.",
    )
    .option('--domid <n>', "the guest's number", integer(0, MAX_DOMID), 1)
    .option('--dm-domid <n>', 'the domain that the device model runs in', integer(0, MAX_DOMID), 0)
    .option('--socket <path>', "the device model's XENSTORED_PATH: made, and removed at the end")
    .option('--upstream <path>', "a daemon's socket or /dev/xen/xenbus (default: what libxenstore would take)")
    .option('--host <socket>', 'upstream is /dev/xen/xenbus of a running host (postern host)')
    .option('--policy <name|file>', 'a built-in policy, or a JSON file', DEFAULT_POLICY)
    .option('--trace <file>', 'add every decision to a file, one JSON object a line')
    .addOption(new Option('--mode <octal>', "the socket's mode").argParser(octalMode).default(0o600, '600'))
    .option('--uid <n>', "the socket's owner", integer(0, MAX_ID))
    .option('--gid <n>', "the socket's group", integer(0, MAX_ID))
    .option('--explain <path>', 'say what the policy lets the device model do at a path, and by which rule')
    .option('--list', 'list the built-in policies')
    .option('--show', 'print the policy as JSON: a start for one of your own')
    .option('--json', 'JSON instead of text: with --explain, --list; else one object at the start and one at the end')
    .addHelpText(
      'after',
      `
Examples:
  postern gate --domid 3 --socket /run/postern/dm-3 --uid 65539
  postern gate --domid 3 --socket /run/postern/dm-3 --upstream /dev/xen/xenbus --trace gate.jsonl
  postern gate --explain backend/console/3 --domid 3
  postern gate --show > mine.json;  postern gate --policy mine.json --explain /local/domain/3/name --domid 3`,
    )
    .action(gate);
}

async function gate(options: GateOptions): Promise<void> {
  if (options.list) return listPolicies(options);
  const policy = await loadPolicy(options.policy);
  if (options.show) return print(JSON.stringify(policy, null, 2));
  if (options.explain !== undefined) return explain(options, policy, options.explain);
  if (options.socket === undefined) throw new UserError('--socket is needed (or --explain, --list, --show)');
  await serve(options, policy, resolve(options.socket));
}

async function loadPolicy(nameOrFile: string): Promise<Policy> {
  const builtin = builtinPolicy(nameOrFile);
  if (builtin !== undefined) return builtin;
  const known = BUILTIN_POLICIES.map(({ name }) => name).join(', ');
  let text: string;
  try {
    text = await readFile(nameOrFile, 'utf8');
  } catch (error) {
    throw new UserError(`no policy ${nameOrFile}: none of ${known}, and ${(error as Error).message}`);
  }
  try {
    return checkPolicy(JSON.parse(text));
  } catch (error) {
    if (error instanceof PolicyError || error instanceof SyntaxError) {
      throw new UserError(`${nameOrFile}: ${error.message}`);
    }
    throw error;
  }
}

async function serve(options: GateOptions, policy: Policy, path: string): Promise<void> {
  const { domid, dmDomid, mode, uid, gid, host, trace, json } = options;
  const upstream = options.upstream ?? defaultUpstream();
  const data: GateDaemonOptions = {
    domid,
    dm: dmDomid,
    path,
    mode,
    upstream,
    policy,
    ...(uid !== undefined && { uid }),
    ...(gid !== undefined && { gid }),
    ...(host !== undefined && { host: resolve(host) }),
    ...(trace !== undefined && { trace: resolve(trace) }),
  };
  const interrupts = new Interrupts();
  try {
    const daemon = await ReactorThread.start<GateDaemonInfo>(
      new URL('../daemons/gate/gate-worker.js', import.meta.url),
      data,
      { shortPauses: true },
    );
    try {
      const where = host === undefined ? upstream : `/dev/xen/xenbus of ${host}`;
      if (json) printJson({ socket: path, domid, policy: policy.name, upstream: where });
      else print(`gate is up: ${path} (domain ${domid}, policy ${policy.name}, upstream ${where})`);
      const ended = daemon.ended.then((error) => {
        throw error ?? new Error('the gate has ended');
      });
      await unlessAborted(interrupts.signal, ended).catch((error: unknown) => {
        if (!interrupts.signal.aborted) throw error;
      });
      const counts = (await daemon.command(COUNTS)) as GateCounts;
      if (json) printJson(counts);
      else printCounts(counts);
    } finally {
      await daemon.stop();
    }
  } finally {
    interrupts.release();
  }
}

/** As libxenstore looks for it. */
function defaultUpstream(): string {
  const socket = process.env.XENSTORED_PATH ?? `${process.env.XENSTORED_RUNDIR ?? '/run/xenstored'}/socket`;
  return existsSync(socket) || !existsSync('/dev/xen/xenbus') ? socket : '/dev/xen/xenbus';
}

function printCounts(counts: GateCounts): void {
  print(
    `${counts.granted} requests granted, ${counts.denied} denied; ${counts.events} events, ${counts.hidden} kept back`,
  );
  const denied = Object.entries(counts.denials).map(([code, n]) => [code, String(n)]);
  if (denied.length > 0) print(table(['denied', 'count'], denied));
}

function listPolicies({ json }: GateOptions): void {
  const rows = BUILTIN_POLICIES.map(({ name, description, grants }) => ({ name, description, grants: grants.length }));
  if (json) return printJson(rows);
  print(
    table(
      ['policy', 'rules', 'what for'],
      rows.map((row) => [row.name, String(row.grants), row.description]),
    ),
  );
}

function explain(options: GateOptions, policy: Policy, path: string): void {
  const bound = new BoundPolicy(policy, { domid: options.domid, dm: options.dmDomid });
  const explanation = explainPath(bound, path);
  if (explanation === undefined) throw new UserError(`${JSON.stringify(path)} is no path: a client gets EINVAL`);
  if (options.json) return printJson(explanation);
  printExplanation(explanation);
}

function printExplanation({ path, policy, domid, dm, rights, above, never }: PathExplanation): void {
  print(
    `${colors.bold(path)}\nfor the device model of domain ${domid}, which runs in domain ${dm}; policy ${policy}\n`,
  );
  for (const { right, allows, by } of rights) {
    if (by.length === 0)
      print(`${colors.red('✗')} ${right.padEnd(7)} EACCES: no rule grants it ${colors.dim(`(${allows})`)}`);
    else print(`${colors.green('✓')} ${right.padEnd(7)} ${colors.dim(`(${allows})`)}`);
    for (const { grant, pattern, why, permissions } of by) {
      const lists = right === 'perms' ? `; permissions ${permissions.join(' or ')}` : '';
      const below = right === 'create' ? `; where ${above} is there` : '';
      print(
        `          rule ${grant + 1}: ${pattern}${lists}${below}${why === '' ? '' : `\n          ${colors.dim(why)}`}`,
      );
    }
  }
  print(`\nnever, by any policy: ${never.join(', ')}`);
}
