/**
 * The gate: lets one device model into XenStore as far as a policy goes.
 *
 * Upstream the gate is dom0 and could do anything; the client behind it is hostile. So nothing that a client sends goes
 * on: each request is read, decided upon, and put together anew. A session (session.ts) is one connection of the client
 * and one upstream connection of its own, so that a client's end is the end of all it had there, and one that doesn't
 * read holds up nobody else. What bounds the device model as a whole, over all its connections, is kept here.
 *
 * How a transport plugs in, for each connection of the client:
 *
 *     const s = gate.open()            null where there are too many
 *     s.upstreamBack()                 a connection upstream is made; also after each one that was lost
 *     s.fromClient(chunk), s.fromUpstream(chunk)
 *     s.toClient(), s.clientTook(n); s.toUpstream(), s.upstreamTook(n)
 *     s.upstreamLost()                 it has gone; to be connected again
 *     s.close()                        the client has gone
 *
 * After each of these calls: send what there is to send, look at `s.ended` (give up the client), `s.upstreamBroken`
 * (give up the connection upstream, then `upstreamLost`), `s.wantsClient` (read the client or not) and `s.nextDeadlineMs()`.
 */
import { Path } from '../path.js';
import type { BoundPolicy } from './bound-policy.js';
import type { DenialCode, GateCounts, GateRecord } from './denials.js';
import { NodeAccount } from './node-account.js';
import { Rate } from './rate.js';
import { GateSession } from './session.js';

export interface GateHost {
  /** Milliseconds of a clock that never goes back. */
  readonly now: () => number;
  /** Every decision, for the trace. */
  readonly trace?: ((record: GateRecord) => void) | undefined;
}

export class Gate {
  readonly policy: BoundPolicy;
  readonly sessions = new Set<GateSession>();
  /** The path being looked at; one for all, as everything here is done in one go. */
  readonly path: Path;
  readonly rate: Rate;
  /** Watches and open transactions of all sessions. */
  watches = 0;
  transactions = 0;
  readonly nodes: NodeAccount;
  granted = 0;
  malformed = 0;
  events = 0;
  hidden = 0;
  throttled = 0;
  lost = 0;
  readonly #host: GateHost;
  readonly #denials = new Map<DenialCode, number>();
  #opened = 0;

  /** @param hashSeed a random number: clients must not know it */
  constructor(policy: BoundPolicy, host: GateHost, hashSeed: number) {
    this.policy = policy;
    this.#host = host;
    this.path = new Path(hashSeed);
    this.nodes = new NodeAccount(policy.limits.nodes);
    this.rate = new Rate(policy.limits['requests-per-second'], host.now);
  }

  /** A connection of the client. @param pid for the trace @returns null where it has as many as it may */
  open(pid?: number): GateSession | null {
    const limit = this.policy.limits.connections;
    const isFull = limit !== 0 && this.sessions.size >= limit;
    if (isFull || !this.rate.take()) {
      const reason = isFull ? `${limit} connections are open` : 'too many requests and connections a second';
      this.deny({ id: 0, pid }, 'connect', 'connections', undefined, undefined, reason);
      return null;
    }
    const session = new GateSession(this, ++this.#opened, pid);
    this.sessions.add(session);
    return session;
  }

  counts(): GateCounts {
    const denials = Object.fromEntries([...this.#denials].sort(([a], [b]) => (a < b ? -1 : 1)));
    return {
      connections: this.sessions.size,
      granted: this.granted,
      denied: [...this.#denials.values()].reduce((sum, n) => sum + n, 0),
      malformed: this.malformed,
      denials,
      events: this.events,
      hidden: this.hidden,
      throttled: this.throttled,
      lost: this.lost,
      watches: this.watches,
      transactions: this.transactions,
    };
  }

  // ---- for sessions

  get tracing(): boolean {
    return this.#host.trace !== undefined;
  }

  /** @param errno undefined where the client gets no answer */
  deny(
    who: Pick<GateSession, 'id' | 'pid'>,
    operation: string,
    code: DenialCode,
    errno: string | undefined,
    path: string | undefined,
    reason: string,
  ): void {
    this.#denials.set(code, (this.#denials.get(code) ?? 0) + 1);
    this.trace(who, { operation, verdict: 'denied', code, reason, ...(errno && { errno }), ...(path && { path }) });
  }

  trace(
    { id, pid }: Pick<GateSession, 'id' | 'pid'>,
    what: Omit<GateRecord, 'time' | 'domid' | 'connection' | 'pid'>,
  ): void {
    if (this.#host.trace === undefined) return;
    const { domid } = this.policy.parameters;
    const who = { domid, connection: id, ...(pid !== undefined && { pid }) };
    this.#host.trace({ time: this.#host.now(), ...who, ...what });
  }
}
