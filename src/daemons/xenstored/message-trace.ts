/** The daemon's trace: every message and every denial as one JSON object a line. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { messageRecord } from '../../host/xenstore-trace.js';
import type { Denial } from '../../xenstore/quotas.js';
import type { TracedMessage } from '../../xenstore/server.js';

const FLUSH_CHARACTERS = 1 << 16;

export class MessageTrace {
  readonly #fd: number;
  #pending = '';

  constructor(path: string) {
    this.#fd = openSync(path, 'a', 0o600);
  }

  message(message: TracedMessage): void {
    this.#write(messageRecord(message));
  }

  denial({ what, domid, errno, reason }: Denial): void {
    this.#write({ device: 'xenstore', denied: what, domid, errno, reason });
  }

  flush(): void {
    if (this.#pending === '') return;
    writeSync(this.#fd, this.#pending);
    this.#pending = '';
  }

  close(): void {
    this.flush();
    closeSync(this.#fd);
  }

  #write(record: object): void {
    this.#pending += `${JSON.stringify({ time: performance.timeOrigin + performance.now(), ...record })}\n`;
    if (this.#pending.length >= FLUSH_CHARACTERS) this.flush();
  }
}
