/** `postern run`: a domain, a restricted device model, and a guest that keeps it busy; shows what is asked and refused. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { Command, Option } from 'commander';
import type { HostStatus } from '../host/commands.js';
import { Host } from '../host/host.js';
import { nativeLibrary, UserError } from '../host/native-library.js';
import { XenStore } from '../sdk/xenstore.js';
import { startBuiltin } from '../toolstack/builtin.js';
import type { DeviceModelProcess } from '../toolstack/device-model-process.js';
import { LOOP_SCRIPT, START_SCRIPT } from '../toolstack/guest-script.js';
import { findQemu, startQemu, VIDEO_MIB } from '../toolstack/qemu.js';
import { Interrupts, unlessAborted } from './interrupts.js';
import { integer, seconds } from './options.js';
import { colors, print, printJson, table } from './output.js';

interface RunOptions {
  deviceModel?: 'qemu' | 'builtin';
  memory: number;
  vcpus: number;
  script?: string;
  seconds?: number;
  trace?: string;
  gate: boolean;
  json?: true;
}

const DOMID = 1;
const STATUS_INTERVAL_MS = 500;

export function runCommand(): Command {
  return new Command('run')
    .description('Run a device model, restricted as in production, against a domain that keeps it busy.')
    .addOption(
      new Option('--device-model <kind>', 'which one (default: QEMU where installed, else the built-in one)').choices([
        'qemu',
        'builtin',
      ]),
    )
    .option('--memory <MiB>', "the domain's memory", integer(32, 16384), 64)
    .option('--vcpus <n>', "the domain's vCPUs", integer(1, 128), 1)
    .option('--script <file>', 'I/O for the guest to do instead of the built-in loop (docs/io-player.md)')
    .option('--seconds <n>', 'end after this time (default: at Ctrl-C)', seconds)
    .option('--trace <file>', 'write every call to a file, one JSON object a line')
    .option('--no-gate', 'give QEMU all of XenStore instead of what restricted QEMU needs (postern gate --show)')
    .option('--json', 'end with one JSON object instead of showing progress')
    .addHelpText(
      'after',
      `
Examples:
  postern run
  postern run --device-model builtin --seconds 10 --trace calls.jsonl
  postern run --seconds 5 --json | jq .refusals`,
    )
    .action(run);
}

async function run(options: RunOptions): Promise<void> {
  const loop = options.script === undefined ? LOOP_SCRIPT : await readScript(options.script);
  const interrupts = new Interrupts();
  try {
    await runUntilEnded(options, loop, interrupts.signal);
  } catch (error) {
    if (interrupts.received === undefined) throw error;
    process.exitCode = interrupts.status; // told to end before it was up: nothing to report
  } finally {
    interrupts.release();
  }
}

/** @param signal ends the run: with a report where it has come to run, by throwing before */
async function runUntilEnded(options: RunOptions, loop: string, signal: AbortSignal): Promise<void> {
  const phase = options.json ? () => {} : showPhase;
  const { memory, vcpus, trace } = options;
  const host = await Host.start({
    domains: [{ kind: 'hvm', memoryMiB: memory - VIDEO_MIB, vcpus, deviceMiB: VIDEO_MIB, introduced: true }],
    ...(trace !== undefined && { tracePath: trace }),
  });
  let deviceModel: DeviceModelProcess | undefined;
  try {
    phase('host', `serves /dev/xen at ${host.socketPath}`);
    const plural = vcpus === 1 ? '' : 's';
    phase('domain 1', `HVM, ${memory} MiB (${VIDEO_MIB} of them video memory), ${vcpus} vCPU${plural}`);
    deviceModel = await startDeviceModel(host, options, signal);
    if (deviceModel.kind === 'qemu') await showGate(host, phase);
    const isRestricted = await bringUp(host, deviceModel, options, loop, signal, phase);
    const end = await watch(host, deviceModel, options, signal);
    const status = await host.command('status', null);
    report(options, deviceModel, isRestricted, status);
    if (end !== undefined) throw new UserError(`the device model ${end}`);
  } finally {
    await deviceModel?.stop();
    await host.close();
  }
}

/** @returns whether the device model is restricted @throws UserError where it ends meanwhile, or the signal's reason */
async function bringUp(
  host: Host,
  deviceModel: DeviceModelProcess,
  options: RunOptions,
  loop: string,
  signal: AbortSignal,
  phase: typeof showPhase,
): Promise<boolean> {
  const ended = new AbortController();
  void deviceModel.ended.then((how) => ended.abort(new UserError(`the device model ${how}`)));
  // Nobody answers the guest any more once the device model is gone: that must not be waited for.
  const wait = <T>(promise: Promise<T>) => unlessAborted(AbortSignal.any([signal, ended.signal]), promise);
  phase('device model', `${deviceModel.kind}, process ${deviceModel.pid}, uid ${deviceModel.uid}`);
  const restricted = await wait(restriction(host, deviceModel.pid));
  phase('restricted', restricted.text, restricted.is);
  await wait(host.command('unpauseDomain', { domid: DOMID }));
  if (options.script === undefined) await wait(play(host, START_SCRIPT));
  await wait(host.command('startGuest', { domid: DOMID, vcpu: 0, script: loop }));
  phase('running', 'the guest does I/O without end');
  return restricted.is;
}

async function readScript(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    throw new UserError(`cannot read the script ${file}: ${(error as Error).message}`);
  }
}

async function play(host: Host, script: string): Promise<void> {
  await host.command('io', { domid: DOMID, vcpu: 0, script, json: false });
}

async function startDeviceModel(host: Host, options: RunOptions, signal: AbortSignal): Promise<DeviceModelProcess> {
  const binary = options.deviceModel === 'builtin' ? undefined : await findQemu();
  if (options.deviceModel === 'qemu' && binary === undefined) {
    throw new UserError('no QEMU with Xen support found; install one (Debian: apt-get install qemu-system-xen)');
  }
  const { directory, socketPath } = host;
  const library = binary === undefined ? '' : await nativeLibrary();
  const gate = binary !== undefined && options.gate ? await openGate(host) : {};
  signal.throwIfAborted();
  try {
    if (binary === undefined) return await startBuiltin({ domid: DOMID, socketPath, directory, signal });
    return await startQemu({
      binary,
      domid: DOMID,
      name: 'postern',
      memoryMiB: options.memory - VIDEO_MIB,
      directory,
      environment: { ...host.environment(library), ...gate },
      onMessage: () => {},
      signal,
    });
  } catch (error) {
    throw new UserError((error as Error).message.trimEnd());
  }
}

/** The device model's own way into XenStore, below a node that the toolstack makes for it, as libxl does. */
async function openGate(host: Host): Promise<{ XENSTORED_PATH: string }> {
  const store = await XenStore.connect({ path: host.xenstorePath });
  try {
    await store.mkdir(`/local/domain/0/device-model/${DOMID}`);
  } finally {
    store.close();
  }
  const path = join(host.directory, `xenstore-${DOMID}`);
  await host.command('openGate', { domid: DOMID, path });
  return { XENSTORED_PATH: path };
}

async function showGate(host: Host, phase: typeof showPhase): Promise<void> {
  const [gate] = (await host.command('status', null)).gates;
  if (gate === undefined) return phase('xenstore', 'all of it: there is no gate', false);
  const { policy, granted, denied } = gate;
  phase('xenstore', `behind a gate, policy ${policy}: ${granted} requests granted, ${denied} denied`, denied === 0);
}

/** Restricted is a device model whose every open file of privcmd and evtchn is. */
async function restriction(host: Host, pid: number): Promise<{ is: boolean; text: string }> {
  const files = (await host.command('openFiles', null)).filter((file) => file.pid === pid);
  const open = files.filter((file) => file.restrictedTo !== DOMID);
  const counts = new Map<string, number>();
  for (const { device } of files) counts.set(device, (counts.get(device) ?? 0) + 1);
  const held = [...counts].map(([device, n]) => `${device} ×${n}`).join(', ');
  const is = files.length > 0 && open.every((file) => file.device === 'gntdev');
  return {
    is,
    text: is ? `${held}: to domain ${DOMID} only` : `not restricted: ${open.map((f) => f.device).join(', ')}`,
  };
}

/** Shows live counts until the time is up, Ctrl-C, or the device model's end. @returns how it ended, if it did */
async function watch(
  host: Host,
  deviceModel: DeviceModelProcess,
  options: RunOptions,
  interrupted: AbortSignal,
): Promise<string | undefined> {
  const stop = new AbortController();
  let ended: string | undefined;
  const timer = options.seconds === undefined ? undefined : setTimeout(() => stop.abort(), options.seconds * 1000);
  if (interrupted.aborted) stop.abort();
  interrupted.addEventListener('abort', () => stop.abort());
  void deviceModel.ended.then((how) => {
    ended = how;
    stop.abort();
  });
  const live = !options.json && process.stdout.isTTY;
  while (!stop.signal.aborted) {
    if (live) showLive(await host.command('status', null));
    await pause(STATUS_INTERVAL_MS, undefined, { signal: stop.signal }).catch(() => {}); // aborted: the loop ends
  }
  if (live) process.stdout.write('\r\x1b[K');
  clearTimeout(timer);
  return ended;
}

function showPhase(name: string, text: string, ok = true): void {
  print(`${ok ? colors.green('✓') : colors.red('✗')} ${name.padEnd(13)} ${text}`);
}

function showLive(status: HostStatus): void {
  const { served, p50Us, p99Us } = status.requests;
  const calls = Object.values(status.calls).reduce((sum, n) => sum + n, 0);
  const refused = Object.values(status.refusals).reduce((sum, n) => sum + n, 0);
  const text = `${served} I/O requests (p50 ${p50Us} µs, p99 ${p99Us} µs), ${calls} calls, ${refused} refused`;
  process.stdout.write(`\r\x1b[K${colors.dim(text)}`);
}

function report(options: RunOptions, deviceModel: DeviceModelProcess, restricted: boolean, status: HostStatus): void {
  const { kind, pid, uid } = deviceModel;
  const { requests, calls, refusals, gates } = status;
  const [gate = null] = gates;
  if (options.json) return printJson({ deviceModel: { kind, pid, uid }, restricted, gate, requests, calls, refusals });
  const { served, p50Us, p99Us } = requests;
  print(`\n${colors.bold('I/O requests')}  ${served} served, p50 ${p50Us} µs, p99 ${p99Us} µs\n`);
  print(
    table(
      ['call', 'count'],
      Object.entries(calls).map(([call, n]) => [call, String(n)]),
    ),
  );
  const refused = Object.entries(refusals).map(([reason, n]) => [reason, String(n)]);
  if (gate !== null) {
    const denials = Object.entries(gate.denials).map(([code, n]) => `, ${code} ${n}`);
    print(`\nXenStore: ${gate.granted} requests granted, ${gate.denied} denied${denials.join('')}`);
  }
  print(refused.length === 0 ? '\nnothing was refused' : `\n${table(['refused', 'count'], refused)}`);
}
