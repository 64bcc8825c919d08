/**
 * The open snapshots (one a transaction), and what the store keeps for their sake.
 *
 * A snapshot is a generation count, so opening one costs nothing and a thousand open ones slow nobody down: a writer keeps
 * the state it replaces only if the newest snapshot can see it. What is kept hangs on the newest snapshot that sees it.
 * When that one closes, each of its versions goes to the next older one that sees it, or is dropped:
 *
 *     kept ──(its snapshot closes)──▶ closed, waiting ──(collect)──┬──▶ kept by the next older that sees it
 *                                                                  └──▶ dropped: nobody sees it
 *
 * So nothing is looked at twice for the same snapshot, however long others stay open; an old snapshot pins at most one
 * state a node; and as `collect` looks at a few at a time, no single request pays for clearing up.
 */
import type { Version } from './node.js';

interface Snapshot {
  readonly generation: number;
  /** Transactions that started at this generation. */
  holders: number;
  /** Versions whose newest viewer this is. */
  kept: Version | null;
}

export class Snapshots {
  /** By generation. */
  readonly #open: Snapshot[] = [];
  /** Closed ones whose versions are still to be looked at. */
  readonly #closed: Snapshot[] = [];
  #count = 0;
  #kept = 0;
  /** Generation of the newest open snapshot, or -1. */
  newest = -1;

  /** How many are open. */
  get count(): number {
    return this.#count;
  }

  /** How many versions are kept. */
  get kept(): number {
    return this.#kept;
  }

  /** Whether `collect` has something to do. */
  get pending(): boolean {
    return this.#closed.length > 0;
  }

  open(generation: number): void {
    this.#count++;
    if (this.newest === generation) {
      (this.#open[this.#open.length - 1] as Snapshot).holders++;
    } else {
      this.#open.push({ generation, holders: 1, kept: null });
      this.newest = generation;
    }
  }

  close(generation: number): void {
    const i = this.newest === generation ? this.#open.length - 1 : this.#firstAtLeast(generation);
    const snapshot = this.#open[i];
    if (snapshot?.generation !== generation) throw new Error(`no snapshot ${generation} is open`);
    this.#count--;
    if (--snapshot.holders > 0) return;
    if (i === this.#open.length - 1) this.#open.pop();
    else this.#open.splice(i, 1);
    this.newest = this.#open[this.#open.length - 1]?.generation ?? -1;
    if (snapshot.kept !== null) this.#closed.push(snapshot);
  }

  /** Keeps a version that the newest snapshot sees and that has just been replaced: later ones won't see it. */
  keep(version: Version): void {
    const newest = this.#open[this.#open.length - 1];
    if (newest === undefined || newest.generation < version.generation)
      throw new Error('no snapshot sees this version');
    version.nextKept = newest.kept;
    newest.kept = version;
    this.#kept++;
  }

  /** Looks at up to `limit` versions of closed snapshots; `drop` is called for those that nobody sees any more. */
  collect(limit: number, drop: (version: Version) => void): void {
    let left = limit;
    while (left > 0 && this.#closed.length > 0) {
      const closed = this.#closed[this.#closed.length - 1] as Snapshot;
      const older = this.#open[this.#firstAtLeast(closed.generation) - 1];
      for (; left > 0 && closed.kept !== null; left--) {
        const version: Version = closed.kept;
        closed.kept = version.nextKept;
        if (older !== undefined && older.generation >= version.generation) {
          version.nextKept = older.kept;
          older.kept = version;
        } else {
          version.nextKept = null;
          this.#kept--;
          drop(version);
        }
      }
      if (closed.kept === null) this.#closed.pop();
    }
  }

  #firstAtLeast(generation: number): number {
    let low = 0;
    let high = this.#open.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#open[middle] as Snapshot).generation < generation) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
