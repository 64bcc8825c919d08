#!/usr/bin/env node
/**
 * The built-in device model as a process: opens, claims, restricts itself, serves until it is told to stop.
 *
 *     node dist/devices/main.js --domid 1 --host /run/postern.sock --restrict --uid 70001 --chroot /run/empty
 *
 * Standard output carries one JSON object a line: `ready`, `serial` (what the guest writes to its serial port),
 * `display` (the picture changed), `exit`. SIGTERM and SIGINT end it with status 0.
 */
import { parseArgs } from 'node:util';
import { connectXen, type DeviceModel, type IoServer, openDeviceModel, XenDeviceError } from '../sdk/device-model.js';
import { dropPrivileges, type Privileges } from '../sdk/privileges.js';
import { buildMachine, type Machine } from './machine.js';

const USAGE = `Usage: node dist/devices/main.js --domid N [options]

  --domid N          domain to emulate devices for
  --host SOCKET      the host's socket (default: $POSTERN_HOST)
  --restrict         give up access to every other domain
  --uid N, --gid N   user and group to become (needs root)
  --chroot DIR       directory to see as the root (needs root)
  --vram MIB         video memory, a power of two (default 16)
  --vram-gfn GFN     guest frame that video memory is populated at, or "none" (default 0xe0000)
  --refresh MS       how often to look for changes of the picture, 0 for never (default 100)

Example: node dist/devices/main.js --domid 1 --host /run/postern.sock --restrict
`;

const OPTIONS = {
  domid: { type: 'string' },
  host: { type: 'string' },
  restrict: { type: 'boolean', default: false },
  uid: { type: 'string' },
  gid: { type: 'string' },
  chroot: { type: 'string' },
  vram: { type: 'string', default: '16' },
  'vram-gfn': { type: 'string', default: '0xe0000' },
  refresh: { type: 'string', default: '100' },
  help: { type: 'boolean', default: false },
} as const;

class UsageError extends Error {}

interface Settings {
  readonly domid: number;
  readonly host: string | undefined;
  readonly restrict: boolean;
  readonly privileges: Privileges;
  readonly vramBytes: number;
  readonly vramGfn: bigint | undefined;
  readonly refreshMs: number;
}

function number(option: string, text: string, max: number): number {
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
  if (!(value <= max)) throw new UsageError(`--${option}: '${text}' is not a number from 0 to ${max}`);
  return value;
}

function parseSettings(args: readonly string[]): Settings | undefined {
  const { values } = parseArgs({ args: [...args], options: OPTIONS, strict: true });
  if (values.help) return undefined;
  if (values.domid === undefined) throw new UsageError('--domid is missing');
  const vramMib = number('vram', values.vram, 256);
  if (vramMib < 1 || (vramMib & (vramMib - 1)) !== 0) throw new UsageError('--vram: not a power of two');
  const gfn = values['vram-gfn'];
  return {
    domid: number('domid', values.domid, 0x7fef),
    host: values.host,
    restrict: values.restrict,
    privileges: {
      ...(values.uid === undefined ? {} : { uid: number('uid', values.uid, 0xfffffffe) }),
      ...(values.gid === undefined ? {} : { gid: number('gid', values.gid, 0xfffffffe) }),
      ...(values.chroot === undefined ? {} : { chroot: values.chroot }),
    },
    vramBytes: vramMib << 20,
    vramGfn: gfn === 'none' ? undefined : BigInt(number('vram-gfn', gfn, 2 ** 40)),
    refreshMs: number('refresh', values.refresh, 3_600_000),
  };
}

function emit(event: Record<string, unknown>): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

/** Serial output as whole lines, or what there is after a while. */
class SerialEvents {
  private text = '';
  private timer: NodeJS.Timeout | undefined;

  readonly sink = (byte: number): void => {
    this.text += String.fromCharCode(byte);
    if (byte === 0x0a || this.text.length >= 1024) this.flush();
    else this.timer ??= setTimeout(() => this.flush(), 50);
  };

  flush(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.text) emit({ event: 'serial', text: this.text });
    this.text = '';
  }
}

/** With guest memory for the framebuffer where the domain may have that much, else without. */
function build(model: DeviceModel, server: IoServer, settings: Settings, serial: SerialEvents) {
  const { vramBytes: size, vramGfn: homeGfn } = settings;
  try {
    const isInGuest = homeGfn !== undefined;
    return { ...buildMachine(model, server, { size, homeGfn }, serial.sink), video: { isInGuest } };
  } catch (error) {
    if (homeGfn === undefined || !(error instanceof XenDeviceError) || !error.call.startsWith('populate')) throw error;
    const video = { isInGuest: false, reason: error.message };
    return { ...buildMachine(model, server, { size, homeGfn: undefined }, serial.sink), video };
  }
}

function watchDisplay(machine: Machine, refreshMs: number): NodeJS.Timeout | undefined {
  if (refreshMs === 0) return undefined;
  return setInterval(() => {
    if (machine.vga.display.mode().kind === 'blank') return;
    const { mode, isFull, rows } = machine.vga.refresh();
    if (rows.length === 0) return;
    const { kind, width, height, bpp } = mode;
    emit({ event: 'display', kind, width, height, bpp, isFull, rows: rows.map((r) => [r.first, r.count]) });
  }, refreshMs);
}

async function run(settings: Settings): Promise<void> {
  const stop = new AbortController();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => stop.abort());
  process.stdout.on('error', () => stop.abort()); // whoever started us is gone

  const model = openDeviceModel({ domid: settings.domid, devices: connectXen(settings.host) });
  const server = model.createIoServer({ bufferedRequests: 'atomic' });
  const serial = new SerialEvents();
  const { machine, videoMemory, video } = build(model, server, settings, serial);
  server.enable();
  if (settings.restrict) model.restrict();
  dropPrivileges(settings.privileges);
  emit({
    event: 'ready',
    pid: process.pid,
    uid: process.getuid?.(),
    domid: settings.domid,
    server: server.id,
    restricted: model.isRestricted,
    video,
  });

  const refresh = watchDisplay(machine, settings.refreshMs);
  try {
    await server.serve(machine.handle, { signal: stop.signal, wait: 'block' });
  } finally {
    clearInterval(refresh);
    serial.flush();
    videoMemory.close();
    closeModel(model);
  }
  emit({ event: 'exit', stats: server.stats, refusedMappings: machine.bus.nrRefused });
}

/** The domain may be gone by now, and the server with it. */
function closeModel(model: DeviceModel): void {
  try {
    model.close();
  } catch (error) {
    if (!(error instanceof XenDeviceError)) throw error;
  }
}

async function main(): Promise<number> {
  let settings: Settings | undefined;
  try {
    settings = parseSettings(process.argv.slice(2));
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}`);
    return 2;
  }
  if (!settings) {
    process.stdout.write(USAGE);
    return 0;
  }
  try {
    await run(settings);
    return 0;
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    process.stderr.write(`device model of domain ${settings.domid}: ${error.message}\n`);
    return 1;
  }
}

process.exitCode = await main();
