/**
 * A watch as an async iterator. Its first event comes at once, whether the node exists or not; later ones for changes of
 * the node and of everything below it.
 *
 *     watching ──(return, close)──▶ over: the iterator is done
 *        ├──(abort)────────────────▶ over: the iterator throws the signal's reason
 *        └──(lost, refused, overflow)▶ over: the iterator throws a XenStoreError after the events that had come
 *
 * Events wait in a queue of bounded length until they are taken.
 */
import { onAbort } from './abort.js';
import { XenStoreError } from './error.js';
import type { RequestOptions } from './nodes.js';

const DEFAULT_QUEUE = 4096;

export interface WatchOptions extends RequestOptions {
  /**
   * Levels below the path that count: 0 the node alone. For `@introduceDomain` and `@releaseDomain`, 1 puts the domain's
   * number in the event's path. Needs a server with that feature (Xen 4.20); default no limit.
   */
  readonly depth?: number;
  /** Events that may wait to be taken. Default 4096. */
  readonly queueLength?: number;
  /**
   * When more come: `fail` (the default) ends the watch with EOVERFLOW; `collapse` replaces all that wait by one event for
   * the watched path, with `collapsed` set: anything below it may have changed.
   */
  readonly onOverflow?: 'fail' | 'collapse';
}

export interface WatchEvent {
  /** What changed: relative where the watched path is. */
  readonly path: string;
  /** The watch's, as it is on the wire. */
  readonly token: string;
  /** Stands for events that were dropped. */
  readonly collapsed: boolean;
}

interface Taker {
  resolve(result: IteratorResult<WatchEvent, undefined>): void;
  reject(error: unknown): void;
}

const DONE = { done: true, value: undefined } as const;

export class XenStoreWatch implements AsyncIterableIterator<WatchEvent, undefined> {
  readonly depth: number | undefined;
  readonly #queueLength: number;
  readonly #collapses: boolean;
  readonly #unwatch: () => Promise<void>;
  readonly #takers: Taker[] = [];
  #events: WatchEvent[] = [];
  #isOver = false;
  #error: { readonly reason: unknown } | undefined;
  #stopListening = (): void => {};

  /** Made by `XenStore.watch`. @param unwatch tells the server, where it can still be told */
  constructor(
    /** What is watched. */
    readonly path: string,
    readonly token: string,
    options: WatchOptions,
    unwatch: () => Promise<void>,
  ) {
    this.depth = options.depth;
    this.#queueLength = Math.max(1, options.queueLength ?? DEFAULT_QUEUE);
    this.#collapses = options.onOverflow === 'collapse';
    this.#unwatch = unwatch;
    const { signal } = options;
    if (signal !== undefined) this.#stopListening = onAbort(signal, () => this.#abort(signal.reason));
  }

  get isOver(): boolean {
    return this.#isOver;
  }

  /** The next event. @throws XenStoreError, or the signal's reason */
  next(): Promise<IteratorResult<WatchEvent, undefined>> {
    const event = this.#events.shift();
    if (event !== undefined) return Promise.resolve({ done: false, value: event });
    const error = this.#error;
    this.#error = undefined; // once: then the iterator is done, as a generator is that threw
    if (error !== undefined) return Promise.reject(error.reason);
    if (this.#isOver) return Promise.resolve(DONE);
    return new Promise((resolve, reject) => this.#takers.push({ resolve, reject }));
  }

  /** Ends the watch; resolves once the server sends no more of it. */
  async return(): Promise<IteratorResult<WatchEvent, undefined>> {
    if (!this.#isOver) {
      this.finish();
      await this.#unwatch();
    }
    this.#events = [];
    this.#error = undefined;
    return DONE;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  // ---- for the client

  /** An event has come. */
  push(path: string): void {
    if (this.#isOver) return;
    const event = { path, token: this.token, collapsed: false };
    const taker = this.#takers.shift();
    if (taker !== undefined) return taker.resolve({ done: false, value: event });
    if (this.#events.length < this.#queueLength) {
      this.#events.push(event);
    } else if (this.#collapses) {
      this.#events = [{ path: this.path, token: this.token, collapsed: true }];
    } else {
      const detail = `${this.#queueLength} events wait to be taken; see the watch's queueLength and onOverflow`;
      this.fail(new XenStoreError('EOVERFLOW', 'watch', this.path, detail));
      void this.#unwatch();
    }
  }

  /** Nothing more comes. Events that wait can still be taken. */
  finish(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#stopListening();
    for (const taker of this.#takers.splice(0)) taker.resolve(DONE);
  }

  /** Likewise; then it throws, once. */
  fail(reason: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#stopListening();
    const [first, ...others] = this.#takers.splice(0);
    if (first === undefined) this.#error = { reason };
    else first.reject(reason);
    for (const taker of others) taker.resolve(DONE);
  }

  #abort(reason: unknown): void {
    this.#events = [];
    this.fail(reason);
    void this.#unwatch();
  }
}
