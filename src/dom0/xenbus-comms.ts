/**
 * The kernel's one connection to the XenStore daemon: requests of everybody go into one ring, replies come out of it and
 * find their way back by request ids that this file gives out, events by tokens that it makes up. The daemon sees one
 * client.
 *
 *     request ─▶ queued ─▶ (ring has room) ─▶ sent ─▶ (reply with its id) ─▶ done
 *
 * Trusts nobody: the daemon may be another domain. Indexes that make no sense empty the ring, as Linux does; a reply
 * nobody waits for and an event of no known watch are dropped.
 *
 * What has been sent to a daemon that has died is never answered, as on Linux: the ring stays, and a new daemon goes on
 * with what it finds there.
 *
 * @spec linux:drivers/xen/xenbus/xenbus_comms.c, xenbus_xs.c
 */
import {
  XENSTORE_PAYLOAD_MAX,
  XENSTORE_RING_SIZE,
  XS_ERROR,
  XS_HEADER_SIZE,
  XS_UNWATCH,
  XS_WATCH,
  XS_WATCH_EVENT,
} from '../abi/xs-wire.js';
import { BROKEN, type RingPage } from '../boundary/byte-ring.js';
import { latin1, message } from './xenbus-message.js';

/** With more than this not yet in the ring, nobody may ask for more. */
const QUEUE_PAUSE_BYTES = 1 << 20;

/** Times the ring is filled and emptied at a stretch: a daemon that never stops must not hold everything else up. */
const MAX_ROUNDS = 8;

/** Takes a reply: its type and its payload, which is the taker's to keep. */
export type ReplyTaker = (type: number, payload: Uint8Array) => void;

/** A watch of the kernel's. `fired` gets the path of each event. */
export interface KernelWatch {
  /** With the nul. */
  readonly path: Uint8Array;
  readonly fired: (path: Uint8Array) => void;
}

interface Queued {
  readonly id: number;
  readonly bytes: Uint8Array;
}

export class XenbusComms {
  private queue: Queued[] = [];
  private queuedBytes = 0;
  /** Bytes of the queue's first message that are in the ring already. */
  private written = 0;
  private readonly waiting = new Map<number, ReplyTaker>();
  private readonly watches = new Map<string, KernelWatch>();
  private readonly tokens = new Map<KernelWatch, string>();
  private readonly stalled = new Set<() => void>();
  private readonly chunk = new Uint8Array(XENSTORE_RING_SIZE);
  /** The message that is coming in: its header, then all of it. */
  private incoming = new Uint8Array(XS_HEADER_SIZE);
  private received = 0;
  private nextId = 1;
  private nextToken = 1;
  /** Events that have come, for after the replies that came with them: Linux hands them to a thread of its own. */
  private events: (() => void)[] = [];
  private pumping = false;
  /** It is the turn of one who stood in line. */
  private waking = false;

  /**
   * @param notify rings the daemon
   * @param later has `pump` called again soon, after whatever else waits
   */
  constructor(
    private readonly page: RingPage,
    private readonly notify: () => void,
    private readonly later: () => void,
  ) {}

  /** Whether a request may come that somebody could wait with. Not while others stand in line: they come first. */
  get accepts(): boolean {
    return this.queuedBytes < QUEUE_PAUSE_BYTES && (this.waking || this.stalled.size === 0);
  }

  /** Requests that the daemon has not answered. */
  get nrWaiting(): number {
    return this.waiting.size;
  }

  get nrWatches(): number {
    return this.watches.size;
  }

  /** Puts a file in line: calls back, once, when it is its turn. */
  whenAccepting(wake: () => void): void {
    this.stalled.add(wake);
  }

  forgetStalled(wake: () => void): void {
    this.stalled.delete(wake);
  }

  /** Sends a request, whose payload is copied. @param done called once, unless the daemon never answers */
  send(type: number, transactionId: number, payload: Uint8Array, done: ReplyTaker): void {
    const id = this.newId();
    const bytes = message(type, id, transactionId, payload);
    this.waiting.set(id, done);
    this.queue.push({ id, bytes });
    this.queuedBytes += bytes.length;
    this.pump();
  }

  /** Sets a watch under a token of the kernel's own. */
  watch(watch: KernelWatch, done: ReplyTaker): void {
    const token = (this.nextToken++).toString(16).toUpperCase();
    this.watches.set(token, watch);
    this.tokens.set(watch, token);
    this.send(XS_WATCH, 0, withToken(watch.path, token), (type, payload) => {
      if (type !== XS_WATCH) this.forget(watch);
      done(type, payload);
    });
  }

  /** Ends a watch: nothing is fired from here on, whatever the daemon still sends. */
  unwatch(watch: KernelWatch, done: ReplyTaker): void {
    const token = this.tokens.get(watch) as string;
    this.forget(watch);
    this.send(XS_UNWATCH, 0, withToken(watch.path, token), done);
  }

  /** The daemon has rung, or there may be room in the ring. */
  pump(): void {
    if (this.pumping) return; // by somebody whom a reply or an event has told: the loop below goes on for them
    this.pumping = true;
    let moved = true;
    for (let round = 0; moved && round < MAX_ROUNDS; round++) {
      const wrote = this.write();
      const read = this.read();
      moved = wrote || read;
      if (moved) this.notify();
      this.fireEvents();
      this.wakeStalled();
    }
    this.pumping = false;
    if (moved) this.later();
  }

  private newId(): number {
    while (this.waiting.has(this.nextId)) this.nextId = (this.nextId + 1) >>> 0;
    const id = this.nextId;
    this.nextId = (id + 1) >>> 0;
    return id;
  }

  private forget(watch: KernelWatch): void {
    const token = this.tokens.get(watch);
    if (token === undefined) return;
    this.tokens.delete(watch);
    this.watches.delete(token);
  }

  private write(): boolean {
    let any = false;
    let done = 0;
    for (const { id, bytes } of this.queue) {
      const count = this.page.requests.write(bytes.subarray(this.written));
      if (count === BROKEN) {
        this.page.requests.reset();
        this.written = 0;
        done++;
        this.queuedBytes -= bytes.length;
        this.finish(id, XS_ERROR, latin1('EIO\0'));
        break;
      }
      any ||= count > 0;
      this.written += count;
      if (this.written < bytes.length) break;
      this.written = 0;
      this.queuedBytes -= bytes.length;
      done++;
    }
    if (done > 0) this.queue.splice(0, done);
    return any;
  }

  private read(): boolean {
    const count = this.page.replies.read(this.chunk);
    if (count === BROKEN) {
      this.page.replies.reset();
      this.forgetIncoming();
      return false;
    }
    for (let at = 0; at < count; ) at += this.take(this.chunk.subarray(at, count));
    return count > 0;
  }

  /** Takes bytes of one message. @returns how many */
  private take(bytes: Uint8Array): number {
    const header = this.received < XS_HEADER_SIZE;
    const wanted = header ? XS_HEADER_SIZE : this.incoming.length;
    const part = bytes.subarray(0, wanted - this.received);
    this.incoming.set(part, this.received);
    this.received += part.length;
    if (this.received < wanted) return part.length;
    const view = new DataView(this.incoming.buffer);
    const length = view.getUint32(12, true);
    if (header && length > XENSTORE_PAYLOAD_MAX) {
      this.received = 0; // there is no telling where the next one starts: as Linux, try at once
    } else if (header && length > 0) {
      const whole = new Uint8Array(XS_HEADER_SIZE + length);
      whole.set(this.incoming.subarray(0, XS_HEADER_SIZE));
      this.incoming = whole;
    } else {
      const { incoming } = this;
      this.forgetIncoming();
      this.dispatch(view.getUint32(0, true), view.getUint32(4, true), incoming.subarray(XS_HEADER_SIZE));
    }
    return part.length;
  }

  private forgetIncoming(): void {
    this.incoming = new Uint8Array(XS_HEADER_SIZE);
    this.received = 0;
  }

  private dispatch(type: number, id: number, payload: Uint8Array): void {
    if (type === XS_WATCH_EVENT) this.queueEvent(payload);
    else this.finish(id, type, payload);
  }

  private finish(id: number, type: number, payload: Uint8Array): void {
    const done = this.waiting.get(id);
    this.waiting.delete(id);
    done?.(type, payload);
  }

  /** An event is a path and a token, and nothing else. */
  private queueEvent(payload: Uint8Array): void {
    const end = payload.indexOf(0);
    if (end < 0 || payload.indexOf(0, end + 1) !== payload.length - 1) return;
    const token = String.fromCharCode(...payload.subarray(end + 1, payload.length - 1));
    this.events.push(() => this.watches.get(token)?.fired(payload.subarray(0, end + 1)));
  }

  private fireEvents(): void {
    if (this.events.length === 0) return;
    const { events } = this;
    this.events = [];
    for (const fire of events) fire();
  }

  private wakeStalled(): void {
    this.waking = true;
    for (const wake of this.stalled) {
      if (!this.accepts) break;
      this.stalled.delete(wake); // who is not done stands in line again, at its end
      wake();
    }
    this.waking = false;
  }
}

function withToken(path: Uint8Array, token: string): Uint8Array {
  const payload = new Uint8Array(path.length + token.length + 1);
  payload.set(path);
  payload.set(latin1(token), path.length);
  return payload;
}
