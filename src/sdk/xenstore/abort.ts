/** Abort signals with many waiting: one listener a signal, however many requests it ends. */

const waiting = new WeakMap<AbortSignal, Set<() => void>>();

/** Calls `abort` once when the signal does. @returns to be called when that is of no interest any more */
export function onAbort(signal: AbortSignal, abort: () => void): () => void {
  const known = waiting.get(signal);
  const actions = known ?? new Set();
  if (known === undefined) {
    waiting.set(signal, actions);
    signal.addEventListener('abort', () => all(signal, actions), { once: true });
  }
  const action = (): void => abort();
  actions.add(action);
  return () => void actions.delete(action);
}

function all(signal: AbortSignal, actions: Set<() => void>): void {
  waiting.delete(signal);
  for (const action of actions) action();
}

/** The promise's value, or the signal's reason if that comes first. The promise is then left to itself. */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const abort = (): void => reject(signal.reason);
    if (signal.aborted) abort();
    const stop = signal.aborted ? () => {} : onAbort(signal, abort);
    promise.then(resolve, reject).finally(stop);
  });
}

/** Waits; ends early, with the signal's reason, when that aborts. @param ms milliseconds */
export function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const stop = signal === undefined ? () => {} : onAbort(signal, aborted);
    const timer = setTimeout(() => {
      stop();
      resolve();
    }, ms);
    function aborted(): void {
      clearTimeout(timer);
      reject(signal?.reason);
    }
  });
}
