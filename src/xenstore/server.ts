/**
 * The XenStore server: store, watches, domains and connections, as one synchronous object. Bytes in, bytes out; the clock,
 * the hash seed and what only the host knows come in through the options.
 *
 * How a transport plugs in, for each client:
 *
 *     const c = server.connect({ domid, kind, sink });   // sink.ready(), sink.closed(reason)
 *     c.receive(chunk)      when bytes have come; stop reading while !c.wantsInput
 *     c.output()            what to send, after sink.ready(); not to be kept
 *     c.sent(n)             how much of it the client has taken; again until output() is empty
 *     c.close()             when the client has gone
 *
 * For all of them: call `tick()` once `nextDeadlineMs()` (on the clock of `now`) has passed, and ask again after each batch
 * of work. Every call returns with all its consequences done; other connections' sinks may have been told `ready()`.
 *
 * From the hypervisor: `domainShutdown(domid)`, `domainGone(domid)`. To the host: the hooks of `XenstoreHost`.
 *
 * @spec xen:docs/misc/xenstore.txt
 */
import {
  XENSTORE_SERVER_FEATURE_ERROR,
  XENSTORE_SERVER_FEATURE_RECONNECTION,
  XENSTORE_SERVER_FEATURE_WATCHDEPTH,
  XS_HEADER_SIZE,
  XS_PERM_NONE,
  XS_TYPE_COUNT,
  type XsErrorName,
} from '../abi/xen/xs-wire.js';
import { ByteArena } from './arena.js';
import { checkStore } from './check.js';
import { Connection, type ConnectionKind, type ConnectionSink } from './connection.js';
import { type Domain, DomainTable } from './domains.js';
import type { UpdateHost, UpdateSession } from './live-update.js';
import { getU32 } from './output-queue.js';
import { PermsPool } from './permissions.js';
import { type Denial, Quotas } from './quotas.js';
import { Request } from './request.js';
import { Store } from './store.js';
import { Turns } from './turns.js';
import type { Actor } from './view.js';
import { type SpecialWatch, Watches } from './watches.js';

/** Events that an unprivileged client doesn't take are dropped after this long. */
const EVENT_TIMEOUT_MS = 20_000;
/** How often connections are looked at that wait for memory to be given back. */
const BLOCKED_POLL_MS = 100;
/** Garbage looked at between two batches of requests. */
const COLLECT_PER_BATCH = 64;

const FEATURES =
  XENSTORE_SERVER_FEATURE_RECONNECTION | XENSTORE_SERVER_FEATURE_ERROR | XENSTORE_SERVER_FEATURE_WATCHDEPTH;

/** One message, for the trace. */
export interface TracedMessage {
  readonly connection: Connection;
  readonly direction: 'in' | 'out';
  readonly type: number;
  readonly requestId: number;
  readonly transactionId: number;
  /** Not to be kept. */
  readonly payload: Uint8Array;
}

/** What the host provides. All but the clock is optional. */
export interface XenstoreHost {
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number;
  /** Whether the hypervisor has such a domain. Default: any number could be one. */
  readonly domainExists?: (domid: number) => boolean;
  /** INTRODUCE: attach the domain's ring and `connect` it. Null on success. */
  readonly introduce?: (domid: number, gfn: number, port: number) => XsErrorName | null;
  /** The domain is no longer served: detach its ring. */
  readonly released?: (domid: number) => void;
  readonly onDenial?: (denial: Denial) => void;
  readonly log?: (line: string) => void;
  readonly trace?: (message: TracedMessage) => void;
  /** CONTROL live-update. */
  readonly update?: UpdateHost;
  /** CONTROL memreport: puts a report somewhere; false where there is no place for it. */
  readonly report?: (text: string, file: string | null) => boolean;
}

export interface XenstoreOptions {
  /** A random number. The same seed gives the same run. */
  readonly hashSeed: number;
  /** Number of the domain that local tools belong to. */
  readonly controlDomid?: number;
  /** Serve RESTRICT, as Xen did until 4.9. */
  readonly allowRestrict?: boolean;
}

export interface ConnectOptions {
  /** Whose rights and account: 0 for a local tool's socket. */
  readonly domid: number;
  readonly kind: ConnectionKind;
  /** Default: only the control domain is. */
  readonly privileged?: boolean;
  readonly sink: ConnectionSink;
}

export class XenstoreServer {
  readonly host: XenstoreHost;
  readonly allowRestrict: boolean;
  readonly features = FEATURES;
  readonly quotas: Quotas;
  readonly domains: DomainTable;
  readonly arena = new ByteArena();
  readonly pool = new PermsPool();
  readonly watches: Watches;
  readonly store: Store;
  readonly turns: Turns;
  readonly request: Request;
  readonly connections = new Set<Connection>();
  /** Connections with events that go stale. */
  readonly expiring = new Set<Connection>();
  /** Requests served, by type. */
  readonly requests: number[] = new Array<number>(XS_TYPE_COUNT).fill(0);
  /** Errors replied, by `TYPE ERROR`. */
  readonly errors = new Map<string, number>();
  /** CONTROL log on|off. */
  tracing: boolean;
  /** CONTROL live-update has begun. */
  updateSession: UpdateSession | null = null;
  readonly #internal: Actor;
  readonly #runnable = new Set<Connection>();
  readonly #blocked = new Set<Connection>();
  #depth = 0;
  #nextConnection = 1;

  constructor(host: XenstoreHost, options: XenstoreOptions) {
    this.host = host;
    this.allowRestrict = options.allowRestrict ?? false;
    this.tracing = host.trace !== undefined;
    this.quotas = new Quotas(host);
    this.domains = new DomainTable(host.domainExists ?? (() => true), options.controlDomid ?? 0);
    const { control } = this.domains;
    const perms = this.pool.of([{ domid: control.domid, domain: control, access: XS_PERM_NONE }]);
    this.watches = new Watches(this.arena, perms);
    this.request = new Request(this, options.hashSeed);
    this.store = new Store(this.arena, this.quotas, this.watches, this.pool, this.request.path.rootHash, perms);
    this.turns = new Turns(host.now, (connection) => this.schedule(connection));
    this.#internal = { domain: control, privileged: true, cause: () => null };
    this.#create('/tool/xenstored');
  }

  connect(options: ConnectOptions): Connection {
    const domain = this.domains.refer(options.domid);
    if (domain === null) throw new Error(`domain ${options.domid} doesn't exist`);
    if (options.kind === 'ring') domain.connection?.giveUp('replaced');
    const privileged = options.privileged ?? domain.privileged;
    const id = this.#nextConnection++;
    const connection = new Connection(this, id, options.kind, domain, privileged, options.sink);
    if (options.kind === 'ring') domain.connection = connection;
    this.connections.add(connection);
    if (domain === this.domains.control && options.kind === 'ring') this.store.observer?.domainChanged(domain);
    return connection;
  }

  /** INTRODUCE, or the host's own domains. Null on success. */
  introduce(domid: number, gfn: number, port: number): XsErrorName | null {
    const domain = this.domains.refer(domid);
    if (domain === null) return 'EINVAL';
    this.enter();
    const error = this.#introduce(domain, gfn, port);
    this.leave();
    return error;
  }

  #introduce(domain: Domain, gfn: number, port: number): XsErrorName | null {
    const { domid } = domain;
    const error = this.host.introduce?.(domid, gfn, port) ?? null;
    if (error !== null) return error;
    domain.ring = { gfn, port };
    if (domain.introduced) {
      domain.connection?.reset();
    } else {
      domain.introduced = true;
      domain.shutdown = false;
      this.fireSpecial('@introduceDomain', domain);
    }
    this.store.observer?.domainChanged(domain);
    return null;
  }

  /** The hypervisor says that a domain has crashed or shut down. Its nodes stay; watchers are told once. */
  domainShutdown(domid: number): void {
    const domain = this.domains.get(domid);
    if (domain === null || !domain.introduced || domain.shutdown) return;
    this.enter();
    domain.shutdown = true;
    this.store.observer?.domainChanged(domain);
    this.fireSpecial('@releaseDomain', domain);
    this.leave();
  }

  /** The hypervisor says that a domain is no more. */
  domainGone(domid: number): void {
    const domain = this.domains.get(domid);
    this.enter();
    if (domain !== null && domain !== this.domains.control) this.endDomain(domain);
    this.leave();
  }

  /** RELEASE, or the domain's end: nothing of this incarnation stays. */
  endDomain(domain: Domain): void {
    const { introduced } = domain;
    const { control } = this.domains;
    domain.connection?.giveUp('released');
    const { root } = this.store;
    if (root.perms.owner === domain) this.store.replacePerms(root, this.pool.without(root.perms, domain, control));
    this.store.removeOwnedBy(domain, this.#internal);
    for (const name of ['@introduceDomain', '@releaseDomain'] as const) {
      this.watches.special[name] = this.pool.without(this.watches.special[name], domain, control);
    }
    this.domains.forget(domain);
    this.quotas.forget(domain.domid);
    this.store.observer?.domainEnded(domain);
    if (introduced) this.fireSpecial('@releaseDomain', domain);
    if (introduced) this.host.released?.(domain.domid);
  }

  /** When `tick` has something to do, on the clock of `now`; null for "not before something else happens". */
  nextDeadlineMs(): number | null {
    if (this.#blocked.size === 0 && this.expiring.size === 0) return this.turns.nextDeadline();
    let next = this.turns.nextDeadline();
    const earlier = (at: number | null): void => {
      if (at !== null && (next === null || at < next)) next = at;
    };
    if (this.#blocked.size > 0) earlier(this.host.now() + BLOCKED_POLL_MS);
    for (const connection of this.expiring) earlier(connection.out.nextExpiry());
    return next;
  }

  /** Does what is due: turns lapse, stale events are dropped, blocked clients are looked at again. */
  tick(): void {
    const now = this.host.now();
    this.enter();
    this.turns.tick();
    for (const connection of this.expiring) connection.dropExpired(now);
    for (const connection of this.#blocked) this.schedule(connection);
    this.leave();
  }

  /** Problems of the store's innards, in words. Empty unless we have a bug. */
  check(): string[] {
    return checkStore(this);
  }

  // ---- for connections and operations

  fireSpecial(name: SpecialWatch, domain: Domain): void {
    this.watches.fireSpecial(name, domain, null, this.request.path.rootHash);
  }

  /** A connection may be able to go on. */
  schedule(connection: Connection): void {
    this.#runnable.add(connection);
  }

  /** A connection has requests that must wait for something that only `tick` may notice. */
  blocked(connection: Connection): void {
    if (this.#blocked.has(connection)) return;
    this.#blocked.add(connection);
    const { domain } = connection;
    const { memory } = this.quotas.of(domain);
    if (!connection.privileged && memory !== 0 && domain.memory >= memory) {
      this.quotas.deny(domain, 'memory', null, `requests wait: ${domain.memory} bytes in use`);
    } else if (!connection.privileged && !connection.parked) {
      this.quotas.deny(domain, 'outstanding', null, `requests wait: ${domain.outstanding} outstanding`);
    }
  }

  /**
   * Brackets every call from outside. With the last `leave`, connections that had to wait go on: never in the middle of
   * another one's request.
   */
  enter(): void {
    this.#depth++;
  }

  leave(): void {
    if (this.#depth === 1) this.#settle();
    this.#depth--;
  }

  disconnected(connection: Connection): void {
    this.connections.delete(connection);
    this.#runnable.delete(connection);
    this.#blocked.delete(connection);
    this.expiring.delete(connection);
    this.turns.forget(connection);
    if (connection.domain.connection === connection) connection.domain.connection = null;
  }

  eventExpiry(): number {
    return this.host.now() + EVENT_TIMEOUT_MS;
  }

  countError(type: number, name: XsErrorName): void {
    const key = `${type} ${name}`;
    this.errors.set(key, (this.errors.get(key) ?? 0) + 1);
  }

  traceIn(request: Request): void {
    if (!this.tracing) return;
    const { connection, type, requestId, transactionId, bytes, start, end } = request;
    const payload = bytes.subarray(start, end);
    this.host.trace?.({ connection, direction: 'in', type, requestId, transactionId, payload });
  }

  /** Traces the message that was put last into a connection's output. */
  traceOut(connection: Connection, length: number): void {
    if (!this.tracing) return;
    const bytes = connection.out.bytes();
    const at = bytes.length - length - XS_HEADER_SIZE;
    this.host.trace?.({
      connection,
      direction: 'out',
      type: getU32(bytes, at),
      requestId: getU32(bytes, at + 4),
      transactionId: getU32(bytes, at + 8),
      payload: bytes.subarray(at + XS_HEADER_SIZE),
    });
  }

  #settle(): void {
    if (this.#runnable.size > 0) this.#resumeAll();
    this.store.collect(COLLECT_PER_BATCH);
  }

  #resumeAll(): void {
    for (const connection of this.#runnable) {
      this.#runnable.delete(connection);
      this.#blocked.delete(connection);
      connection.resume();
    }
  }

  #create(path: string): void {
    const bytes = Uint8Array.from(path, (c) => c.charCodeAt(0));
    const { request } = this;
    if (!request.path.parse(bytes, 0, bytes.length, bytes, 2048)) throw new Error(`bad path ${path}`);
    this.store.create(this.#internal, request.path, bytes, 0, 0);
  }
}
