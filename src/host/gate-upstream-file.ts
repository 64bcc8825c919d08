/**
 * The way upstream over a descriptor: a daemon's Unix socket, or /dev/xen/xenbus. Connects again when it is lost, sooner
 * where it worked, later and later where it doesn't.
 *
 *     waiting ──timer──▶ connected ──end, error, garbage──▶ waiting
 *        └──────────────── refused ──────────────────────────▲
 */
import { closeSync, constants, fstatSync, openSync } from 'node:fs';
import { ERRNO } from '../abi/errno.js';
import { XENSTORE_PAYLOAD_MAX, XS_HEADER_SIZE, type XsErrorName } from '../abi/xs-wire.js';
import type { GateConnection, GateUpstream } from './gate-socket.js';
import {
  allocateNative,
  EPOLLIN,
  EPOLLOUT,
  errno,
  libc,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SystemError,
} from './libc.js';
import { connectUnix } from './unix-socket.js';

const BUFFER_BYTES = 1 << 16;
/** Linux's: a call's own, never one that is passed on. */
const EPIPE = 32;
const RETRY_FIRST_MS = 10;
const RETRY_MAX_MS = 1000;
/** What a device's buffer has room for: Linux counts the header in. */
const DEVICE_PAYLOAD_MAX = XENSTORE_PAYLOAD_MAX - XS_HEADER_SIZE;

const buffer = allocateNative(BUFFER_BYTES);

/** A descriptor for one connection upstream. */
export interface UpstreamFile {
  readonly fd: number;
  /** A character device takes one message a write, and nothing else. */
  readonly kind: 'socket' | 'device';
  readonly payloadMax: number;
  close(): void;
}

/** Opens a connection at a path: a socket, or a device. @throws SystemError, NodeJS.ErrnoException */
export function openUpstream(path: string): UpstreamFile {
  if (!path.startsWith('/dev/') && !path.startsWith('/proc/')) {
    const fd = connectUnix(path, SOCK_STREAM | SOCK_NONBLOCK);
    return { fd, kind: 'socket', payloadMax: XENSTORE_PAYLOAD_MAX, close: () => libc.close(fd) };
  }
  const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  return deviceFile(fd, () => closeSync(fd)); // Node keeps account of what it has opened
}

/** A descriptor of /dev/xen/xenbus, which may be one end of a stream that stands for it. */
export function deviceFile(fd: number, close: () => void): UpstreamFile {
  return { fd, kind: fstatSync(fd).isSocket() ? 'socket' : 'device', payloadMax: DEVICE_PAYLOAD_MAX, close };
}

export class FileUpstream implements GateUpstream {
  private file: UpstreamFile | undefined;
  private isFull = false;
  private retryMs = RETRY_FIRST_MS;
  private cancelRetry: (() => void) | undefined;

  /** @param open makes a connection; what it throws of the system's is tried again */
  constructor(
    private readonly connection: GateConnection,
    private readonly open: () => UpstreamFile,
  ) {
    this.connect();
  }

  flush(): void {
    const { session } = this.connection;
    if (this.file === undefined) return;
    if (session.upstreamBroken !== null) return this.lose();
    if (this.file.kind === 'device') this.writeMessages(this.file.fd);
    else this.send(this.file.fd);
  }

  close(): void {
    this.cancelRetry?.();
    this.drop();
  }

  private connect(): void {
    this.cancelRetry = undefined;
    try {
      this.file = this.open();
    } catch (error) {
      if (!(error instanceof SystemError) && !(error instanceof Error && 'code' in error)) throw error;
      return this.retry();
    }
    this.isFull = false;
    this.connection.reactor.add(this.file.fd, EPOLLIN, (events) => this.ready(events));
    this.connection.session.upstreamBack(this.file.payloadMax);
  }

  private retry(): void {
    this.cancelRetry = this.connection.reactor.after(this.retryMs, () => {
      this.connect();
      this.connection.settle();
    });
    this.retryMs = Math.min(2 * this.retryMs, RETRY_MAX_MS);
  }

  private lose(): void {
    const { session } = this.connection;
    if (session.link.hasReplied) this.retryMs = RETRY_FIRST_MS;
    this.drop();
    session.upstreamLost();
    if (session.ended === null) this.retry();
  }

  private drop(): void {
    if (this.file === undefined) return;
    this.connection.reactor.remove(this.file.fd);
    this.file.close();
    this.file = undefined;
  }

  private ready(events: number): void {
    if (this.file === undefined) return;
    if (events & EPOLLOUT) {
      this.isFull = false;
      this.connection.reactor.modify(this.file.fd, EPOLLIN);
    }
    if (events & ~EPOLLOUT) this.receive(this.file);
    this.connection.settle();
  }

  private receive({ fd, kind }: UpstreamFile): void {
    const n =
      kind === 'socket'
        ? libc.recv(fd, buffer.address, BUFFER_BYTES, MSG_DONTWAIT)
        : libc.read(fd, buffer.address, BUFFER_BYTES);
    if (n > 0) this.connection.session.fromUpstream(buffer.bytes.subarray(0, n));
    else if (n === 0 || !isTransient(errno())) this.lose();
  }

  private send(fd: number): void {
    const { session } = this.connection;
    while (!this.isFull && session.link.out.size > 0) {
      const length = session.copyToUpstream(buffer.bytes);
      const sent = libc.send(fd, buffer.address, length, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && !isTransient(errno())) return this.lose();
      if (sent > 0) session.upstreamTook(sent);
      if (sent === length) continue;
      this.isFull = true;
      this.connection.reactor.modify(fd, EPOLLIN | EPOLLOUT);
    }
  }

  /**
   * The kernel takes a message or refuses it; that it takes it may wait for the daemon.
   *
   * One at a time: Linux sends a request out of the file's one buffer, some time after the write, so that the next write
   * changes it on its way. Of 300 written without waiting, Linux 6.1 on Xen 4.17 lost a hundred without an error.
   */
  private writeMessages(fd: number): void {
    const { session } = this.connection;
    while (!session.link.awaitsReply) {
      const length = session.nextUpstreamLength();
      if (length === 0) return;
      session.copyToUpstream(buffer.bytes.subarray(0, length));
      const written = libc.write(fd, buffer.address, length);
      const error = errno();
      if (written === length) session.upstreamTook(length);
      else if (written >= 0 || isTransient(error) || error === EPIPE) return this.lose();
      else session.upstreamRefused(errorName(error));
    }
  }
}

function isTransient(error: number): boolean {
  return error === ERRNO.EAGAIN || error === ERRNO.EINTR;
}

function errorName(error: number): XsErrorName {
  switch (error) {
    case ERRNO.EACCES:
      return 'EACCES';
    case ERRNO.EEXIST:
      return 'EEXIST';
    case ERRNO.ENOENT:
      return 'ENOENT';
    case ERRNO.ENOMEM:
      return 'ENOMEM';
    case ERRNO.ENOSPC:
      return 'ENOSPC';
    case ERRNO.E2BIG:
      return 'E2BIG';
    case ERRNO.EBUSY:
      return 'EBUSY';
    case ERRNO.EINVAL:
      return 'EINVAL';
    default:
      return 'EIO';
  }
}
