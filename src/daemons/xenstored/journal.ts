/**
 * Keeps what is acknowledged: whatever a batch of requests has changed is in the journal's file before any of their
 * replies leaves. One write(2) a batch, whatever its size.
 *
 * That survives the end of the process at any moment. It survives the end of the machine only with `sync` (fdatasync
 * after each write): domains don't survive that either.
 *
 *     journal N ──(larger than the snapshot)──▶ journal N+1 begins, and a snapshot of that moment is written beside, a
 *                                               slice between rounds of requests ──▶ it replaces the old one; N goes
 */
import { closeSync, fdatasyncSync, fsyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Reactor } from '../../host/reactor.js';
import { SlicedDump } from '../../xenstore/migration/dump.js';
import { JournalRecords } from '../../xenstore/migration/journal.js';
import type { XenstoreServer } from '../../xenstore/server.js';
import { FILE_HEADER_SIZE, FRAME_HEADER_SIZE, fileHeader, frame } from './journal-format.js';
import type { StateFile } from './state-file.js';

/** A journal may always grow to this, however small the store is. */
const JOURNAL_MIN_BYTES = 1 << 20;
/** Of a snapshot, written between two rounds. */
const SLICE_BYTES = 1 << 14;
/** A journal may grow to this many times the size of the snapshot. */
const JOURNAL_TIMES = 2;

interface Snapshot {
  readonly dump: SlicedDump;
  readonly fd: number;
  bytes: number;
}

export class Journal {
  readonly #server: XenstoreServer;
  readonly #files: StateFile;
  readonly #reactor: Reactor;
  readonly #sync: boolean;
  readonly #records: JournalRecords;
  #number: number;
  #fd = -1;
  #bytes = 0;
  #snapshotBytes = 0;
  #snapshot: Snapshot | null = null;

  /** @param last number of the last journal there is */
  constructor(server: XenstoreServer, files: StateFile, reactor: Reactor, last: number, sync: boolean) {
    this.#server = server;
    this.#files = files;
    this.#reactor = reactor;
    this.#sync = sync;
    this.#number = last;
    this.#records = new JournalRecords(server, FRAME_HEADER_SIZE);
  }

  get number(): number {
    return this.#number;
  }

  /** From now on every change is kept. With `atOnce` the first snapshot is complete when this returns. */
  start(atOnce: boolean): void {
    this.#beginSnapshot();
    this.#server.store.observer = this.#records;
    if (atOnce) while (!this.#sliceDone()) {}
  }

  /** Before replies leave. */
  write(): void {
    if (this.#records.length === 0) return;
    const bytes = this.#records.bytes();
    frame(bytes);
    writeAll(this.#fd, bytes);
    if (this.#sync) fdatasyncSync(this.#fd);
    this.#bytes += bytes.length;
    this.#records.clear();
    if (this.#snapshot === null && this.#bytes > this.#limit) this.#beginSnapshot();
  }

  get #limit(): number {
    return Math.max(JOURNAL_MIN_BYTES, JOURNAL_TIMES * this.#snapshotBytes);
  }

  /** Nothing is kept any more. With `snapshot`, one file then holds it all. */
  stop(snapshot: boolean): void {
    this.write();
    this.#server.store.observer = null;
    this.#abandon();
    if (snapshot) {
      this.#beginSnapshot();
      while (!this.#sliceDone()) {}
      this.#files.tidy(this.#number);
    }
    closeSync(this.#fd);
  }

  /** The new journal's file is there before the snapshot that names it; all that comes later is in it. */
  #beginSnapshot(): void {
    const number = this.#number + 1;
    const fd = openSync(this.#files.journal(number), 'w', 0o600);
    writeAll(fd, fileHeader(number));
    if (this.#fd >= 0) closeSync(this.#fd);
    this.#fd = fd;
    this.#number = number;
    this.#bytes = FILE_HEADER_SIZE;
    this.#snapshot = {
      dump: new SlicedDump(this.#server, { extensions: true, journal: number }),
      fd: openSync(this.#files.unfinished, 'w', 0o600),
      bytes: 0,
    };
    const begun = this.#snapshot;
    this.#reactor.queue(() => this.#snapshot !== begun || this.#sliceDone());
  }

  #sliceDone(): boolean {
    const snapshot = this.#snapshot;
    if (snapshot === null) return true;
    const { chunk, done } = snapshot.dump.step(SLICE_BYTES);
    writeAll(snapshot.fd, chunk);
    snapshot.bytes += chunk.length;
    if (!done) return false;
    if (this.#sync) fsyncSync(snapshot.fd);
    closeSync(snapshot.fd);
    this.#reactor.queue(this.#files.replace(this.#number));
    if (this.#sync) syncDirectory(dirname(this.#files.path));
    this.#snapshotBytes = snapshot.bytes;
    this.#snapshot = null;
    return true;
  }

  #abandon(): void {
    if (this.#snapshot === null) return;
    this.#snapshot.dump.close();
    closeSync(this.#snapshot.fd);
    rmSync(this.#files.unfinished, { force: true });
    this.#snapshot = null;
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at);
}

function syncDirectory(path: string): void {
  const fd = openSync(path, 'r');
  fsyncSync(fd);
  closeSync(fd);
}
