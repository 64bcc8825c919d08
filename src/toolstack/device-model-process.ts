/** What all device models have in common: a process with an identity of its own, that ends when it is told to. */
import type { ChildProcess } from 'node:child_process';
import type { Readable } from 'node:stream';

export interface DeviceModelProcess {
  readonly kind: 'qemu' | 'builtin';
  readonly pid: number;
  /** The identity it runs under once it has restricted itself. */
  readonly uid: number;
  /** Resolves with a description when the process ends. */
  readonly ended: Promise<string>;
  stop(): Promise<void>;
}

/** First uid given to device models, plus the domid: far from users, so each has an identity nobody else has. */
export const UID_BASE = 200_000;

/** How long a device model has to end by itself. */
const STOP_TIMEOUT_MS = 3000;

/** The identity for a domain's device model; undefined where we are not root and it keeps ours. */
export function uidFor(domid: number): number | undefined {
  return process.getuid?.() === 0 ? UID_BASE + domid : undefined;
}

/** How a process ended: `ended with status 1`. */
export function endOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('exit', (code, signal) => resolve(signal ? `ended by ${signal}` : `ended with status ${code}`));
  });
}

/** Keeps the last of what streams say, for the message when something goes wrong. */
export function lastWords(streams: readonly (Readable | null)[], onMessage: (text: string) => void = () => {}) {
  let last = '';
  for (const stream of streams) {
    stream?.on('data', (chunk: Buffer) => {
      last = (last + chunk.toString()).slice(-4096);
      onMessage(chunk.toString());
    });
  }
  return () => last;
}

/** Asks a process to end, and sees to it that it does. */
export async function stopProcess(child: ChildProcess, ended: Promise<string>, ask: () => unknown): Promise<void> {
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
  await ask();
  await ended;
  clearTimeout(timer);
}
