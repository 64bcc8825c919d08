/**
 * An I/O (ioreq) server of a device model: claims ranges, receives the guest's accesses, answers them.
 *
 *     evtchn ──port──▶ which vCPU ──▶ slot READY? ──▶ AccessSeries ──▶ IoRequest ──▶ handler
 *       ▲                                                                     │ respond
 *       └───────────────── notify ◀── slot IORESP_READY ◀── last access done ◀┘
 *
 * Buffered writes come first whenever anything is looked at, so that a device sees the guest's accesses in order. The
 * shared pages are hostile (see ioreq-page and buffered-ring); a request that makes no sense is answered with all ones
 * and counted. One server has one event-channel file of its own.
 */
import { IOREQ_TYPE_COPY, IOREQ_TYPE_PIO, IOREQ_TYPE_TIMEOFFSET } from '../abi/xen/ioreq.js';
import type { BufferedRing, BufferedWrite } from './buffered-ring.js';
import type { DmOps, RangeKind } from './dm-ops.js';
import type { GuestPhysicalMemory } from './guest-memory.js';
import { AccessSeries, checkRequest, IoRequest, type Notice } from './io-request.js';
import type { IoreqPage } from './ioreq-page.js';
import type { EvtchnFile, MappedMemory } from './xen-devices.js';

/** A handler's answer: the value for a read, anything for a write. A promise keeps the vCPU waiting until it settles. */
export type Answer = bigint | number | undefined;
// biome-ignore lint/suspicious/noConfusingVoidType: a handler that only writes returns nothing
export type RequestHandler = (request: IoRequest) => Answer | void | Promise<Answer | void>;

export interface ServeOptions {
  /** Ends serving; requests that were taken are still answered. */
  readonly signal?: AbortSignal;
  /**
   * `async` waits in Node's event loop; `block` blocks the thread, which answers several times faster and lets the event
   * loop run only between waits.
   */
  readonly wait?: 'async' | 'block';
  /** Longest block, in milliseconds: how late timers and signals may be in `block` mode. */
  readonly blockMs?: number;
}

/** Counts since the server was made. */
export interface ServerStats {
  /** Answered requests of vCPUs. */
  served: number;
  /** Buffered writes handed to the handler. */
  buffered: number;
  /** Requests that made no sense and were answered with all ones, and broken or unknown buffered slots. */
  malformed: number;
  /** Answers that found their slot taken away. */
  abandoned: number;
  /** Wake-ups with nothing to do. */
  spurious: number;
  /** Data items of repeated requests that lay outside guest memory. */
  unmappedData: number;
}

/** What the SDK tells about the domain beside requests. */
export interface ServerHooks {
  /** The guest moved its clock: offset from UTC in seconds. */
  onTimeOffset?: (seconds: bigint) => void;
  /** The guest's memory map changed; cached mappings of guest memory are stale. */
  onInvalidate?: () => void;
}

/** What a server is made of; it owns all of it but `ops` and `memory`. */
export interface IoServerParts {
  readonly id: number;
  readonly ops: DmOps;
  readonly evtchn: EvtchnFile;
  readonly memory: GuestPhysicalMemory;
  readonly mappings: readonly MappedMemory[];
  readonly page: IoreqPage;
  readonly ring: BufferedRing | undefined;
  readonly bufioreqPort: number;
  readonly onClose: () => void;
}

const BUFFERED = -1;
/** The event loop gets a turn at least this often while requests keep coming in `block` mode. */
const TURN_INTERVAL_MS = 10;
const DEFAULT_BLOCK_MS = 20;

function nobodyWaits(): void {}

function eventLoopTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

export class IoServer {
  readonly id: number;
  readonly stats: ServerStats = { served: 0, buffered: 0, malformed: 0, abandoned: 0, spurious: 0, unmappedData: 0 };
  hooks: ServerHooks = {};
  /** vCPU (or BUFFERED) by local port. */
  private readonly sources = new Map<number, number>();
  /** Local port by vCPU. */
  private readonly ports: number[] = [];
  private ready: IoRequest[] = [];
  private wakeUp: (() => void) | undefined;
  private eventWait: Promise<void> | undefined;
  private nrPromised = 0;
  private failure: { error: unknown } | undefined;
  private closed = false;

  /** Use `DeviceModel.createIoServer`. */
  constructor(private readonly parts: IoServerParts) {
    this.id = parts.id;
  }

  get nrVcpus(): number {
    return this.parts.page.nrVcpus;
  }

  /** Claims ports `first` to `last` inclusive. @throws XenDeviceError EEXIST, ENOMEM */
  mapPortRange(first: number, last: number): void {
    this.range('mapIoRange', 'port', first, last);
  }

  /** @throws XenDeviceError ENOENT where any of it is not claimed */
  unmapPortRange(first: number, last: number): void {
    this.range('unmapIoRange', 'port', first, last);
  }

  /** Claims guest-physical addresses `first` to `last` inclusive. @throws XenDeviceError EEXIST, ENOMEM */
  mapMmioRange(first: number | bigint, last: number | bigint): void {
    this.range('mapIoRange', 'memory', first, last);
  }

  /** @throws XenDeviceError ENOENT where any of it is not claimed */
  unmapMmioRange(first: number | bigint, last: number | bigint): void {
    this.range('unmapIoRange', 'memory', first, last);
  }

  /** Claims the configuration space of one PCI function. @throws XenDeviceError EEXIST */
  mapPciDevice(sbdf: number): void {
    this.range('mapIoRange', 'pci', sbdf, sbdf);
  }

  /** @throws XenDeviceError ENOENT */
  unmapPciDevice(sbdf: number): void {
    this.range('unmapIoRange', 'pci', sbdf, sbdf);
  }

  private range(call: 'mapIoRange' | 'unmapIoRange', kind: RangeKind, first: number | bigint, last: number | bigint) {
    this.parts.ops[call](this.id, kind, BigInt(first), BigInt(last));
  }

  /** Lets requests come: enables the server and, the first time, binds its event channels. @throws XenDeviceError */
  enable(): void {
    const { ops, page, evtchn, ring, bufioreqPort } = this.parts;
    ops.setIoreqServerState(this.id, true);
    // Xen fills in the slots' ports when the server is enabled, not before.
    for (let vcpu = this.ports.length; vcpu < page.nrVcpus; vcpu++) {
      const local = evtchn.bindInterdomain(ops.domid, page.eventPort(vcpu));
      this.ports.push(local);
      this.sources.set(local, vcpu);
    }
    if (ring && ![...this.sources.values()].includes(BUFFERED)) {
      this.sources.set(evtchn.bindInterdomain(ops.domid, bufioreqPort), BUFFERED);
    }
  }

  /** No more requests come; those in process can still be answered. @throws XenDeviceError */
  disable(): void {
    this.parts.ops.setIoreqServerState(this.id, false);
  }

  /**
   * Serves until `signal` aborts or the server is closed.
   * @throws what the handler threw (the guest gets all ones for that access), XenDeviceError when the channel is gone
   */
  async serve(handler: RequestHandler, options: ServeOptions = {}): Promise<void> {
    const { signal, wait = 'async', blockMs = DEFAULT_BLOCK_MS } = options;
    let lastTurn = performance.now();
    this.collectAll();
    while (!this.isOver(signal)) {
      this.dispatchReady(handler);
      // A blocked thread runs no promises: while a handler works on one, wait in the event loop.
      if (wait === 'async' || this.nrPromised > 0) {
        await this.waitForWork(signal);
        lastTurn = performance.now();
        if (!this.isOver(signal)) this.collect();
      } else if (this.parts.evtchn.wait(blockMs)) {
        this.collect();
        if (performance.now() - lastTurn < TURN_INTERVAL_MS) continue;
        await eventLoopTurn();
        lastTurn = performance.now();
      } else {
        await eventLoopTurn();
        lastTurn = performance.now();
      }
    }
    if (!this.closed) this.dispatchReady(handler);
    if (this.failure) throw this.failure.error;
  }

  /**
   * The accesses one by one, for `for await`. Each must be answered with `respond`; several may be open at a time (one
   * a vCPU). Ends when `signal` aborts or the server is closed.
   */
  async *requests(options: { readonly signal?: AbortSignal } = {}): AsyncGenerator<IoRequest, void, undefined> {
    const { signal } = options;
    this.collectAll();
    while (!this.isOver(signal)) {
      const batch = this.ready;
      this.ready = [];
      for (const [i, request] of batch.entries()) {
        let taken = false;
        try {
          yield request;
          taken = true;
        } finally {
          // The consumer broke off: what it has not seen stays for the next one.
          if (!taken) this.ready = [...batch.slice(i + 1), ...this.ready];
        }
      }
      if (this.ready.length > 0) continue;
      await this.waitForWork(signal);
      if (!this.isOver(signal)) this.collect();
    }
  }

  /** Gives up everything but the domain on this server's event channels. */
  restrict(): void {
    this.parts.evtchn.restrict(this.parts.ops.domid);
  }

  /** Destroys the server: Xen ends its open requests. Calling it twice does nothing. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.wakeUp?.();
    try {
      this.parts.ops.destroyIoreqServer(this.id);
    } finally {
      for (const mapping of this.parts.mappings) mapping.unmap();
      this.parts.evtchn.close();
      this.parts.onClose();
    }
  }

  private isOver(signal: AbortSignal | undefined): boolean {
    return this.closed || this.failure !== undefined || signal?.aborted === true;
  }

  private dispatchReady(handler: RequestHandler): void {
    while (this.ready.length > 0) {
      const batch = this.ready;
      this.ready = [];
      for (const request of batch) this.dispatch(handler, request);
    }
  }

  private dispatch(handler: RequestHandler, request: IoRequest): void {
    let answer: ReturnType<RequestHandler>;
    try {
      answer = handler(request);
    } catch (error) {
      request.respond();
      this.failure ??= { error };
      return;
    }
    if (typeof answer === 'object' && answer !== null) this.settleLater(request, answer);
    // biome-ignore lint/suspicious/noConfusingVoidType: as in RequestHandler
    else request.respond(answer as Exclude<typeof answer, Promise<Answer | void> | void>);
  }

  // biome-ignore lint/suspicious/noConfusingVoidType: as in RequestHandler
  private settleLater(request: IoRequest, answer: Promise<Answer | void>): void {
    this.nrPromised++;
    const settled = answer.then(
      (value) => request.respond(value ?? undefined),
      (error: unknown) => {
        request.respond();
        throw error;
      },
    );
    settled
      .catch((error: unknown) => {
        this.failure ??= { error };
      })
      .finally(() => {
        this.nrPromised--;
        this.wakeUp?.();
      });
  }

  /** Resolves when a port is pending, an answer made another access ready, or serving is over. */
  private async waitForWork(signal: AbortSignal | undefined): Promise<void> {
    if (this.ready.length > 0 || this.isOver(signal)) return;
    // One wait at a time on the file, shared by whoever waits here next.
    this.eventWait ??= this.parts.evtchn.waitAsync(signal).finally(() => {
      this.eventWait = undefined;
    });
    const woken = new Promise<void>((resolve) => {
      this.wakeUp = resolve;
    });
    const wake = () => this.wakeUp?.();
    signal?.addEventListener('abort', wake);
    await Promise.race([this.eventWait, woken]);
    signal?.removeEventListener('abort', wake);
    this.wakeUp = undefined;
  }

  /** Looks at what one pending port stands for. */
  private collect(): void {
    const { evtchn } = this.parts;
    const port = evtchn.read();
    if (port === undefined) return;
    evtchn.unmask(port); // before looking, so that whatever comes after the look wakes us again
    const source = this.sources.get(port);
    const before = this.ready.length;
    this.collectBuffered();
    if (source !== undefined && source !== BUFFERED) this.collectSlot(source);
    if (this.ready.length === before) this.stats.spurious++;
  }

  /** Looks everywhere: requests may have come before anybody served. */
  private collectAll(): void {
    this.collectBuffered();
    for (let vcpu = 0; vcpu < this.ports.length; vcpu++) this.collectSlot(vcpu);
  }

  private collectBuffered(): void {
    const { ring } = this.parts;
    if (!ring) return;
    const resets = ring.nrResets;
    for (let entry = ring.peek(); entry; entry = ring.peek()) {
      ring.advance(entry.nrSlots);
      this.takeBuffered(entry);
      if (this.ready.length > 4096) break; // the guest fills faster than the handler empties
    }
    this.stats.malformed += ring.nrResets - resets;
  }

  private takeBuffered(entry: BufferedWrite): void {
    const { dataLo, dataHi } = entry;
    if (entry.type === IOREQ_TYPE_TIMEOFFSET) {
      this.hooks.onTimeOffset?.(BigInt.asIntN(64, (BigInt(dataHi) << 32n) | BigInt(dataLo)));
      return;
    }
    const kind = entry.type === IOREQ_TYPE_PIO ? 'port' : 'memory';
    const isKnown = entry.type === IOREQ_TYPE_COPY || (entry.type === IOREQ_TYPE_PIO && entry.size < 8);
    if (!isKnown || entry.isRead || (kind === 'port' && entry.address + entry.size > 0x10000)) {
      this.stats.malformed++;
      return;
    }
    this.stats.buffered++;
    this.ready.push(new IoRequest(kind, true, entry.address, entry.size, 0, BUFFERED, dataLo, dataHi, nobodyWaits));
  }

  private collectSlot(vcpu: number): void {
    const raw = this.parts.page.take(vcpu);
    if (!raw) return;
    const request = checkRequest(raw);
    if (!request) {
      this.stats.malformed++;
      this.finish(vcpu, 0xffff_ffff, 0xffff_ffff);
    } else if ('notice' in request) {
      this.takeNotice(request);
      this.finish(vcpu, 0, 0);
    } else {
      const series = new AccessSeries(request, vcpu, this.parts.memory, this.continueSeries);
      this.ready.push(series.next());
    }
  }

  private takeNotice(notice: Notice): void {
    if (notice.notice === 'timeoffset') {
      this.hooks.onTimeOffset?.(notice.seconds);
      return;
    }
    this.parts.memory.invalidate();
    this.hooks.onInvalidate?.();
  }

  private readonly continueSeries = (series: AccessSeries, vcpu: number): void => {
    if (this.closed) return;
    if (!series.isDone) {
      this.ready.push(series.next());
      this.wakeUp?.();
      return;
    }
    this.stats.unmappedData += series.nrUnmapped;
    this.finish(vcpu, series.resultLo, series.resultHi);
  };

  private finish(vcpu: number, lo: number, hi: number): void {
    if (!this.parts.page.complete(vcpu, lo, hi)) {
      this.stats.abandoned++;
      return;
    }
    this.stats.served++;
    this.parts.evtchn.notify(this.ports[vcpu] as number);
  }
}
