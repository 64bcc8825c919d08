/**
 * The client's connection, or the one after it: with `reconnect`, a lost connection is made again and the watches are set
 * again, so that each fires once more, as after an upstream restart of the daemon. Requests that were on their way are
 * rejected all the same, as nobody knows whether the server did them; those made meanwhile wait.
 *
 *     connected ──lost──▶ connecting ──▶ connected …
 *         │                   └─given up, closed─▶ over
 *         └──lost (without reconnect), closed────▶ over
 */
import { XS_UNWATCH, XS_WATCH } from '../../abi/xs-wire.js';
import { pause, unlessAborted } from './abort.js';
import { type Call, Connection } from './connection.js';
import { XenStoreError } from './error.js';
import { payloadOf } from './payload.js';
import type { Transport } from './transport.js';
import type { XenStoreWatch } from './watch.js';

const FIRST_PAUSE_MS = 20;
const LONGEST_PAUSE_MS = 2000;

export interface ReconnectOptions {
  /** How long to try after each loss before giving up. Default: until `close`. */
  readonly timeoutMs?: number;
}

export class Link {
  readonly #open: (signal: AbortSignal | undefined) => Promise<Transport>;
  readonly #reconnect: ReconnectOptions | undefined;
  readonly #watches = new Map<string, XenStoreWatch>();
  readonly #closing = new AbortController();
  #connection: Connection;
  /** Settles when there is a connection again; undefined while there is one. */
  #restored: Promise<void> | undefined;
  #end: XenStoreError | undefined;

  /** @param open makes another transport like the one given */
  constructor(
    transport: Transport,
    open: (signal: AbortSignal | undefined) => Promise<Transport>,
    reconnect: ReconnectOptions | undefined,
  ) {
    this.#open = open;
    this.#reconnect = reconnect;
    this.#connection = this.#connect(transport);
  }

  get path(): string {
    return this.#connection.path;
  }

  get reconnects(): boolean {
    return this.#reconnect !== undefined;
  }

  request<T>(call: Call<T>): Promise<T> {
    if (this.#end !== undefined) {
      const { code, detail } = this.#end;
      return Promise.reject(new XenStoreError(code, call.operation, call.path, detail));
    }
    if (this.#restored === undefined) return this.#connection.request(call);
    return this.connection(call.signal).then((connection) => connection.request(call));
  }

  /** The present connection, once there is one. @throws XenStoreError, the signal's reason */
  async connection(signal: AbortSignal | undefined): Promise<Connection> {
    while (this.#restored !== undefined) await unlessAborted(this.#restored, signal);
    if (this.#end !== undefined) throw this.#end;
    return this.#connection;
  }

  /** Sets a watch; refusals end it. */
  watch(watch: XenStoreWatch): void {
    this.#watches.set(watch.token, watch);
    if (this.#end !== undefined) this.#refuse(watch, this.#end);
    else if (this.#restored === undefined) this.#set(watch); // else with the others
  }

  /** Forgets a watch that is over, and tells the server if it is there. */
  async unwatch(watch: XenStoreWatch): Promise<void> {
    if (!this.#watches.delete(watch.token) || this.#restored !== undefined || this.#end !== undefined) return;
    await this.#unset(this.#connection, watch);
  }

  close(): void {
    if (this.#end !== undefined) return;
    this.#closing.abort();
    this.#finish(new XenStoreError('ECANCELED', 'connection', undefined), (watch) => watch.finish());
    this.#connection.close();
  }

  #connect(transport: Transport): Connection {
    return new Connection(transport, {
      event: (path, token) => this.#watches.get(token)?.push(path),
      lost: (error) => this.#lost(error),
    });
  }

  #lost(error: XenStoreError): void {
    if (this.#reconnect === undefined || error.code === 'EPROTO') {
      this.#finish(error, (watch) => watch.fail(error));
      return;
    }
    this.#restored = this.#restore(error).finally(() => {
      this.#restored = undefined;
    });
    this.#restored.catch(() => {}); // whoever waits for it hears of it
  }

  async #restore(loss: XenStoreError): Promise<void> {
    const timeoutMs = this.#reconnect?.timeoutMs;
    const closing = this.#closing.signal;
    const deadline = timeoutMs === undefined ? Number.POSITIVE_INFINITY : performance.now() + timeoutMs;
    for (let pauseMs = FIRST_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_PAUSE_MS)) {
      await pause(pauseMs * (0.5 + Math.random() / 2), closing).catch(() => {});
      if (this.#end !== undefined) throw this.#end;
      try {
        const transport = await this.#open(closing);
        this.#connection = this.#connect(transport);
        break;
      } catch (error) {
        if (this.#end !== undefined) throw this.#end;
        if (!(error instanceof XenStoreError)) throw error;
        if (performance.now() < deadline) continue;
        const detail = `${loss.message}; not made again within ${timeoutMs} ms: ${error.message}`;
        const end = new XenStoreError('ECONNRESET', 'connection', undefined, detail);
        this.#finish(end, (watch) => watch.fail(end));
        throw end;
      }
    }
    for (const watch of this.#watches.values()) this.#set(watch);
  }

  #set(watch: XenStoreWatch): void {
    const connection = this.#connection;
    const { path, token, depth } = watch;
    const texts = depth === undefined ? [path, token] : [path, token, String(depth)];
    const decode = (): void => {};
    connection
      .request({ type: XS_WATCH, operation: 'watch', path, payload: payloadOf(texts), decode })
      .catch((error) => {
        if (connection === this.#connection && !watch.isOver && !this.#isLoss(error)) this.#refuse(watch, error);
      });
  }

  /** A lost connection's watches are set again, or have been ended with it. */
  #isLoss(error: unknown): boolean {
    return error instanceof XenStoreError && (error.code === 'ECONNRESET' || error.code === 'ECANCELED');
  }

  async #unset(connection: Connection, { path, token }: XenStoreWatch): Promise<void> {
    const payload = payloadOf([path, token]);
    try {
      await connection.request({ type: XS_UNWATCH, operation: 'unwatch', path, payload, decode: () => {} });
    } catch (error) {
      if (!(error instanceof XenStoreError)) throw error; // refused or lost: either way there is no watch
    }
  }

  #refuse(watch: XenStoreWatch, error: unknown): void {
    this.#watches.delete(watch.token);
    watch.fail(error);
  }

  #finish(error: XenStoreError, end: (watch: XenStoreWatch) => void): void {
    this.#end = error;
    for (const watch of this.#watches.values()) end(watch);
    this.#watches.clear();
  }
}
