/** CONTROL command|[parameter|]*: the administrator's commands, each a file's worth or less. @spec xen:docs/misc/xenstore.txt CONTROL */
import { XS_CONTROL } from '../../abi/xen/xs-wire.js';
import { controlUpdate } from '../live-update.js';
import { memoryReport } from '../memory-report.js';
import { QUOTAS, SOFT_QUOTAS } from '../quotas.js';
import { atoi, type Outcome, type Request } from '../request.js';
import type { Operation } from './operation.js';

interface Command {
  readonly parameters: string;
  run(request: Request, parameters: readonly string[]): Outcome;
}

const COMMANDS: Readonly<Record<string, Command>> = {
  check: { parameters: '', run: check },
  'live-update': { parameters: '-f <file>|-c <arguments>|-s [-t <sec>] [-F]|-a', run: liveUpdate },
  log: { parameters: 'on|off', run: log },
  memreport: { parameters: '[<file>]', run: memreport },
  print: { parameters: '<string>', run: print },
  quota: { parameters: '[set <name> <val>|<domid>]', run: quota },
  'quota-soft': { parameters: '[set <name> <val>]', run: quotaSoft },
  help: { parameters: '', run: help },
};

export const control: Operation = {
  type: XS_CONTROL,
  name: 'CONTROL',
  support: 'partial',
  note: 'check, live-update (of a daemon), log, memreport, print, quota, quota-soft, help; not logfile',
  privileged: true,
  run(request: Request): Outcome {
    const [name, ...parameters] = request.texts(request.countStrings());
    if (name === undefined || !Object.hasOwn(COMMANDS, name)) return 'EINVAL';
    return (COMMANDS[name] as Command).run(request, parameters);
  },
};

function check(request: Request, parameters: readonly string[]): Outcome {
  if (parameters.length > 0) return 'EINVAL';
  const { server } = request;
  const problems = server.check();
  server.host.log?.(`Checked ${server.store.table.size} nodes, ${problems.length} problems`);
  for (const problem of problems) server.host.log?.(`check: ${problem}`);
  return problems.length > 0 ? 'EIO' : request.ok();
}

function liveUpdate(request: Request, parameters: readonly string[]): Outcome {
  const answer = controlUpdate(request.server, request.connection, request.requestId, parameters);
  if (answer === undefined) return 'EINVAL';
  return answer === null ? null : request.replyText(`${answer}\0`);
}

function log(request: Request, parameters: readonly string[]): Outcome {
  const [state] = parameters;
  if (parameters.length !== 1 || (state !== 'on' && state !== 'off')) return 'EINVAL';
  request.server.tracing = state === 'on';
  return request.ok();
}

function memreport(request: Request, parameters: readonly string[]): Outcome {
  if (parameters.length > 1) return 'EINVAL';
  const { server } = request;
  // C xenstored's EBADF has no name on the wire, so its clients see EINVAL.
  return server.host.report?.(memoryReport(server), parameters[0] ?? null) ? request.ok() : 'EINVAL';
}

function print(request: Request, parameters: readonly string[]): Outcome {
  if (parameters.length !== 1) return 'EINVAL';
  request.server.host.log?.(`control: ${parameters[0]}`);
  return request.ok();
}

function quota(request: Request, parameters: readonly string[]): Outcome {
  const { server } = request;
  if (parameters.length === 0) return request.replyText(describe(QUOTAS, server.quotas.limits));
  if (parameters[0] === 'set') return set(request, parameters, server.quotas.limits);
  if (parameters.length !== 1) return 'EINVAL';
  const domain = server.domains.get(atoi(parameters[0] as string));
  if (domain === null) return 'ENOENT';
  const { domid, nodes, watches, transactions, outstanding, memory } = domain;
  const rows = Object.entries({ nodes, watches, transactions, outstanding, memory });
  const lines = rows.map(([name, value]) => `${name.padEnd(16)}: ${String(value).padStart(8)}\n`);
  return request.replyText(`Domain ${domid}:\n${lines.join('')}\0`);
}

function quotaSoft(request: Request, parameters: readonly string[]): Outcome {
  const { soft } = request.server.quotas;
  if (parameters.length === 0) return request.replyText(describe(SOFT_QUOTAS, soft));
  return parameters[0] === 'set' ? set(request, parameters, soft) : 'EINVAL';
}

function describe(table: Record<string, readonly [number, string]>, limits: Record<string, number>): string {
  const lines = Object.entries(table).map(
    ([name, [, text]]) => `${name.padEnd(17)}: ${String(limits[name]).padStart(8)} ${text}\n`,
  );
  return `Quota settings:\n${lines.join('')}\0`;
}

function set(request: Request, parameters: readonly string[], limits: Record<string, number>): Outcome {
  const [, name, value] = parameters;
  if (parameters.length !== 3 || name === undefined || value === undefined) return 'EINVAL';
  if (atoi(value) < 1 || !Object.hasOwn(limits, name)) return 'EINVAL';
  limits[name] = atoi(value);
  request.server.store.observer?.quotasChanged();
  return request.ok();
}

function help(request: Request, parameters: readonly string[]): Outcome {
  if (parameters.length > 0) return 'EINVAL';
  const lines = Object.entries(COMMANDS).map(([name, command]) => `${name}\t${command.parameters}\n`);
  return request.replyText(`${lines.join('')}\0`);
}
