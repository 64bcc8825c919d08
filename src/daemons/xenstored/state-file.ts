/**
 * What a daemon leaves behind for the next: a snapshot, and journals of what came after it.
 *
 *     FILE              a migration stream; says which journal follows
 *     FILE.journal-N    that one; N+1 too where a new snapshot was being written when the daemon ended, and so on
 *     FILE.new          such a snapshot, not finished: of no use
 *     FILE.old          the former snapshot, of use only while there is no FILE
 *     FILE.lock         held by the daemon that uses all this
 *     FILE.host         the run of the host whose domains are in it
 */
import {
  closeSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname } from 'node:path';
import { errno, F_SETFD, FD_CLOEXEC, LOCK_EX, LOCK_NB, libc, SystemError } from '../../host/libc.js';
import { UserError } from '../../host/native-library.js';
import { StreamError } from '../../xenstore/migration/records.js';
import type { Restorer } from '../../xenstore/migration/restore.js';
import { parseJournal } from './journal-format.js';

/** Of a file that is removed, given back at once. */
const REMOVE_BYTES = 1 << 20;

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

  get #former(): string {
    return `${this.path}.old`;
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

  /**
   * Domains' numbers mean nothing to another run of a host: what domain 1 owned must not be the next domain 1's.
   * @param run what tells runs apart @throws UserError where the state is another run's
   */
  claimFor(run: string): void {
    const file = `${this.path}.host`;
    const isKept = existsSync(this.path) || existsSync(this.#former);
    if (isKept && existsSync(file) && readFileSync(file, 'utf8') !== run) {
      throw new UserError(
        `the store's state in ${this.path} is of an earlier run of the host: its domains are not those of now. ` +
          `To begin with an empty store, move ${this.path} and ${this.path}.* away`,
      );
    }
    writeFileSync(file, run, { mode: 0o600 });
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
    if (!existsSync(this.path) && existsSync(this.#former)) renameSync(this.#former, this.path);
    if (!existsSync(this.path)) {
      this.#removeStrayJournals();
      return null;
    }
    this.#restore(this.path, () => restorer.stream(readFileSync(this.path)));
    if (restorer.journal === 0) {
      this.#removeStrayJournals();
      return { journal: 0, dropped: 0 };
    }
    this.tidy(restorer.journal);
    let loaded = this.#loadJournal(restorer, restorer.journal);
    while (existsSync(this.journal(loaded.journal + 1))) loaded = this.#loadJournal(restorer, loaded.journal + 1);
    return loaded;
  }

  /**
   * The finished snapshot takes its place. Not by renaming it over the former one: some file systems then write it to the
   * disk first.
   * @returns removes what is superfluous now, a slice a call; true once it is done
   */
  replace(journal: number): () => boolean {
    if (existsSync(this.path)) renameSync(this.path, this.#former);
    renameSync(this.unfinished, this.path);
    const superfluous = [this.#former, ...this.#journalsBefore(journal)].filter((path) => existsSync(path));
    return () => {
      const path = superfluous.at(-1);
      if (path !== undefined && removeSlice(path)) superfluous.pop();
      return superfluous.length === 0;
    };
  }

  /** Removes at once what a snapshot with this journal has made superfluous. */
  tidy(journal: number): void {
    for (const path of [this.#former, ...this.#journalsBefore(journal)]) rmSync(path, { force: true });
  }

  #journalsBefore(journal: number): string[] {
    return this.#journals()
      .filter((number) => number < journal)
      .map((number) => this.journal(number));
  }

  /** Numbers of the journals there are. */
  #journals(): number[] {
    const prefix = `${basename(this.path)}.journal-`;
    const names = readdirSync(dirname(this.path)).filter((name) => name.startsWith(prefix));
    return names.map((name) => Number(name.slice(prefix.length))).filter((number) => Number.isSafeInteger(number));
  }

  /** A daemon that is killed before its first snapshot leaves an empty journal; any other belongs to a lost snapshot. */
  #removeStrayJournals(): void {
    for (const number of this.#journals()) {
      const path = this.journal(number);
      const contents = parseJournal(readFileSync(path), number);
      if (typeof contents === 'string' || contents.payloads.length > 0) {
        throw this.#refusal(path, 'the snapshot that it follows is missing');
      }
      unlinkSync(path);
    }
  }

  #loadJournal(restorer: Restorer, number: number): Loaded {
    const last = !existsSync(this.journal(number + 1));
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
    // Without a whole header it was never written to: it is begun anew.
    if (contents.end > 0) return { journal: number, dropped };
    unlinkSync(path);
    return { journal: number - 1, dropped: 0 };
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

/** Large files are given back bit by bit, so that nobody waits for it. @returns true once it is gone */
function removeSlice(path: string): boolean {
  const { size } = statSync(path);
  if (size > REMOVE_BYTES) truncateSync(path, size - REMOVE_BYTES);
  else unlinkSync(path);
  return size <= REMOVE_BYTES;
}
