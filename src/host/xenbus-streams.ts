/**
 * /dev/xen/xenbus as programs have it: each open file is one end of a stream that the library hands to the program, so
 * that it reads, writes and polls without us. This is the other end, on the reactor.
 */
import { ERRNO } from '../abi/errno.js';
import { XenError } from '../boundary/xen-error.js';
import type { Xenbus } from '../dom0/xenbus.js';
import type { XenbusFile, XenbusHolder } from '../dom0/xenbus-file.js';
import {
  AF_UNIX,
  allocateNative,
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  errno,
  libc,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  SOCK_CLOEXEC,
  SOCK_STREAM,
} from './libc.js';
import type { Reactor } from './reactor.js';

const BUFFER_BYTES = 1 << 16;
const MAX_STREAMS = 4096;
const MAX_STREAMS_PER_PID = 1024;

export class XenbusStreams {
  private readonly streams = new Set<Stream>();
  private readonly due = new Set<Stream>();
  private readonly perPid = new Map<number, number>();
  readonly buffer = allocateNative(BUFFER_BYTES);

  /** @param note is told what a file was ended for */
  constructor(
    readonly reactor: Reactor,
    private readonly xenbus: Xenbus,
    private readonly note: (pid: number, reason: string) => void,
  ) {}

  /** The processes that have it open, each with our end's descriptor. */
  *open(): Generator<{ readonly pid: number; readonly fd: number }> {
    yield* this.streams;
  }

  /** @returns the program's end, for the caller to pass on and close @throws XenError ENOMEM, EMFILE */
  openFor(pid: number): number {
    const ofPid = this.perPid.get(pid) ?? 0;
    if (this.streams.size >= MAX_STREAMS || ofPid >= MAX_STREAMS_PER_PID) {
      throw new XenError('ENOMEM', `${ofPid} files of this process, ${this.streams.size} in all`);
    }
    const { address, view } = this.buffer;
    if (libc.socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, address) < 0) {
      throw new XenError('EMFILE', 'no descriptors left');
    }
    const [ours, theirs] = [view.getInt32(0, true), view.getInt32(4, true)];
    this.perPid.set(pid, ofPid + 1);
    this.streams.add(new Stream(this, pid, ours, (holder) => this.xenbus.open(holder)));
    return theirs;
  }

  close(): void {
    for (const stream of [...this.streams]) stream.drop();
  }

  /** Something is to be sent or received on a stream: once everything at hand has been done. */
  schedule(stream: Stream): void {
    if (this.due.size === 0) this.reactor.queue(() => this.serveDue());
    this.due.add(stream);
  }

  forget(stream: Stream): void {
    this.streams.delete(stream);
    this.due.delete(stream);
    const ofPid = (this.perPid.get(stream.pid) ?? 1) - 1;
    if (ofPid > 0) this.perPid.set(stream.pid, ofPid);
    else this.perPid.delete(stream.pid);
  }

  failed(stream: Stream, reason: string): void {
    this.note(stream.pid, reason);
  }

  /** A new round begins with the first stream that is scheduled after this. */
  private serveDue(): boolean {
    const streams = [...this.due];
    this.due.clear();
    for (const stream of streams) stream.flush();
    return true;
  }
}

/**
 *     open ──(the program's end is closed)──▶ drained ──(all it wrote has been taken)──▶ dropped
 *       └───(the file fails)────────────────────────────────────────────────────────────────┘
 */
class Stream {
  private readonly file: XenbusFile;
  private events = EPOLLIN;
  private state: 'open' | 'drained' | 'failed' | 'dropped' = 'open';

  constructor(
    private readonly all: XenbusStreams,
    readonly pid: number,
    readonly fd: number,
    open: (holder: XenbusHolder) => XenbusFile,
  ) {
    this.file = open({ ready: () => all.schedule(this), failed: (reason) => this.fail(reason) });
    all.reactor.add(fd, EPOLLIN, (events) => this.ready(events));
  }

  drop(): void {
    if (this.state === 'dropped') return;
    if (this.state !== 'drained') this.all.reactor.remove(this.fd);
    this.state = 'dropped';
    this.all.forget(this);
    libc.close(this.fd);
    this.file.release();
  }

  /** Sends what the program has not had yet; then waits for what can come next. */
  flush(): void {
    if (this.state === 'failed') return this.drop();
    if (this.state === 'drained') return this.drain();
    if (this.state !== 'open') return;
    const { buffer } = this.all;
    let full = false;
    for (let bytes = this.file.readable; bytes.length > 0 && !full; bytes = this.file.readable) {
      buffer.bytes.set(bytes);
      const sent = libc.send(this.fd, buffer.address, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && errno() !== ERRNO.EAGAIN) return this.hungUp();
      full = sent < bytes.length;
      if (sent > 0) this.file.taken(sent);
    }
    const events = (this.file.room > 0 ? EPOLLIN : 0) | (full ? EPOLLOUT : 0);
    if (events === this.events) return;
    this.events = events;
    this.all.reactor.modify(this.fd, events);
  }

  private ready(events: number): void {
    if (events & (EPOLLHUP | EPOLLERR)) return this.hungUp();
    if (events & EPOLLIN && this.file.room > 0) this.receive();
    this.all.schedule(this);
  }

  /** @returns whether there was something */
  private receive(): boolean {
    const { buffer } = this.all;
    const n = libc.recv(this.fd, buffer.address, Math.min(this.file.room, BUFFER_BYTES), MSG_DONTWAIT);
    if (n > 0) this.file.write(buffer.bytes.subarray(0, n));
    else if (n === 0 || errno() !== ERRNO.EAGAIN) this.drop();
    return n > 0;
  }

  /** Nobody reads any more, but what was written counts: a hang-up cannot be masked, so the stream leaves the reactor. */
  private hungUp(): void {
    if (this.state !== 'open') return;
    this.state = 'drained';
    this.all.reactor.remove(this.fd);
    this.all.schedule(this);
  }

  private drain(): void {
    for (let bytes = this.file.readable; bytes.length > 0; bytes = this.file.readable) this.file.taken(bytes.length);
    if (this.file.room > 0 && this.receive()) this.all.schedule(this);
  }

  private fail(reason: string): void {
    if (this.state === 'dropped') return;
    this.all.failed(this, reason);
    if (this.state === 'drained') return this.drop();
    this.state = 'failed';
    this.all.schedule(this);
  }
}
