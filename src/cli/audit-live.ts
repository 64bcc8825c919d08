/**
 * `postern audit --live`: the attacks that make sense on a live interface, made by a real process with its own restricted
 * privcmd, through the interposition library, against a running host or one started for it; and whether the host is as it
 * was. The domains that are attacked and that stand by are made for it and destroyed afterwards.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import type { CommandMap, CommandName, DomainPlan } from '../host/commands.js';
import { askHost } from '../host/control.js';
import { Host } from '../host/host.js';
import { nativeLibrary, nativeProgram, UserError } from '../host/native-library.js';
import { colors, print, printJson, say, table } from './output.js';

const ATTACKS = 'attacks/dm-op-attacks';
const ATTACKED: DomainPlan = { kind: 'hvm', memoryMiB: 16, vcpus: 2 };
const VICTIM: DomainPlan = { kind: 'hvm', memoryMiB: 16, vcpus: 1 };
const LIMIT_MS = 60_000;

export interface LiveResult {
  readonly id: string;
  readonly blocked: boolean;
  readonly reason: string;
}

/** A host to attack, ours or not. */
interface Target {
  command<N extends CommandName>(name: N, argument: CommandMap[N]['argument']): Promise<CommandMap[N]['result']>;
  environment(library: string): Record<string, string>;
  close(): Promise<void>;
}

async function targetAt(socketPath: string | undefined): Promise<Target> {
  if (socketPath === undefined) return Host.start();
  return {
    command: (name, argument) => askHost(socketPath, name, argument),
    environment: (library) => ({ LD_PRELOAD: library, POSTERN_HOST: socketPath }),
    close: async () => {},
  };
}

/**
 * @param socketPath a running host's socket; without one, a host is started
 * @returns whether every attack was stopped and the host is unharmed
 */
export async function auditLive(socketPath: string | undefined, json: boolean): Promise<boolean> {
  const [library, program] = await Promise.all([nativeLibrary(), nativeProgram(ATTACKS)]);
  const target = await targetAt(socketPath);
  const made: number[] = [];
  try {
    for (const plan of [ATTACKED, VICTIM]) made.push((await target.command('createDomain', plan)).domid);
    const [attacked, victim] = made as [number, number];
    const environment = target.environment(library);
    const before = await target.command('listDomains', null);
    const connections = await quietConnections(target);
    const ran = await run(program, [`${attacked}`, `${victim}`], environment);
    const results = parse(ran.output);
    if (results.length === 0) throw new UserError(`the attacks did not run:\n${ran.errors}`);
    const harm = ran.status > 1 ? [`the attacking program ended with status ${ran.status}`] : [];
    const after = await target.command('listDomains', null);
    if (JSON.stringify(after) !== JSON.stringify(before))
      harm.push(`the domains are not as they were: ${JSON.stringify(after)}`);
    const honest = await run(program, ['honest', `${victim}`], environment);
    if (honest.status !== 0) harm.push(`an honest device model is not served any more: ${honest.errors.trim()}`);
    const left = await quietConnections(target);
    if (left > connections) harm.push(`${left - connections} connections of programs that have ended are still there`);
    if (json) printJson({ live: results, harm });
    else show(results, harm);
    return harm.length === 0 && results.every(({ blocked }) => blocked);
  } finally {
    for (const domid of made) await target.command('destroyDomain', { domid });
    await target.close();
  }
}

/** How many connections there are once the host has noticed which have ended. */
async function quietConnections(target: Target): Promise<number> {
  await new Promise((resolve) => setTimeout(resolve, 100));
  return (await target.command('status', null)).connections;
}

interface Ran {
  readonly status: number;
  readonly output: string;
  readonly errors: string;
}

async function run(program: string, args: readonly string[], environment: Record<string, string>): Promise<Ran> {
  const env = { ...process.env, ...environment };
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
  const timer = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS);
  let output = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  clearTimeout(timer);
  return { status: code ?? 128, output, errors: signal ? `${errors}ended by ${signal}` : errors };
}

function parse(output: string): LiveResult[] {
  const lines = output.split('\n').filter((line) => line !== '');
  return lines.map((line) => {
    const [id = '', verdict = '', reason = ''] = line.split('\t');
    return { id, blocked: verdict === 'stopped', reason };
  });
}

function show(results: readonly LiveResult[], harm: readonly string[]): void {
  const rows = results.map(({ id, blocked, reason }) => [
    id,
    blocked ? colors.green('stopped') : colors.red('gets through'),
    reason,
  ]);
  print(table(['attack', '', ''], rows));
  for (const what of harm) say(`${colors.red('harm:')} ${what}`);
  const stopped = results.filter(({ blocked }) => blocked).length;
  print(
    `\n${stopped} of ${results.length} stopped; the host is ${harm.length === 0 ? 'unharmed' : colors.red('harmed')}`,
  );
}
