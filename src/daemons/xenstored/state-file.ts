/**
 * What a daemon leaves behind for the next: a snapshot, and journals of what came after it.
 *
 *     FILE              a migration stream; says which journal follows
 *     FILE.journal-N    that one; N+1 too where a new snapshot was being written when the daemon ended, and so on
 *     FILE.new          such a snapshot, not finished: of no use
 *     FILE.lock         held by the daemon that uses all this
 */
import { closeSync, existsSync, openSync, readFileSync, truncateSync, unlinkSync } from 'node:fs';
import { errno, FD_CLOEXEC, F_SETFD, LOCK_EX, LOCK_NB, libc, SystemError } from '../../host/libc.js';
import { UserError } from '../../host/native-library.js';
import { StreamError } from '../../xenstore/migration/records.js';
import type { Restorer } from '../../xenstore/migration/restore.js';
import { parseJournal } from './journal-format.js';

export interface Loaded {
  /** The last journal that exists. */
  readonly journal: number;
  /** Bytes of an unfinished frame that were dropped. */
  readonly dropped: number;
}

export class StateFile {
  #lock: number | null = null;

  constructor(readonly path: string) {}

  get unfinished(): string {
    return `${this.path}.new`;
  }

  journal(number: number): string {
    return `${this.path}.journal-${number}`;
  }

  /** @throws UserError where another daemon has it */
  lock(): void {
    const fd = openSync(`${this.path}.lock`, 'a', 0o600);
    libc.dup(fd, F_SETFD, FD_CLOEXEC);
    if (libc.flock(fd, LOCK_EX | LOCK_NB) < 0) {
      const error = new SystemError('flock', errno(), `${this.path}.lock`);
      closeSync(fd);
      throw new UserError(`another daemon keeps its state in ${this.path} (${error.message})`);
    }
    this.#lock = fd;
  }

  unlock(): void {
    if (this.#lock !== null) closeSync(this.#lock);
    this.#lock = null;
  }

  /**
   * Reads all of it. Cuts off what was not finished.
   * @returns null where there is nothing yet @throws UserError where something is damaged: nothing was changed then
   */
  load(restorer: Restorer): Loaded | null {
    if (!existsSync(this.path)) {
      if (existsSync(this.journal(1))) throw this.#refusal(this.path, 'it is missing, and there is a journal for it');
      return null;
    }
    this.#restore(this.path, () => restorer.stream(readFileSync(this.path)));
    const first = restorer.journal;
    if (first === 0) return { journal: 0, dropped: 0 };
    let number = first;
    let dropped = 0;
    for (; number === first || existsSync(this.journal(number)); number++) {
      const last = !existsSync(this.journal(number + 1));
      dropped = this.#loadJournal(restorer, number, last);
    }
    return { journal: number - 1, dropped };
  }

  /** Removes what the snapshot with this journal has made superfluous. */
  removeBefore(journal: number): void {
    for (let number = journal - 1; existsSync(this.journal(number)); number--) unlinkSync(this.journal(number));
  }

  #loadJournal(restorer: Restorer, number: number, last: boolean): number {
    const path = this.journal(number);
    if (!existsSync(path)) throw this.#refusal(path, 'it is missing');
    const bytes = readFileSync(path);
    const contents = parseJournal(bytes, number);
    if (typeof contents === 'string') throw this.#refusal(path, contents);
    const dropped = bytes.length - contents.end;
    if (dropped > 0 && !last) throw this.#refusal(path, `it is damaged at offset ${contents.end}`);
    this.#restore(path, () => {
      for (const payload of contents.payloads) restorer.frame(payload);
    });
    if (dropped > 0 && contents.end > 0) truncateSync(path, contents.end);
    // Without a whole header it was never written to: the next daemon begins it anew.
    if (contents.end === 0) unlinkSync(path);
    return dropped;
  }

  #restore(path: string, run: () => void): void {
    try {
      run();
    } catch (error) {
      if (!(error instanceof StreamError)) throw error;
      throw this.#refusal(path, error.message);
    }
  }

  #refusal(path: string, why: string): UserError {
    return new UserError(
      `the store's state can't be taken from ${path}: ${why}. Nothing was changed; ` +
        `to begin with an empty store, move ${this.path} and ${this.path}.journal-* away`,
    );
  }
}
