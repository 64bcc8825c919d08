/**
 * Where the store is, as libxenstore looks for it: XENSTORED_PATH, else the daemon's socket below XENSTORED_RUNDIR, else
 * the kernel's device. An embedded host has both, the device among its own.
 */
import { stat } from 'node:fs/promises';
import { pause } from './abort.js';
import { XenStoreError } from './error.js';
import { SocketTransport } from './socket-transport.js';
import type { Transport } from './transport.js';

/** Tried without a look first: an embedded host serves it where there is no such file. */
const DEVICES = ['/dev/xen/xenbus', '/proc/xen/xenbus'];

/** How long to try where too many others wait to be let in, and how often. */
const BUSY_LIMIT_MS = 30_000;
const BUSY_PAUSE_MS = 2;

export interface Place {
  /** Paths to try, in this order. */
  readonly paths: readonly string[];
  /** The embedded host whose device it is. */
  readonly host: string | undefined;
}

/** @param path the only one to try @param host socket of an embedded host, whose store it is */
export function locate(path: string | undefined, host: string | undefined, environment: NodeJS.ProcessEnv): Place {
  // Its daemon serves this socket, unless the store is a program of its own.
  if (path === undefined && host !== undefined) return { paths: [`${host}.xenstored`, '/dev/xen/xenbus'], host };
  const place = { host: host ?? (environment.POSTERN_HOST || undefined) };
  const only = path ?? environment.XENSTORED_PATH;
  if (only) return { ...place, paths: [only] };
  const directory = environment.XENSTORED_RUNDIR;
  if (directory) return { ...place, paths: [`${directory}/socket`, ...DEVICES] };
  return { ...place, paths: ['/run/xenstored/socket', '/var/run/xenstored/socket', ...DEVICES] };
}

/** @throws XenStoreError ENOTCONN, saying what was tried; the signal's reason */
export async function openTransport({ paths, host }: Place, signal: AbortSignal | undefined): Promise<Transport> {
  const tried: string[] = [];
  for (const path of paths) {
    signal?.throwIfAborted();
    try {
      return await openOne(path, host, signal);
    } catch (error) {
      signal?.throwIfAborted();
      tried.push(`${path}: ${explain(error as NodeJS.ErrnoException)}`);
    }
  }
  throw new XenStoreError('ENOTCONN', 'connect', undefined, `no XenStore was reached; ${tried.join('; ')}`);
}

async function openOne(path: string, host: string | undefined, signal: AbortSignal | undefined): Promise<Transport> {
  const isDevice = DEVICES.includes(path);
  // Native code is loaded where it is needed only.
  if (isDevice && host !== undefined) return (await import('./host-device.js')).openHostDevice(host);
  const found = await stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT' && isDevice) return undefined;
    throw error;
  });
  if (found?.isSocket()) return await connectSocket(path, signal);
  if (found !== undefined && !found.isCharacterDevice() && !isDevice) throw new Error('neither a socket nor a device');
  return (await import('./device-transport.js')).DeviceTransport.open(path);
}

/** The daemon has yet to take those who came before (C xenstored lets one wait): a blocking connect would wait too. */
async function connectSocket(path: string, signal: AbortSignal | undefined): Promise<Transport> {
  for (const deadline = performance.now() + BUSY_LIMIT_MS; ; await pause(BUSY_PAUSE_MS, signal)) {
    try {
      return await SocketTransport.connect(path, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EAGAIN' || performance.now() > deadline) throw error;
    }
  }
}

function explain(error: NodeJS.ErrnoException): string {
  if (error.code === 'ENOENT') return 'not there';
  if (error.code === 'ECONNREFUSED') return 'nobody listens there';
  if (error.code === 'EAGAIN') return 'too many wait to be let in';
  if (error.code === 'EACCES' || error.code === 'EPERM') return 'permission denied';
  return error.message;
}
