/** Unix sockets below what Node offers: packet sockets, and descriptors passed along. */
import { fchmodSync } from 'node:fs';
import { ERRNO } from '../abi/errno.js';
import {
  AF_UNIX,
  allocateNative,
  checked,
  errno,
  libc,
  MSG_CMSG_CLOEXEC,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  type NativeMemory,
  SCM_RIGHTS,
  SO_PASSRIGHTS,
  SO_PEERCRED,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOL_SOCKET,
  SystemError,
} from './libc.js';
import { UserError } from './native-library.js';

/** Longest path a Unix socket address holds, in bytes. */
export const MAX_SOCKET_PATH = 107;
const MAX_FILES = 64;

const scratch = allocateNative(4096);

function socketAddress(path: string): number {
  const bytes = Buffer.from(path);
  if (bytes.length > MAX_SOCKET_PATH) {
    throw new UserError(`socket path is ${bytes.length} bytes long, at most ${MAX_SOCKET_PATH} are possible: ${path}`);
  }
  scratch.bytes.fill(0, 0, 110);
  scratch.view.setUint16(0, AF_UNIX, true);
  scratch.bytes.set(bytes, 2);
  return 2 + bytes.length + 1;
}

/**
 * A listening, non-blocking socket. @param mode of its file, from the first moment on; default: as the umask leaves it
 * @throws SystemError EADDRINUSE where the path exists
 */
export function listenUnix(path: string, type: number, backlog = 128, mode?: number): number {
  const fd = checked('socket', libc.socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (mode !== undefined) fchmodSync(fd, mode); // Linux gives the file what the socket has
  const length = socketAddress(path);
  checked('bind', libc.bind(fd, scratch.address, length), path);
  checked('listen', libc.listen(fd, backlog), path);
  return fd;
}

/** A connected, blocking socket. @throws SystemError */
export function connectUnix(path: string, type: number): number {
  const fd = checked('socket', libc.socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
  const length = socketAddress(path);
  if (libc.connect(fd, scratch.address, length) < 0) {
    const error = new SystemError('connect', errno(), path);
    libc.close(fd);
    throw error;
  }
  return fd;
}

/** Kept for the moment when there are no more descriptors: whoever connects then is told so, and doesn't wait for ever. */
let spare = libc.eventfd(0, SOCK_CLOEXEC);

function turnAway(listener: number): void {
  if (spare >= 0) libc.close(spare);
  const fd = libc.accept4(listener, 0, 0, SOCK_CLOEXEC);
  if (fd >= 0) libc.close(fd);
  spare = libc.eventfd(0, SOCK_CLOEXEC);
}

/** Who connected, as the kernel says. */
export interface Peer {
  readonly pid: number;
  readonly uid: number;
}

/**
 * Accepts one connection, non-blocking. Descriptors that its peer passes are refused by the kernel where it can
 * (Linux 6.16), else dropped on receipt, because we never offer a place for them.
 * @returns undefined where none waits
 */
export function acceptUnix(listener: number): { fd: number; peer: Peer } | undefined {
  const fd = libc.accept4(listener, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK);
  if (fd < 0) {
    if (errno() === ERRNO.EMFILE || errno() === ERRNO.ENFILE) turnAway(listener);
    return undefined;
  }
  scratch.view.setUint32(0, 0, true);
  libc.setsockopt(fd, SOL_SOCKET, SO_PASSRIGHTS, scratch.address, 4);
  scratch.view.setUint32(64, 12, true);
  checked('getsockopt', libc.getsockopt(fd, SOL_SOCKET, SO_PEERCRED, scratch.address, scratch.address + 64));
  return { fd, peer: { pid: scratch.view.getInt32(0, true), uid: scratch.view.getUint32(4, true) } };
}

/*
 * struct msghdr { name, namelen, iov, iovlen, control, controllen, flags } at 0, one iovec at 64, control data at 128.
 */
const message = allocateNative(4096);
const IOV = 64;
const CONTROL = 128;

function setMessage(address: number, length: number, controlLength: number): void {
  const v = message.view;
  v.setBigUint64(16, BigInt(message.address + IOV), true);
  v.setBigUint64(24, 1n, true);
  v.setBigUint64(32, controlLength > 0 ? BigInt(message.address + CONTROL) : 0n, true);
  v.setBigUint64(40, BigInt(controlLength), true);
  v.setBigUint64(IOV, BigInt(address), true);
  v.setBigUint64(IOV + 8, BigInt(length), true);
}

/** Sends one packet with descriptors. @returns bytes sent, or -1 with errno */
export function sendWithFiles(fd: number, data: NativeMemory, length: number, files: readonly number[]): number {
  if (files.length > MAX_FILES) throw new Error(`${files.length} descriptors in one packet`);
  const controlLength = 16 + files.length * 4;
  setMessage(data.address, length, Math.ceil(controlLength / 8) * 8);
  message.view.setBigUint64(CONTROL, BigInt(controlLength), true);
  message.view.setUint32(CONTROL + 8, SOL_SOCKET, true);
  message.view.setUint32(CONTROL + 12, SCM_RIGHTS, true);
  for (const [i, file] of files.entries()) message.view.setInt32(CONTROL + 16 + i * 4, file, true);
  return libc.sendmsg(fd, message.address, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/** Receives one packet and the descriptors with it (for clients of a host they trust). @returns bytes, -1 with errno */
export function receiveWithFiles(fd: number, into: NativeMemory, files: number[]): number {
  const capacity = 16 + MAX_FILES * 4;
  setMessage(into.address, into.bytes.length, capacity);
  const n = libc.recvmsg(fd, message.address, MSG_CMSG_CLOEXEC);
  const controlLength = Number(message.view.getBigUint64(40, true));
  if (n >= 0 && controlLength >= 16 && message.view.getUint32(CONTROL + 12, true) === SCM_RIGHTS) {
    const end = Number(message.view.getBigUint64(CONTROL, true));
    for (let at = 16; at + 4 <= end; at += 4) files.push(message.view.getInt32(CONTROL + at, true));
  }
  return n;
}
