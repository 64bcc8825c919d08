/**
 * A daemon's own thread: it blocks in a reactor, and hears of the thread that started it (daemon-thread.ts) by a wake-up.
 * Trusts that thread; whom the daemon itself trusts is its own affair.
 */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { XenError } from '../boundary/xen-error.js';
import { SystemError } from '../host/libc.js';
import { UserError } from '../host/native-library.js';
import { Reactor } from '../host/reactor.js';

/** What a daemon's module makes. */
export interface Daemon {
  /** What the starting thread is told once it serves. Must be something that can be sent between threads. */
  readonly info: unknown;
  /** Answers the starting thread. Errors of the kinds below go back to it; any other is a bug and ends the daemon. */
  command?(name: string, argument: unknown): unknown;
  /** Gives everything back. The reactor is closed after it. */
  close(): void;
}

export interface ToDaemon {
  readonly id: number;
  readonly name: string;
  readonly argument: unknown;
}

export type FromDaemon =
  | { readonly kind: 'ready'; readonly wakeFd: number; readonly info: unknown }
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'result'; readonly id: number; readonly result?: unknown; readonly error?: string };

/** The command that ends a daemon. */
export const STOP = 'stop';

/** Makes the calling worker a daemon, until it is told to stop. To be called once, by the module that the thread runs. */
export function serveDaemon<Data>(start: (data: Data, reactor: Reactor) => Daemon): void {
  const port = parentPort as MessagePort;
  const send = (message: FromDaemon): void => port.postMessage(message);
  const reactor = new Reactor(() => drain(port, reactor, daemon, send));
  let daemon: Daemon;
  try {
    daemon = start(workerData as Data, reactor);
  } catch (error) {
    if (!isForTheUser(error)) throw error;
    send({ kind: 'failed', message: error.message });
    return;
  }
  send({ kind: 'ready', wakeFd: reactor.wakeFd, info: daemon.info });
  reactor.run();
  daemon.close();
  reactor.close();
  port.close();
}

/** Takes everything the other thread has sent. */
function drain(port: MessagePort, reactor: Reactor, daemon: Daemon, send: (message: FromDaemon) => void): void {
  for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) {
    const { id, name, argument } = next.message as ToDaemon;
    if (name === STOP) {
      reactor.stop();
      send({ kind: 'result', id });
      continue;
    }
    try {
      send({ kind: 'result', id, result: daemon.command?.(name, argument) });
    } catch (error) {
      if (!isForTheUser(error)) throw error;
      send({ kind: 'result', id, error: error.message });
    }
  }
}

/** Something about the machine, a path or the options that the user can do something about; anything else is a bug. */
function isForTheUser(error: unknown): error is Error {
  const isKnown = [SystemError, XenError, UserError].some((kind) => error instanceof kind);
  return isKnown || (error instanceof Error && 'syscall' in error);
}
