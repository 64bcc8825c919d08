/**
 * An open file of /dev/xen/xenbus: one program's requests among everybody's. Its transactions, its watches and its replies
 * are its own; what it leaves open is ended when it is closed.
 *
 *     open ──(release)──▶ closed, requests still on their way ──(the last reply)──▶ watches and transactions are ended
 *       └──(a message no buffer holds, or 4 MiB that nobody reads)──▶ failed: the program finds its file at its end
 *
 * Trusts neither the program nor the daemon. While too much of it is outstanding or unread, it takes no more input.
 *
 * Types it does not know are passed on like any others: so is RESTRICT, which then restricts the kernel's connection, with
 * everybody who is behind it.
 *
 * @spec linux:drivers/xen/xenbus/xenbus_dev_frontend.c
 * @deviates The file is a stream: several requests may come in one write, where Linux drops all after the first. A write
 *   cannot fail: a message above 4080 bytes of payload (Linux: E2BIG, EINVAL) ends the file; a watch that the daemon refuses
 *   is answered with that error (Linux: the write fails with it, which libxenstore takes for the end of the connection). And
 *   everything is bounded.
 */
import {
  XENSTORE_PAYLOAD_MAX,
  XS_ERROR,
  XS_HEADER_SIZE,
  XS_TRANSACTION_END,
  XS_TRANSACTION_START,
  XS_UNWATCH,
  XS_WATCH,
  XS_WATCH_EVENT,
} from '../abi/xs-wire.js';
import type { KernelWatch, XenbusComms } from './xenbus-comms.js';
import { latin1, message } from './xenbus-message.js';

/** One message, header included: what Linux's driver has a buffer for. */
const BUFFER_BYTES = XENSTORE_PAYLOAD_MAX;
const MAX_OUTSTANDING = 64;
const MAX_WATCHES = 8192;
const MAX_TRANSACTIONS = 1024;
/** With more than this unread, requests wait. */
const OUTPUT_PAUSE_BYTES = 64 << 10;
/** With more than this unread, nobody reads any more. */
const OUTPUT_MAX_BYTES = 4 << 20;

const OK = latin1('OK\0');
const NOTHING = new Uint8Array(0);

interface Watch extends KernelWatch {
  /** The program's own, with the nul. */
  readonly token: Uint8Array;
}

/** What the holder of the file is told. Both may come in the middle of a call on it. */
export interface XenbusHolder {
  /** There is output, or input is wanted again. */
  ready(): void;
  /** The file is over, for this reason. */
  failed(reason: string): void;
}

export class XenbusFile {
  private readonly input = new Uint8Array(BUFFER_BYTES);
  private inputSize = 0;
  private output: Uint8Array[] = [];
  /** The message that is read next, and how much of it has been. */
  private outputAt = 0;
  private outputTaken = 0;
  private outputSize = 0;
  private readonly transactions = new Set<number>();
  /** By path and token. The kernel's tokens are never the same, so a watch can be set twice, as on Linux. */
  private readonly watches = new Map<string, Watch[]>();
  nrWatches = 0;
  private outstanding = 0;
  /** A watch is being set or ended: what was written after it waits, as behind Linux's lock. */
  private waitsForWatch = false;
  /** A whole request waits for its turn at the ring. */
  private inLine = false;
  private closed = false;
  private working = false;
  private readonly wake = (): void => this.work();

  constructor(
    private readonly comms: XenbusComms,
    private readonly holder: XenbusHolder,
  ) {}

  get nrTransactions(): number {
    return this.transactions.size;
  }

  /** Bytes that may be given to `write` now. */
  get room(): number {
    return this.closed || this.isHeld || this.inLine ? 0 : BUFFER_BYTES - this.inputSize;
  }

  /** Data that the program has written, at most `room` bytes. */
  write(data: Uint8Array): void {
    this.input.set(data, this.inputSize);
    this.inputSize += data.length;
    this.work();
  }

  /** What the program may read now: the rest of one message. */
  get readable(): Uint8Array {
    return this.output[this.outputAt]?.subarray(this.outputTaken) ?? NOTHING;
  }

  /** The program has read this many bytes of it. */
  taken(count: number): void {
    this.outputTaken += count;
    this.outputSize -= count;
    if (this.outputTaken === this.output[this.outputAt]?.length) {
      this.outputAt++;
      this.outputTaken = 0;
      if (this.outputAt === this.output.length) this.dropOutput();
    }
    this.work();
  }

  /** The last descriptor is gone. */
  release(): void {
    if (this.closed) return;
    this.closed = true;
    this.comms.forgetStalled(this.wake);
    this.inputSize = 0;
    this.dropOutput();
    if (this.outstanding === 0) this.cleanUp();
  }

  private dropOutput(): void {
    this.output = [];
    this.outputAt = 0;
    this.outputTaken = 0;
    this.outputSize = 0;
  }

  /** Ends what the program has left open. */
  private cleanUp(): void {
    for (const id of this.transactions) this.comms.send(XS_TRANSACTION_END, id, latin1('F\0'), () => {});
    for (const watch of [...this.watches.values()].flat()) this.comms.unwatch(watch, () => {});
    this.transactions.clear();
    this.watches.clear();
    this.nrWatches = 0;
  }

  /** Whether its own requests have to be answered, or its replies read, before it goes on. */
  private get isHeld(): boolean {
    return this.waitsForWatch || this.outstanding >= MAX_OUTSTANDING || this.outputSize > OUTPUT_PAUSE_BYTES;
  }

  /** Serves what is complete of the input, as far as it may. */
  private work(): void {
    if (this.working || this.closed) return;
    this.working = true;
    this.inLine = false;
    let at = 0;
    const view = new DataView(this.input.buffer);
    while (this.inputSize - at >= XS_HEADER_SIZE && !this.isHeld && !this.closed) {
      const length = view.getUint32(at + 12, true);
      if (XS_HEADER_SIZE + length > BUFFER_BYTES) {
        this.fail(`a message of ${length} bytes`);
        break;
      }
      const end = at + XS_HEADER_SIZE + length;
      if (end > this.inputSize) break;
      if (!this.comms.accepts) {
        this.inLine = true;
        this.comms.whenAccepting(this.wake);
        break;
      }
      const [type, id, tx] = [0, 4, 8].map((field) => view.getUint32(at + field, true)) as [number, number, number];
      this.serve(type, id, tx, this.input.slice(at + XS_HEADER_SIZE, end));
      at = end;
    }
    this.working = false;
    if (this.closed) return;
    if (at > 0) {
      this.input.copyWithin(0, at, this.inputSize);
      this.inputSize -= at;
    }
    this.holder.ready();
  }

  private serve(type: number, id: number, tx: number, payload: Uint8Array): void {
    if (type === XS_WATCH || type === XS_UNWATCH) return this.serveWatch(type, id, tx, payload);
    const refusal = this.refusal(type, tx, payload);
    if (refusal !== undefined) return this.reply(XS_ERROR, id, tx, latin1(`${refusal}\0`));
    this.ask(() => {
      this.comms.send(type, tx, payload, (replyType, reply) => {
        this.noteTransaction(type, tx, replyType, reply);
        this.answered(replyType, id, tx, reply);
      });
    });
  }

  /** What the driver itself says no to: transactions that are not this file's. */
  private refusal(type: number, tx: number, payload: Uint8Array): string | undefined {
    if (type === XS_TRANSACTION_START) return this.transactions.size < MAX_TRANSACTIONS ? undefined : 'ENOSPC';
    if (tx !== 0 && !this.transactions.has(tx)) return 'ENOENT';
    if (type !== XS_TRANSACTION_END) return undefined;
    return payload.length === 2 && payload[1] === 0 && (payload[0] === 0x54 || payload[0] === 0x46)
      ? undefined
      : 'EINVAL';
  }

  private noteTransaction(type: number, tx: number, replyType: number, reply: Uint8Array): void {
    if (type === XS_TRANSACTION_END) this.transactions.delete(tx);
    if (type !== XS_TRANSACTION_START || replyType !== type) return;
    const text = /^(\d{1,10})\0?$/.exec(String.fromCharCode(...reply.subarray(0, 12)))?.[1];
    if (text !== undefined && Number(text) <= 0xffffffff) this.transactions.add(Number(text));
  }

  private serveWatch(type: number, id: number, tx: number, payload: Uint8Array): void {
    const endOfPath = payload.indexOf(0) + 1;
    const endOfToken = payload.indexOf(0, endOfPath) + 1;
    if (endOfPath === 0 || endOfToken === 0) return this.reply(XS_ERROR, id, tx, latin1('EINVAL\0'));
    const key = String.fromCharCode(...payload.subarray(0, endOfToken));
    const path = payload.subarray(0, endOfPath);
    const token = payload.subarray(endOfPath, endOfToken);
    if (type === XS_WATCH) this.watch(key, { path, token, fired: (at) => this.fired(token, at) }, id, tx);
    else this.unwatch(key, id, tx);
  }

  private watch(key: string, watch: Watch, id: number, tx: number): void {
    if (this.nrWatches >= MAX_WATCHES) return this.reply(XS_ERROR, id, tx, latin1('E2BIG\0'));
    this.waitsForWatch = true;
    this.nrWatches++; // from now on, so that a file closed meanwhile still knows of it
    const same = this.watches.get(key);
    if (same) same.push(watch);
    else this.watches.set(key, [watch]);
    this.ask(() => {
      this.comms.watch(watch, (type, payload) => {
        this.waitsForWatch = false;
        if (type !== XS_WATCH) this.takeWatch(key);
        this.answered(type, id, tx, type === XS_WATCH ? OK : payload);
      });
    });
  }

  /** One that is not set is answered OK, too, as by Linux. */
  private unwatch(key: string, id: number, tx: number): void {
    const watch = this.takeWatch(key);
    if (watch === undefined) return this.reply(XS_UNWATCH, id, tx, OK);
    this.waitsForWatch = true;
    this.ask(() => {
      this.comms.unwatch(watch, () => {
        this.waitsForWatch = false;
        this.answered(XS_UNWATCH, id, tx, OK);
      });
    });
  }

  /** Forgets the watch that was set last under this path and token. */
  private takeWatch(key: string): Watch | undefined {
    const same = this.watches.get(key);
    const watch = same?.pop();
    if (watch) this.nrWatches--;
    if (same?.length === 0) this.watches.delete(key);
    return watch;
  }

  private ask(send: () => void): void {
    this.outstanding++;
    send();
  }

  private answered(type: number, id: number, tx: number, payload: Uint8Array): void {
    this.outstanding--;
    if (!this.closed) {
      this.reply(type, id, tx, payload);
      this.work();
    } else if (this.outstanding === 0) {
      this.cleanUp();
    }
  }

  private fired(token: Uint8Array, path: Uint8Array): void {
    if (this.closed) return;
    const payload = new Uint8Array(path.length + token.length);
    payload.set(path);
    payload.set(token, path.length);
    this.reply(XS_WATCH_EVENT, 0, 0, payload);
    if (!this.closed) this.holder.ready();
  }

  private reply(type: number, id: number, tx: number, payload: Uint8Array): void {
    const bytes = message(type, id, tx, payload);
    if (this.outputSize + bytes.length > OUTPUT_MAX_BYTES) return this.fail(`${this.outputSize} bytes unread`);
    this.output.push(bytes);
    this.outputSize += bytes.length;
  }

  private fail(reason: string): void {
    this.release();
    this.holder.failed(reason);
  }
}
