/**
 * XenStore from Node: the public entry of the client.
 *
 *     const xs = await XenStore.connect();
 *     await xs.write('/tool/hello', 'world');
 *     await xs.transaction(async (tx) => tx.write('/tool/count', String(Number(await tx.read('/tool/count')) + 1)));
 *     for await (const { path } of xs.watch('/local/domain/1/device', { signal })) console.log(path);
 *     xs.close();
 *
 * Requests can be made without waiting for the ones before: they are served in the order in which they were made.
 *
 * Over the socket of any XenStore daemon, a gate's, or Linux's xenbus device. The server is not trusted with this process:
 * what it sends is checked, and what waits here is bounded. Failures are XenStoreError; an abort rejects with the signal's
 * reason; anything else thrown is a bug.
 * @spec xen:docs/misc/xenstore.txt
 */
import {
  XENSTORE_SERVER_FEATURE_ERROR,
  XENSTORE_SERVER_FEATURE_RECONNECTION,
  XENSTORE_SERVER_FEATURE_WATCHDEPTH,
  XS_CONTROL,
  XS_GET_DOMAIN_PATH,
  XS_GET_FEATURE,
  XS_GET_QUOTA,
  XS_INTRODUCE,
  XS_IS_DOMAIN_INTRODUCED,
  XS_RELEASE,
  XS_RESTRICT,
  XS_RESUME,
  XS_SET_QUOTA,
  XS_SET_TARGET,
} from '../abi/xs-wire.js';
import type { Call } from './xenstore/connection.js';
import { XenStoreError } from './xenstore/error.js';
import { Link, type ReconnectOptions } from './xenstore/link.js';
import { locate, openTransport } from './xenstore/locate.js';
import { type RequestOptions, XenStoreNodes } from './xenstore/nodes.js';
import { checkPath, checkText, payloadOf } from './xenstore/payload.js';
import { runTransaction, type Transaction, type TransactionOptions } from './xenstore/transaction.js';
import type { Transport } from './xenstore/transport.js';
import { type WatchOptions, XenStoreWatch } from './xenstore/watch.js';
import { oneString } from './xenstore/wire.js';

export { XenStoreError, type XenStoreErrorCode } from './xenstore/error.js';
export type { ReconnectOptions } from './xenstore/link.js';
export { type RequestOptions, XenStoreNodes } from './xenstore/nodes.js';
export {
  type Access,
  type DomainAccess,
  formatPermissions,
  type NodePermissions,
  parsePermissions,
} from './xenstore/permissions.js';
export { Transaction, type TransactionOptions } from './xenstore/transaction.js';
export { type WatchEvent, type WatchOptions, XenStoreWatch } from './xenstore/watch.js';

export interface ConnectOptions {
  /**
   * A daemon's or gate's socket, or the device. Default as for libxenstore: the environment's XENSTORED_PATH, `socket` in
   * XENSTORED_RUNDIR, /run/xenstored/socket, /dev/xen/xenbus.
   */
  readonly path?: string | undefined;
  /**
   * Socket of an embedded host (`postern host`): its store, and with path `/dev/xen/xenbus` the device of its dom0. Default:
   * for the device, the host that POSTERN_HOST names, if it does.
   */
  readonly host?: string | undefined;
  /** Ends the attempt to connect, not the connection. */
  readonly signal?: AbortSignal | undefined;
  /** Connect again when the connection is lost, and set the watches again. Default: no. */
  readonly reconnect?: boolean | ReconnectOptions;
}

/** What a server says of itself. */
export interface ServerFeatures {
  /** As on the wire. */
  readonly bits: number;
  /** A domain can have its ring connected anew. */
  readonly reconnection: boolean;
  /** Errors of the ring are reported in it. */
  readonly ringErrors: boolean;
  /** Watches can be limited in depth. */
  readonly watchDepth: boolean;
}

export class XenStore extends XenStoreNodes {
  readonly #link: Link;
  #watches = 0;

  private constructor(link: Link) {
    super();
    this.#link = link;
  }

  /** @throws XenStoreError ENOTCONN, saying what was tried; the signal's reason */
  static async connect(options: ConnectOptions = {}): Promise<XenStore> {
    const { path, host, signal, reconnect } = options;
    const place = locate(path, host, process.env);
    const open = (until: AbortSignal | undefined): Promise<Transport> => openTransport(place, until);
    const again = reconnect === true ? {} : reconnect === false ? undefined : reconnect;
    return new XenStore(new Link(await open(signal), open, again));
  }

  /** What was connected to. */
  get path(): string {
    return this.#link.path;
  }

  /** Ends the connection. What waits is rejected with ECANCELED, watches' iterators are done. */
  close(): void {
    this.#link.close();
  }

  /** As `close`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.close();
  }

  /**
   * Runs `callback` in a transaction: all of it happens at one moment, or nothing. After a conflict it is run again, so it
   * must not do anything that cannot be repeated. Nothing happens where it throws.
   * @returns what the callback returned last
   * @throws what the callback throws; XenStoreError EAGAIN after all retries, ENOSPC too many transactions, ECONNRESET; the
   *   signal's reason. After ECONNRESET or an abort during the commit it may have happened.
   */
  async transaction<T>(
    callback: (transaction: Transaction) => Promise<T> | T,
    options: TransactionOptions = {},
  ): Promise<T> {
    return await runTransaction(() => this.#link.connection(options.signal), callback, options);
  }

  /**
   * Watches a node and all below it, `@introduceDomain` or `@releaseDomain`. The watch is set at once, also if nobody
   * iterates yet; leaving the loop ends it. Its errors come out of the iterator: EACCES, E2BIG too many watches, EINVAL.
   */
  watch(path: string, options: WatchOptions = {}): XenStoreWatch {
    const { signal, depth } = options;
    const token = `postern-${++this.#watches}`;
    const watch: XenStoreWatch = new XenStoreWatch(path, token, options, () => this.#link.unwatch(watch));
    try {
      signal?.throwIfAborted();
      checkPath(path, 'watch');
      if (depth !== undefined && !(Number.isInteger(depth) && depth >= 0 && depth < 1e9)) {
        throw new XenStoreError('EINVAL', 'watch', path, `${depth} is no depth: a whole number is needed`);
      }
    } catch (error) {
      watch.fail(error);
      return watch;
    }
    this.#link.watch(watch);
    return watch;
  }

  /** `/local/domain/DOMID`, whether there is such a domain or not. */
  domainPath(domid: number, options?: RequestOptions): Promise<string> {
    return this.#ask(XS_GET_DOMAIN_PATH, 'get domain path', [domid], oneString, options);
  }

  /** Whether the store serves a domain. @throws XenStoreError EACCES for all but domain 0 */
  isDomainIntroduced(domid: number, options?: RequestOptions): Promise<boolean> {
    const decode = (reply: Buffer): boolean => oneString(reply) === 'T';
    return this.#ask(XS_IS_DOMAIN_INTRODUCED, 'is domain introduced', [domid], decode, options);
  }

  /**
   * Tells the store of a new domain.
   * @param gfn guest frame of its ring @param port event channel in the domain that the store is to bind to
   * @throws XenStoreError EACCES, EINVAL no such domain
   */
  introduce(domain: { domid: number; gfn: bigint; port: number }, options?: RequestOptions): Promise<void> {
    const { domid, gfn, port } = domain;
    return this.#ask(XS_INTRODUCE, 'introduce', [domid, gfn, port], nothing, options);
  }

  /** Ends serving a domain; what it owned goes. @throws XenStoreError EACCES, ENOENT */
  release(domid: number, options?: RequestOptions): Promise<void> {
    return this.#ask(XS_RELEASE, 'release', [domid], nothing, options);
  }

  /** A domain's next shutdown is announced again. @throws XenStoreError EACCES, ENOENT */
  resume(domid: number, options?: RequestOptions): Promise<void> {
    return this.#ask(XS_RESUME, 'resume', [domid], nothing, options);
  }

  /** Gives `domid` the rights of `target` besides its own: its device model's domain. @throws XenStoreError EACCES, ENOENT */
  setTarget(domid: number, target: number, options?: RequestOptions): Promise<void> {
    return this.#ask(XS_SET_TARGET, 'set target', [domid, target], nothing, options);
  }

  /**
   * Restricts this connection to what a domain may do, for good. Postern's extension, off in its daemon unless asked for.
   * @throws XenStoreError ENOSYS, EBUSY a transaction is open; EINVAL with `reconnect`: the next connection would have all
   *   rights again
   */
  async restrict(domid: number, options?: RequestOptions): Promise<void> {
    if (this.#link.reconnects) {
      const detail = 'with reconnect, the next connection would not be restricted';
      throw new XenStoreError('EINVAL', 'restrict', undefined, detail);
    }
    await this.#ask(XS_RESTRICT, 'restrict', [domid], nothing, options);
  }

  /** An administrator's command: `control('quota', 'set', 'nodes', '2000')`. @returns what the server says */
  async control(command: string, args: readonly string[] = [], options?: RequestOptions): Promise<string> {
    for (const text of [command, ...args]) checkText(text, 'command', 'control');
    return await this.#ask(XS_CONTROL, `control ${command}`, [command, ...args], oneString, options);
  }

  /** What the server can do, or what it offers to a domain. @throws XenStoreError ENOSYS before Xen 4.20, EACCES */
  features(domid?: number, options?: RequestOptions): Promise<ServerFeatures> {
    return this.#ask(XS_GET_FEATURE, 'get feature', domid === undefined ? [''] : [domid], featuresOf, options);
  }

  /** The names of the server's quotas. @throws XenStoreError ENOSYS before Xen 4.20, EACCES */
  quotaNames(options?: RequestOptions): Promise<string[]> {
    const decode = (reply: Buffer): string[] => oneString(reply).split(' ').filter(Boolean);
    return this.#ask(XS_GET_QUOTA, 'get quota', [''], decode, options);
  }

  /** A quota of all domains, or of one. @throws XenStoreError ENOSYS before Xen 4.20, EINVAL no such quota, EACCES */
  quota(name: string, domid?: number, options?: RequestOptions): Promise<number> {
    const decode = (reply: Buffer): number => wholeNumber(oneString(reply), 'get quota');
    return this.#ask(XS_GET_QUOTA, 'get quota', domid === undefined ? [name] : [domid, name], decode, options);
  }

  /** @param value 0 for no limit @throws XenStoreError as `quota` */
  setQuota(name: string, value: number, domid?: number, options?: RequestOptions): Promise<void> {
    const texts = domid === undefined ? [name, value] : [domid, name, value];
    return this.#ask(XS_SET_QUOTA, 'set quota', texts, nothing, options);
  }

  protected override request<T>(call: Call<T>): Promise<T> {
    return this.#link.request(call);
  }

  async #ask<T>(
    type: number,
    operation: string,
    parameters: readonly (string | number | bigint)[],
    decode: (reply: Buffer) => T,
    options: RequestOptions | undefined,
  ): Promise<T> {
    const texts = parameters.map(String);
    for (const text of texts) checkText(text, 'parameter', operation);
    return await this.#link.request({ type, operation, payload: payloadOf(texts), signal: options?.signal, decode });
  }
}

function wholeNumber(text: string, operation: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new XenStoreError('EPROTO', operation, undefined, 'the server answered with something that is no number');
}

function featuresOf(reply: Buffer): ServerFeatures {
  const bits = wholeNumber(oneString(reply), 'get feature');
  return {
    bits,
    reconnection: (bits & XENSTORE_SERVER_FEATURE_RECONNECTION) !== 0,
    ringErrors: (bits & XENSTORE_SERVER_FEATURE_ERROR) !== 0,
    watchDepth: (bits & XENSTORE_SERVER_FEATURE_WATCHDEPTH) !== 0,
  };
}

const nothing = (): void => {};
