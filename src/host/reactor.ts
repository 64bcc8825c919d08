/**
 * One thread's loop over file descriptors. It blocks in epoll_wait through the FFI, beside Node's event loop rather than
 * in it: a turn of that loop costs about as much as a whole call does here.
 *
 * Fair by construction: each ready descriptor is served one step a round, and work that was preempted gets one slice a
 * round. Nothing in it grows with descriptors that are idle.
 */
import {
  allocateNative,
  checked,
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  EPOLLIN,
  libc,
} from './libc.js';

/** @param events the EPOLL* bits that are ready */
type Handler = (events: number) => void;

interface Timer {
  readonly at: number;
  readonly run: () => void;
}

/** One slice of long work. @returns true once it is finished */
type Work = () => boolean;

const MAX_EVENTS = 64;
/** An event that comes within this time of going to sleep came soon. */
const SOON_MS = 0.06;
/** Looks before going to sleep: together about as long as being woken takes. */
const LOOKS = 12;
const EVENT_WORDS = 3;
const EVENT_SIZE = 4 * EVENT_WORDS;

export class Reactor {
  private readonly epoll = checked('epoll_create1', libc.epollCreate(0x80000));
  private readonly events = allocateNative(MAX_EVENTS * EVENT_SIZE);
  /** What happened and where, by turns; struct epoll_event is packed on x86-64, its third word is ours and unused. */
  private readonly eventWords = new Int32Array(this.events.bytes.buffer, 0, MAX_EVENTS * EVENT_WORDS);
  private readonly argument = allocateNative(4096);
  /** By descriptor. */
  private readonly handlers: (Handler | undefined)[] = [];
  /** Descriptors that are served after the others of a round. */
  private readonly last = new Set<number>();
  private work: Work[] = [];
  /** Few at a time: kept sorted, the next one last. */
  private timers: Timer[] = [];
  private stopped = false;
  private lastWaitMs = Number.POSITIVE_INFINITY;
  private readonly waker = checked('eventfd', libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  /** Runs before the loop goes to sleep. */
  onIdle: () => void = () => {};

  /** @param onWake runs in this thread after another one has rung `wakeFd` */
  constructor(private readonly onWake: () => void = () => {}) {
    this.add(this.waker, EPOLLIN, () => {
      libc.read(this.waker, this.argument.address + 64, 8);
      this.onWake();
    });
  }

  /** An eventfd that wakes the loop; other threads write to it. */
  get wakeFd(): number {
    return this.waker;
  }

  add(fd: number, events: number, handler: Handler): void {
    this.control(EPOLL_CTL_ADD, fd, events);
    this.handlers[fd] = handler;
  }

  /** Likewise, but served after all others that became ready in the same round. */
  addLast(fd: number, events: number, handler: Handler): void {
    this.add(fd, events, handler);
    this.last.add(fd);
  }

  modify(fd: number, events: number): void {
    this.control(EPOLL_CTL_MOD, fd, events);
  }

  /** Must come before the descriptor is closed. */
  remove(fd: number): void {
    this.last.delete(fd);
    if (this.handlers[fd] === undefined) return;
    this.handlers[fd] = undefined;
    this.control(EPOLL_CTL_DEL, fd, 0);
  }

  /** Queues long work; it runs a slice at a time between rounds of events. */
  queue(work: Work): void {
    this.work.push(work);
  }

  /** Runs once, `ms` milliseconds from now. @returns cancels it */
  after(ms: number, run: () => void): () => void {
    const timer = { at: performance.now() + ms, run };
    const place = this.timers.findIndex((other) => other.at <= timer.at);
    this.timers.splice(place < 0 ? this.timers.length : place, 0, timer);
    return () => {
      this.timers = this.timers.filter((other) => other !== timer);
    };
  }

  stop(): void {
    this.stopped = true;
  }

  /** Runs until `stop`. */
  run(): void {
    while (!this.stopped) this.round(this.timeoutMs());
  }

  private timeoutMs(): number {
    if (this.work.length > 0) return 0;
    const next = this.timers.at(-1);
    return next ? Math.max(0, Math.ceil(next.at - performance.now())) : -1;
  }

  private runTimers(): void {
    const now = performance.now();
    for (let next = this.timers.at(-1); next && next.at <= now; next = this.timers.at(-1)) {
      this.timers.pop();
      next.run();
    }
  }

  /** One round: waits up to `timeoutMs` (-1: for ever), serves what is ready, then one slice of each long work. */
  round(timeoutMs: number): void {
    const n = timeoutMs === 0 ? this.poll(0) : this.wait(timeoutMs);
    for (let i = 0; i < n; i++) this.serve(i, false);
    if (this.last.size > 0) for (let i = 0; i < n; i++) this.serve(i, true);
    if (this.timers.length > 0) this.runTimers();
    if (this.work.length === 0) return;
    const slices = this.work;
    this.work = [];
    for (const slice of slices) if (!slice()) this.work.push(slice);
  }

  /** Serves an event whose descriptor is, or is not, one of the last. One removed earlier in the round has no handler. */
  private serve(event: number, last: boolean): void {
    const fd = this.eventWords[event * EVENT_WORDS + 1] as number;
    if (this.last.size > 0 && this.last.has(fd) !== last) return;
    this.handlers[fd]?.(this.eventWords[event * EVENT_WORDS] as number);
  }

  private poll(timeoutMs: number): number {
    return libc.epollWait(this.epoll, this.events.address, MAX_EVENTS, timeoutMs);
  }

  /**
   * Waits for events. Where the last one came soon, the next is looked for a few times before the thread goes to sleep:
   * being woken costs as much as serving a call. The processor is offered to others in between, and a thread with
   * nothing to do sleeps at once.
   */
  private wait(timeoutMs: number): number {
    if (this.lastWaitMs < SOON_MS) {
      for (let i = 0; i < LOOKS; i++) {
        const n = this.poll(0);
        if (n > 0) return n;
        libc.schedYield();
      }
    }
    this.onIdle();
    const start = performance.now();
    const n = this.poll(timeoutMs);
    this.lastWaitMs = performance.now() - start;
    return n;
  }

  close(): void {
    libc.close(this.waker);
    libc.close(this.epoll);
  }

  private control(operation: number, fd: number, events: number): void {
    this.argument.view.setUint32(0, events, true);
    this.argument.view.setInt32(4, fd, true);
    this.argument.view.setInt32(8, 0, true);
    checked('epoll_ctl', libc.epollCtl(this.epoll, operation, fd, this.argument.address), `descriptor ${fd}`);
  }
}
