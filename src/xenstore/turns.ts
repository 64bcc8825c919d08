/**
 * Turns: how a small transaction gets through beside a busy writer, and how many on the same nodes don't wear each other out.
 *
 * Conflicts are found at the end, so a client who keeps changing a node could make every transaction on it fail (XSA-206).
 * C xenstored slows down all writers, whether they conflict or not. Here only those in the way wait, and only for one who
 * has lost already:
 *
 *     transaction fails with EAGAIN        its paths are remembered as contended
 *     the client starts the next one       it takes a turn on these paths: at once, or after the turns before it (FIFO)
 *     during a turn                        others' changes of these paths wait, so the commit can't conflict with them
 *     the turn ends                        with the transaction, or after TURN_MS: then the client has none for as long
 *
 * A waiting client's requests stay unread in its queue; nobody waits longer than WAIT_MS. Guests never make a privileged
 * client wait. A guest who takes turns and lets them lapse can hold others up half of the time at most, and only on paths
 * that it can access and where it has lost.
 */
import type { Connection } from './connection.js';

const TURN_MS = 10;
const WAIT_MS = 100;
/** How long paths count as contended after anybody was seen to be in the way. */
const CONTENDED_MS = 1000;
const PATHS_MAX = 64;

/** Kept with each connection. */
export interface Contention {
  /** Hashes of the contended paths. Two paths of one hash only means waiting without need. */
  paths: Set<number>;
  /** The same, for looking through. */
  list: readonly number[];
  until: number;
  /** No turn before then: the last one lapsed. */
  pausedUntil: number;
}

interface Turn {
  readonly holder: Connection;
  readonly paths: ReadonlySet<number>;
  readonly until: number;
}

interface Waiter {
  readonly connection: Connection;
  readonly paths: readonly number[];
  /** The same, where it waits for a turn of its own, not only for others to be over. */
  readonly turn: ReadonlySet<number> | null;
  readonly until: number;
}

export class Turns {
  readonly #now: () => number;
  readonly #wake: (connection: Connection) => void;
  #turns: Turn[] = [];
  #waiters: Waiter[] = [];

  constructor(now: () => number, wake: (connection: Connection) => void) {
    this.#now = now;
    this.#wake = wake;
  }

  /** Whether anybody holds a turn: only then changes need asking. */
  get held(): boolean {
    return this.#turns.length > 0;
  }

  /** A transaction failed because of changes to what it used. */
  lost(connection: Connection, paths: Iterable<number>): void {
    const contention = connection.contention ?? { paths: new Set<number>(), list: [], until: 0, pausedUntil: 0 };
    const known = contention.paths.size > PATHS_MAX ? [] : contention.paths;
    contention.paths = new Set(known);
    for (const path of paths) {
      contention.paths.add(path);
      if (contention.paths.size > PATHS_MAX) break;
    }
    contention.list = [...contention.paths];
    contention.until = this.#now() + CONTENDED_MS;
    connection.contention = contention;
  }

  /** Whether a connection may start a transaction now. If not, it is woken when it may. */
  mayStart(connection: Connection): boolean {
    const { contention } = connection;
    if (this.#passes(connection) || contention === null || connection.transactions.size > 0) return true;
    const now = this.#now();
    if (now >= contention.until) {
      connection.contention = null;
      return true;
    }
    if (now < contention.pausedUntil) return true;
    this.#expire(now);
    const { list, paths } = contention;
    if (this.#inTheWay(connection, list, now) || this.#queuedBefore(paths)) {
      this.#wait({ connection, paths: list, turn: paths, until: now + WAIT_MS });
      return false;
    }
    this.#turns.push({ holder: connection, paths, until: now + TURN_MS });
    return true;
  }

  /** Whether a connection may change these paths now. If not, it is woken when it may. */
  mayChange(connection: Connection, paths: readonly number[]): boolean {
    if (this.#passes(connection)) return true;
    const now = this.#now();
    this.#expire(now);
    if (!this.#inTheWay(connection, paths, now)) return true;
    this.#wait({ connection, paths, turn: null, until: now + WAIT_MS });
    return false;
  }

  /** A connection's transaction is over, or the connection. */
  ended(connection: Connection): void {
    if (this.#turns.length === 0) return;
    const before = this.#turns.length;
    this.#turns = this.#turns.filter((t) => t.holder !== connection);
    if (this.#turns.length < before) this.#next();
  }

  /** The connection has gone. */
  forget(connection: Connection): void {
    this.#waiters = this.#waiters.filter((w) => w.connection !== connection);
    this.ended(connection);
  }

  /** Lets turns lapse and waiters go whose time is up. */
  tick(): void {
    const now = this.#now();
    const late = this.#waiters.filter((w) => w.until <= now);
    this.#waiters = this.#waiters.filter((w) => w.until > now);
    for (const { connection } of late) this.#letGo(connection);
    this.#expire(now);
  }

  /** When `tick` has something to do, or null. */
  nextDeadline(): number | null {
    if (this.#waiters.length === 0) return null;
    let next = Number.POSITIVE_INFINITY;
    for (const { until } of this.#turns) if (until < next) next = until;
    for (const { until } of this.#waiters) if (until < next) next = until;
    return next;
  }

  /** A connection that has waited goes on without asking again. */
  #passes(connection: Connection): boolean {
    if (!connection.hasWaited) return false;
    connection.hasWaited = false;
    return true;
  }

  #inTheWay(connection: Connection, paths: readonly number[], now: number): boolean {
    for (const turn of this.#turns) {
      const { holder } = turn;
      if (holder === connection || (connection.privileged && !holder.privileged)) continue;
      if (!paths.some((p) => turn.paths.has(p))) continue;
      if (holder.contention !== null) holder.contention.until = now + CONTENDED_MS;
      return true;
    }
    return false;
  }

  #queuedBefore(mine: ReadonlySet<number>): boolean {
    return this.#waiters.some((w) => w.paths.some((p) => mine.has(p)));
  }

  #wait(waiter: Waiter): void {
    waiter.connection.parked = true;
    this.#waiters.push(waiter);
  }

  #expire(now: number): void {
    if (!this.#turns.some((t) => t.until <= now)) return;
    for (const { holder, until } of this.#turns) {
      if (until <= now && holder.contention !== null) holder.contention.pausedUntil = now + TURN_MS;
    }
    this.#turns = this.#turns.filter((t) => t.until > now);
    this.#next();
  }

  /** Lets everybody go, in order, who isn't blocked by the turns that are left or by those granted on the way. */
  #next(): void {
    const now = this.#now();
    const waiters = this.#waiters;
    this.#waiters = [];
    const released: Connection[] = [];
    for (const waiter of waiters) {
      const { connection, paths, turn } = waiter;
      if (this.#inTheWay(connection, paths, now)) {
        this.#waiters.push(waiter);
        continue;
      }
      if (turn !== null) this.#turns.push({ holder: connection, paths: turn, until: now + TURN_MS });
      released.push(connection);
    }
    for (const connection of released) this.#letGo(connection);
  }

  #letGo(connection: Connection): void {
    connection.parked = false;
    connection.hasWaited = true;
    this.#wake(connection);
  }
}
