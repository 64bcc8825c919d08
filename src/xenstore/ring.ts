/**
 * A domain's ring as a transport of the server: bytes out of the page into the domain's connection, and back.
 *
 *     connected ──(indexes that make no sense, a message too long)──▶ ignored, the page says why
 *        │  ▲                                                            │
 *        │  └────────(the domain asks to reconnect: all starts anew)─────┤
 *        └──(the domain is released, or the daemon stops)──▶ closed ◀────┘
 *
 * A request stays in the page until it is complete and served, as long as the page can hold it (requests above 1024 bytes
 * it can't): a daemon that is killed leaves to the next what it has not done, and not the middle of a message.
 *
 * The page is the domain's to write at any time: indexes are checked with each step, the words of the connection's state
 * are read once. A domain that doesn't read holds up nobody else; what waits for it counts as its own (connection.ts).
 *
 * @spec xen:docs/misc/xenstore-ring.txt
 */
import {
  XENSTORE_CONNECTED,
  XENSTORE_ERROR_COMM,
  XENSTORE_ERROR_NONE,
  XENSTORE_ERROR_PROTO,
  XENSTORE_ERROR_RINGIDX,
  XENSTORE_RECONNECT,
  XENSTORE_RING_SIZE,
  XENSTORE_SERVER_FEATURE_ERROR,
  XENSTORE_SERVER_FEATURE_RECONNECTION,
  XS_HEADER_SIZE,
} from '../abi/xen/xs-wire.js';
import { BROKEN, RingPage } from '../boundary/byte-ring.js';
import type { CloseReason, Connection, RingPosition } from './connection.js';
import type { XenstoreServer } from './server.js';

export interface RingHost {
  /** Rings the domain: something in the page has changed. */
  notify(): void;
  /** `flush` is to be called once what is being done now is done. */
  due(): void;
  /** `receive` is to be called again soon: there was more than one look takes. */
  more(): void;
  /** The server wants nothing more of the ring. */
  closed(): void;
}

export class StoreRing {
  private readonly page: RingPage;
  private readonly features: number;
  private connection: Connection | null;
  private readonly chunk = new Uint8Array(XENSTORE_RING_SIZE);
  private rings = false;
  /** Bytes of requests that have been served: taken out of the page once their effects are safe. */
  private toConsume = 0;
  /** Bytes in the page that are the beginning of a message. */
  private incomplete = 0;
  private isClosed = false;

  /** @param bytes the domain's page */
  constructor(
    private readonly server: XenstoreServer,
    bytes: Uint8Array,
    private readonly host: RingHost,
    readonly domid: number,
  ) {
    this.page = new RingPage(bytes);
    this.features = server.domains.get(domid)?.features ?? server.features;
    this.connection = this.connect();
    this.offerFeatures();
  }

  private readonly sink = {
    ready: () => this.host.due(),
    closed: (reason: CloseReason) => this.givenUp(reason),
  };

  get isIgnored(): boolean {
    return !this.isClosed && this.connection === null;
  }

  /** The domain has rung, or may have something to say. */
  receive(): void {
    if (this.isClosed) return;
    this.offerFeatures();
    if (this.asksToReconnect) return this.reconnect();
    const { connection } = this;
    if (connection?.wantsInput && this.toConsume === 0) {
      const count = this.page.requests.peek(this.chunk);
      if (count === BROKEN) return this.ignore(XENSTORE_ERROR_RINGIDX);
      const whole = wholeMessages(connection.pendingInput, this.chunk, count);
      this.incomplete = count - whole;
      this.toConsume = whole; // first: what is received may be a reset of this very ring
      if (whole > 0) connection.receive(this.chunk.subarray(0, whole));
    }
    this.host.due();
  }

  /** Gives the domain what waits for it, as far as it goes, and rings where anything has moved. */
  flush(): void {
    if (this.isClosed) return;
    const { connection } = this;
    if (connection) this.send(connection);
    if (this.toConsume > 0) {
      this.page.requests.consume(this.toConsume);
      this.toConsume = 0;
      this.rings = true;
    }
    if (this.rings) this.host.notify();
    this.rings = false;
    if (this.connection?.wantsInput && this.page.requests.waiting !== this.incomplete) this.host.more();
  }

  /** INTRODUCE of a domain that is served: everything starts anew, whether or not it has asked. */
  reset(): void {
    if (this.isClosed) return;
    this.startAnew();
    this.host.notify();
  }

  /** The transport's end: the domain is not served any more. */
  close(): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.connection?.close();
    this.connection = null;
  }

  /** Where both queues stand once all is done that the connection knows of. */
  get position(): RingPosition {
    const { requests, replies } = this.page;
    return { consumed: (requests.consumed + this.toConsume) >>> 0, produced: replies.produced };
  }

  /** Goes on where a predecessor stood. @returns how many bytes it has put into the ring since */
  resume({ consumed, produced }: RingPosition): number {
    const { requests, replies } = this.page;
    const served = (consumed - requests.consumed) >>> 0;
    if (served <= XENSTORE_RING_SIZE && requests.peek(this.chunk) !== BROKEN) requests.consume(served);
    return (replies.produced - produced) >>> 0;
  }

  private connect(): Connection {
    const connection = this.server.connect({ domid: this.domid, kind: 'ring', sink: this.sink });
    connection.ring = this;
    return connection;
  }

  /** Features are never taken back; a domain that wipes its page (hvmloader does) finds them again. */
  private offerFeatures(): void {
    if ((this.page.features & this.features) !== this.features) this.page.features |= this.features;
  }

  private get asksToReconnect(): boolean {
    return (this.features & XENSTORE_SERVER_FEATURE_RECONNECTION) !== 0 && this.page.connection === XENSTORE_RECONNECT;
  }

  private reconnect(): void {
    this.startAnew();
    this.rings = true;
    this.host.due();
  }

  private startAnew(): void {
    this.connection?.close();
    this.connection = this.connect();
    this.toConsume = 0;
    this.incomplete = 0;
    this.page.requests.reset();
    this.page.replies.reset();
    this.connection.moved();
    if ((this.features & XENSTORE_SERVER_FEATURE_ERROR) !== 0) this.page.error = XENSTORE_ERROR_NONE;
    this.page.connection = XENSTORE_CONNECTED;
  }

  private send(connection: Connection): void {
    for (let bytes = connection.output(); bytes.length > 0; bytes = connection.output()) {
      const count = this.page.replies.write(bytes);
      if (count === BROKEN) return this.ignore(XENSTORE_ERROR_RINGIDX);
      if (count === 0) return;
      this.rings = true;
      connection.sent(count);
      if (!connection.open) return;
    }
  }

  /** The server has closed the connection. */
  private givenUp(reason: CloseReason): void {
    this.connection = null;
    if (reason === 'protocol') return this.say(XENSTORE_ERROR_PROTO);
    if (reason === 'output-limit') return this.say(XENSTORE_ERROR_COMM);
    this.isClosed = true;
    this.host.closed();
  }

  private ignore(error: number): void {
    const { connection } = this;
    if (connection) this.server.quotas.deny(connection.domain, 'protocol', null, 'ring indexes that make no sense');
    connection?.close();
    this.connection = null;
    this.say(error);
  }

  private say(error: number): void {
    this.toConsume = 0;
    if ((this.features & XENSTORE_SERVER_FEATURE_ERROR) !== 0) this.page.error = error;
    this.rings = true;
    this.host.due();
  }
}

/**
 * How many of the `count` bytes in `chunk` can be served: up to the end of the last message that is there whole, and all
 * of one that is longer than the ring. What stands in `before` has been received already.
 */
function wholeMessages(before: Uint8Array, chunk: Uint8Array, count: number): number {
  let at = -before.length;
  const byte = (index: number): number => (index < 0 ? before[index + before.length] : chunk[index]) as number;
  while (count - at >= XS_HEADER_SIZE) {
    const length = byte(at + 12) | (byte(at + 13) << 8) | (byte(at + 14) << 16) | (byte(at + 15) << 24);
    const end = at + XS_HEADER_SIZE + (length >>> 0);
    if (end > count) return at < 0 || end - at > XENSTORE_RING_SIZE ? count : at;
    at = end;
  }
  return Math.max(at, 0);
}
