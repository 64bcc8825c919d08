/**
 * `postern audit --live`: the attacks that make sense on a live interface, made by a real process with its own restricted
 * privcmd, through the interposition library, against a host started for it; and whether the host is as it was.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { Host } from '../host/host.js';
import { nativeLibrary, nativeProgram, UserError } from '../host/native-library.js';
import { colors, print, printJson, say, table } from './output.js';

const ATTACKS = 'attacks/dm-op-attacks';
const ATTACKED = 1;
const VICTIM = 2;
const LIMIT_MS = 60_000;

export interface LiveResult {
  readonly id: string;
  readonly blocked: boolean;
  readonly reason: string;
}

/** @returns whether every attack was stopped and the host is unharmed */
export async function auditLive(json: boolean): Promise<boolean> {
  const [library, program] = await Promise.all([nativeLibrary(), nativeProgram(ATTACKS)]);
  const host = await Host.start({
    domains: [
      { kind: 'hvm', memoryMiB: 16, vcpus: 2 },
      { kind: 'hvm', memoryMiB: 16, vcpus: 1 },
    ],
  });
  try {
    const environment = host.environment(library);
    const before = await host.command('listDomains', null);
    const attacked = await run(program, [`${ATTACKED}`, `${VICTIM}`], environment);
    const results = parse(attacked.output);
    if (results.length === 0) throw new UserError(`the attacks did not run:\n${attacked.errors}`);
    const harm = await harmDone(host, program, environment, before, attacked.status);
    if (json) printJson({ live: results, harm });
    else show(results, harm);
    return harm.length === 0 && results.every(({ blocked }) => blocked);
  } finally {
    await host.close();
  }
}

async function harmDone(
  host: Host,
  program: string,
  environment: Record<string, string>,
  before: unknown,
  status: number,
): Promise<string[]> {
  const harm: string[] = [];
  if (status !== 0 && status !== 1) harm.push(`the attacking program ended with status ${status}`);
  const after = await host.command('listDomains', null);
  if (JSON.stringify(after) !== JSON.stringify(before))
    harm.push(`the domains are not as they were: ${JSON.stringify(after)}`);
  const honest = await run(program, ['honest', `${VICTIM}`], environment);
  if (honest.status !== 0) harm.push(`an honest device model is not served any more: ${honest.errors.trim()}`);
  const open = await host.command('openFiles', null);
  if (open.length > 0) harm.push(`${open.length} files of programs that have ended are still open`);
  return harm;
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
