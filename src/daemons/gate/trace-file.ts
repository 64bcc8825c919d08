/**
 * The gate's trace: one JSON object a line for every decision. Written when the gate has nothing else to do.
 *
 * The client drives it, so it has a limit a second; what is left out is counted in the trace itself.
 */
import { closeSync, openSync, writeSync } from 'node:fs';
import type { GateRecord } from '../../xenstore/gate/denials.js';

const FLUSH_CHARACTERS = 1 << 16;
export const RECORDS_PER_SECOND = 5000;

export class GateTrace {
  private readonly fd: number;
  private pending = '';
  private second = 0;
  private written = 0;
  private skipped = 0;

  constructor(file: string) {
    this.fd = openSync(file, 'a', 0o600);
  }

  write(record: GateRecord): void {
    const second = Math.floor(record.time / 1000);
    if (second !== this.second) this.begin(second);
    if (this.written >= RECORDS_PER_SECOND) {
      this.skipped++;
      return;
    }
    this.written++;
    this.pending += `${JSON.stringify({ ...record, time: performance.timeOrigin + record.time })}\n`;
    if (this.pending.length >= FLUSH_CHARACTERS) this.flush();
  }

  /** A new second. */
  private begin(second: number): void {
    if (this.skipped > 0) this.pending += `${JSON.stringify({ skipped: this.skipped })}\n`;
    this.second = second;
    this.written = 0;
    this.skipped = 0;
  }

  flush(): void {
    if (this.pending === '') return;
    writeSync(this.fd, this.pending);
    this.pending = '';
  }

  close(): void {
    this.begin(0);
    this.flush();
    closeSync(this.fd);
  }
}
