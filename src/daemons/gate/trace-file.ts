/** The gate's trace: one JSON object a line for every decision. Written when the gate has nothing else to do. */
import { closeSync, openSync, writeSync } from 'node:fs';
import type { GateRecord } from '../../xenstore/gate/denials.js';

const FLUSH_CHARACTERS = 1 << 16;

export class GateTrace {
  private readonly fd: number;
  private pending = '';

  constructor(file: string) {
    this.fd = openSync(file, 'a', 0o600);
  }

  write(record: GateRecord): void {
    this.pending += `${JSON.stringify({ ...record, time: performance.timeOrigin + record.time })}\n`;
    if (this.pending.length >= FLUSH_CHARACTERS) this.flush();
  }

  flush(): void {
    if (this.pending === '') return;
    writeSync(this.fd, this.pending);
    this.pending = '';
  }

  close(): void {
    this.flush();
    closeSync(this.fd);
  }
}
