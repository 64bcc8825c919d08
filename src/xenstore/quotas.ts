/**
 * Limits on what a domain may use, and the record of every denial.
 *
 * Limits bind unprivileged connections only, as on C xenstored; 0 means unlimited. A domain has the global limits until
 * SET_QUOTA gives it its own. A denial is counted, told to the host's hook with its reason, and logged at most once in
 * `LOG_INTERVAL_MS` for each domain and quota: a guest can't flood the log (XSA-180).
 * @spec xen:docs/misc/xenstore.txt GET_QUOTA, SET_QUOTA, CONTROL quota
 */
import { XENSTORE_REL_PATH_MAX, type XsErrorName } from '../abi/xen/xs-wire.js';
import type { Domain } from './domains.js';

const LOG_INTERVAL_MS = 10_000;

/** Name on the wire → default and description. */
export const QUOTAS = {
  nodes: [1000, 'Nodes per domain'],
  watches: [128, 'Watches per domain'],
  transactions: [10, 'Transactions per domain'],
  outstanding: [20, 'Outstanding requests per domain'],
  'transaction-nodes': [1024, 'Max. number of accessed nodes per transaction'],
  memory: [2560 * 1024, 'Total Xenstore memory per domain (error level)'],
  'node-size': [2048, 'Max. size of a node'],
  'path-max': [XENSTORE_REL_PATH_MAX, 'Max. length of a node path'],
  permissions: [5, 'Max. number of permissions per node'],
} as const satisfies Record<string, readonly [number, string]>;

/** Warning levels. */
export const SOFT_QUOTAS = {
  memory: [2048 * 1024, 'Total Xenstore memory per domain (warning level)'],
} as const satisfies Record<string, readonly [number, string]>;

export type QuotaName = keyof typeof QUOTAS;
export type SoftQuotaName = keyof typeof SOFT_QUOTAS;
export type Limits = Record<QuotaName, number>;
export type SoftLimits = Record<SoftQuotaName, number>;

/** A refusal for want of quota or right, as the host's trace shows it. */
export interface Denial {
  /** The quota's name, or `privilege`, `event-size`, `output`, … */
  readonly what: string;
  readonly domid: number;
  readonly errno: XsErrorName | null;
  readonly reason: string;
}

export interface QuotaHooks {
  readonly now: () => number;
  readonly onDenial?: ((denial: Denial) => void) | undefined;
  readonly log?: ((line: string) => void) | undefined;
}

function defaults<K extends string>(table: Record<K, readonly [number, string]>): Record<K, number> {
  return Object.fromEntries(Object.entries<readonly [number, string]>(table).map(([k, [n]]) => [k, n])) as Record<
    K,
    number
  >;
}

export class Quotas {
  readonly limits: Limits = defaults(QUOTAS);
  readonly soft: SoftLimits = defaults(SOFT_QUOTAS);
  /** Denials by what was denied. */
  readonly denials = new Map<string, number>();
  readonly #hooks: QuotaHooks;
  readonly #logged = new Map<string, number>();

  constructor(hooks: QuotaHooks) {
    this.#hooks = hooks;
  }

  of(domain: Domain): Limits {
    return domain.limits ?? this.limits;
  }

  softOf(domain: Domain): SoftLimits {
    return domain.softLimits ?? this.soft;
  }

  /** Whether `amount` is beyond a domain's limit. */
  exceeds(domain: Domain, name: QuotaName, amount: number): boolean {
    const limit = this.of(domain)[name];
    return limit !== 0 && amount > limit;
  }

  /** Length of a path beside `/local/domain/<n>/`; the wire's own limit holds in any case. */
  pathMax(domain: Domain): number {
    const limit = this.of(domain)['path-max'];
    return limit === 0 || limit > XENSTORE_REL_PATH_MAX ? XENSTORE_REL_PATH_MAX : limit;
  }

  /** Whether a domain's memory may grow by some bytes. Reports crossing the soft limit. */
  mayGrow(domain: Domain, bytes: number): boolean {
    if (bytes <= 0 || domain.privileged) return true;
    const memory = domain.memory + bytes;
    const soft = this.softOf(domain).memory;
    if (soft !== 0 && memory >= soft) {
      this.#logLimited(domain.domid, 'soft memory', `Domain ${domain.domid} exceeds soft memory quota`);
    }
    const hard = this.of(domain).memory;
    return hard === 0 || memory < hard;
  }

  /** Records a denial and hands back its errno, so that a check reads as one line. */
  deny<E extends XsErrorName | null>(domain: Domain, what: string, errno: E, reason: string): E {
    this.denials.set(what, (this.denials.get(what) ?? 0) + 1);
    this.#hooks.onDenial?.({ what, domid: domain.domid, errno, reason });
    this.#logLimited(domain.domid, what, `Domain ${domain.domid} denied by ${what}: ${reason}`);
    return errno;
  }

  /** Forgets when a domain that has gone was last logged. */
  forget(domid: number): void {
    const prefix = `${domid} `;
    for (const key of this.#logged.keys()) if (key.startsWith(prefix)) this.#logged.delete(key);
  }

  #logLimited(domid: number, what: string, line: string): void {
    if (this.#hooks.log === undefined) return;
    const key = `${domid} ${what}`;
    const now = this.#hooks.now();
    const last = this.#logged.get(key);
    if (last !== undefined && now - last < LOG_INTERVAL_MS) return;
    this.#logged.set(key, now);
    this.#hooks.log(line);
  }
}
