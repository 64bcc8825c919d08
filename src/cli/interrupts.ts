/**
 * Ctrl-C and its like. From the moment a command has something to put away, they mean "put it away and end", however
 * far it has come, and however often they come.
 */
import { constants } from 'node:os';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export class Interrupts {
  private readonly controller = new AbortController();
  /** The first one that came. */
  received: NodeJS.Signals | undefined;
  /** What else is to happen at each one. */
  onSignal: (signal: NodeJS.Signals) => void = () => {};

  constructor() {
    for (const name of SIGNALS) process.on(name, this.take);
  }

  /** Aborted once one has come. */
  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** The exit status of a program that the received signal ended. */
  get status(): number {
    return this.received === undefined ? 0 : 128 + constants.signals[this.received];
  }

  release(): void {
    for (const name of SIGNALS) process.off(name, this.take);
  }

  private readonly take = (signal: NodeJS.Signals): void => {
    this.received ??= signal;
    this.onSignal(signal);
    this.controller.abort();
  };
}

/** @returns the promise's value @throws the signal's reason where that comes first */
export function unlessAborted<T>(signal: AbortSignal, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason as Error);
    if (signal.aborted) abort();
    signal.addEventListener('abort', abort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
  });
}
