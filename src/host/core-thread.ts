/** The thread that the host runs in: it blocks in the reactor, and hears of the starting thread through its wake-up. */
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { XenError } from '../boundary/xen-error.js';
import type { CommandMap, CommandName, DomainPlan, XenstoreMode } from './commands.js';
import { HostCore } from './core.js';
import { SystemError } from './libc.js';
import { UserError } from './native-library.js';

export interface CoreOptions {
  readonly socketPath: string;
  readonly xenstorePath: string;
  readonly xenstore: XenstoreMode;
  readonly tracePath: string | undefined;
  readonly domains: readonly DomainPlan[];
}

export interface ToCore<N extends CommandName = CommandName> {
  readonly id: number;
  readonly name: N;
  readonly argument: CommandMap[N]['argument'];
}

export type FromCore =
  | { readonly kind: 'ready'; readonly wakeFd: number }
  | { readonly kind: 'failed'; readonly message: string }
  | { readonly kind: 'result'; readonly id: number; readonly result?: unknown; readonly error?: string };

function main(port: MessagePort): void {
  const send = (message: FromCore): void => port.postMessage(message);
  let core: HostCore;
  try {
    core = new HostCore(workerData as CoreOptions, () => drain(port, core, send));
  } catch (error) {
    if (!isOfTheSystem(error)) throw error;
    send({ kind: 'failed', message: error.message });
    return;
  }
  send({ kind: 'ready', wakeFd: core.wakeFd });
  core.run();
  core.close();
  port.close();
}

/** Something about the machine, a path or the options that the user can do something about; anything else is a bug. */
function isOfTheSystem(error: unknown): error is Error {
  const isKnown = [SystemError, XenError, UserError].some((kind) => error instanceof kind);
  return isKnown || (error instanceof Error && 'syscall' in error);
}

/** Takes everything the other thread has sent. */
function drain(port: MessagePort, core: HostCore, send: (message: FromCore) => void): void {
  for (let next = receiveMessageOnPort(port); next; next = receiveMessageOnPort(port)) {
    const { id, name, argument } = next.message as ToCore;
    core.execute(name, argument as never, (result, error) => {
      send(error === undefined ? { kind: 'result', id, result } : { kind: 'result', id, error });
    });
  }
}

main(parentPort as MessagePort);
