/**
 * A thread that lives in a reactor: it blocks there, and hears of the thread that started it (reactor-thread.ts) by a
 * wake-up. Trusts that thread; whom the service itself trusts is its own affair.
 *
 *     starting ──▶ serving ──(STOP, or `end`)──▶ closed
 *         └─(cannot)─▶ failed
 */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { XenError } from '../boundary/xen-error.js';
import { SystemError } from './libc.js';
import { UserError } from './native-library.js';
import { Reactor } from './reactor.js';

/** What the thread is there for. */
export interface ReactorService {
  /** What the starting thread is told once it serves. Must be something that can be sent between threads. */
  readonly info: unknown;
  /**
   * Answers the starting thread: calls `done` once, perhaps much later. What it throws goes back where the user can do
   * something about it; anything else is a bug and ends the thread.
   */
  command(name: string, argument: unknown, done: (result?: unknown) => void): void;
  /** Gives everything back. The reactor is closed after it. */
  close(): void;
}

/** What a service can tell the starting thread unasked. */
export interface Starter {
  /** A line for people. */
  log(line: string): void;
  /** Ends the thread for a reason of its own. */
  end(reason: string): void;
}

export type StartService<Data> = (data: Data, reactor: Reactor, starter: Starter) => ReactorService;

export interface ToReactor {
  readonly id: number;
  readonly name: string;
  readonly argument: unknown;
}

export type FromReactor =
  | { readonly kind: 'ready'; readonly wakeFd: number; readonly info: unknown }
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'log'; readonly line: string }
  | { readonly kind: 'result'; readonly id: number; readonly result?: unknown; readonly error?: string };

/** The command that ends a thread. */
export const STOP = 'stop';

/** Makes the calling worker such a thread, until it is told to stop. To be called once, by the module that it runs. */
export function serveReactor<Data>(start: StartService<Data>): void {
  const port = parentPort as MessagePort;
  const send = (message: FromReactor): void => port.postMessage(message);
  const reactor = new Reactor(() => drain(port, reactor, service, send));
  const starter: Starter = {
    log: (line) => send({ kind: 'log', line }),
    end: (reason) => {
      send({ kind: 'failed', message: reason });
      reactor.stop();
    },
  };
  let service: ReactorService;
  try {
    service = start(workerData as Data, reactor, starter);
  } catch (error) {
    if (!isForTheUser(error)) throw error;
    send({ kind: 'failed', message: error.message });
    return;
  }
  send({ kind: 'ready', wakeFd: reactor.wakeFd, info: service.info });
  reactor.run();
  service.close();
  reactor.close();
  port.close();
}

/** Takes everything the other thread has sent. */
function drain(
  port: MessagePort,
  reactor: Reactor,
  service: ReactorService,
  send: (message: FromReactor) => void,
): void {
  for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) {
    const { id, name, argument } = next.message as ToReactor;
    const done = (result?: unknown): void => send({ kind: 'result', id, result });
    if (name === STOP) {
      reactor.stop();
      done();
      continue;
    }
    try {
      service.command(name, argument, done);
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
