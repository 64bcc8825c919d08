/**
 * The operating system: every libc function that Postern calls, and nothing else loads a native function. Raw: results
 * and errno as in C, addresses as numbers (they are below 2^47). Wrappers that throw are at the end.
 */
import koffi from 'koffi';

const c = koffi.load('libc.so.6');

export const libc = {
  close: c.func('int close(int fd)') as (fd: number) => number,
  dup: c.func('int fcntl(int fd, int cmd, int64_t arg)') as (fd: number, cmd: number, arg: number) => number,
  read: c.func('int64_t read(int fd, intptr_t buf, size_t n)') as (fd: number, buf: number, n: number) => number,
  write: c.func('int64_t write(int fd, intptr_t buf, size_t n)') as (fd: number, buf: number, n: number) => number,
  mmap: c.func('intptr_t mmap(intptr_t at, size_t n, int prot, int flags, int fd, int64_t off)') as (
    at: number,
    n: number,
    prot: number,
    flags: number,
    fd: number,
    offset: number,
  ) => number,
  munmap: c.func('int munmap(intptr_t at, size_t n)') as (at: number, n: number) => number,
  flock: c.func('int flock(int fd, int operation)') as (fd: number, operation: number) => number,
  execve: c.func('int execve(const char *path, const char **argv, const char **envp)') as (
    path: string,
    argv: readonly (string | null)[],
    envp: readonly (string | null)[],
  ) => number,
  chroot: c.func('int chroot(const char *path)') as (path: string) => number,
  memfdCreate: c.func('int memfd_create(const char *name, unsigned int flags)') as (n: string, flags: number) => number,
  ftruncate: c.func('int ftruncate(int fd, int64_t n)') as (fd: number, n: number) => number,
  socket: c.func('int socket(int domain, int type, int protocol)') as (d: number, t: number, p: number) => number,
  socketpair: c.func('int socketpair(int domain, int type, int protocol, intptr_t pair)') as (
    domain: number,
    type: number,
    protocol: number,
    pair: number,
  ) => number,
  bind: c.func('int bind(int fd, intptr_t addr, uint32_t n)') as (fd: number, addr: number, n: number) => number,
  connect: c.func('int connect(int fd, intptr_t addr, uint32_t n)') as (fd: number, addr: number, n: number) => number,
  listen: c.func('int listen(int fd, int backlog)') as (fd: number, backlog: number) => number,
  accept4: c.func('int accept4(int fd, intptr_t addr, intptr_t n, int flags)') as (
    fd: number,
    addr: number,
    n: number,
    flags: number,
  ) => number,
  send: c.func('int64_t send(int fd, intptr_t buf, size_t n, int flags)') as (
    fd: number,
    buf: number,
    n: number,
    flags: number,
  ) => number,
  recv: c.func('int64_t recv(int fd, intptr_t buf, size_t n, int flags)') as (
    fd: number,
    buf: number,
    n: number,
    flags: number,
  ) => number,
  sendmsg: c.func('int64_t sendmsg(int fd, intptr_t msg, int flags)') as (
    f: number,
    m: number,
    flags: number,
  ) => number,
  recvmsg: c.func('int64_t recvmsg(int fd, intptr_t msg, int flags)') as (
    f: number,
    m: number,
    flags: number,
  ) => number,
  getsockopt: c.func('int getsockopt(int fd, int level, int name, intptr_t v, intptr_t n)') as (
    fd: number,
    level: number,
    name: number,
    value: number,
    length: number,
  ) => number,
  setsockopt: c.func('int setsockopt(int fd, int level, int name, intptr_t v, uint32_t n)') as (
    fd: number,
    level: number,
    name: number,
    value: number,
    length: number,
  ) => number,
  epollCreate: c.func('int epoll_create1(int flags)') as (flags: number) => number,
  epollCtl: c.func('int epoll_ctl(int ep, int op, int fd, intptr_t event)') as (
    ep: number,
    op: number,
    fd: number,
    event: number,
  ) => number,
  epollWait: c.func('int epoll_wait(int ep, intptr_t events, int n, int timeout)') as (
    ep: number,
    events: number,
    n: number,
    timeoutMs: number,
  ) => number,
  schedYield: c.func('int sched_yield()') as () => number,
  eventfd: c.func('int eventfd(unsigned int initial, int flags)') as (initial: number, flags: number) => number,
  poll: c.func('int poll(intptr_t fds, uint64_t n, int timeout)') as (
    fds: number,
    n: number,
    timeoutMs: number,
  ) => number,
} as const;

/** `poll` on a thread of its own, for waiting without holding up the event loop. */
const pollFunction = c.func('int poll(intptr_t fds, uint64_t n, int timeout)');
export function pollAsync(fds: number, nrFds: number, timeoutMs: number): Promise<number> {
  return new Promise((resolve, reject) => {
    pollFunction.async(fds, nrFds, timeoutMs, (error: Error | null, result: number) =>
      error ? reject(error) : resolve(result),
    );
  });
}

export const errno = (): number => koffi.errno();

/** Constants of x86-64 Linux. */
export const SOCK_STREAM = 1;
export const SOCK_SEQPACKET = 5;
export const SOCK_CLOEXEC = 0x80000;
export const SOCK_NONBLOCK = 0x800;
export const AF_UNIX = 1;
export const SOL_SOCKET = 1;
export const SO_PEERCRED = 17;
export const SO_SNDBUF = 7;
/** Linux 6.16: refuse descriptors that the other side passes, before they get here. */
export const SO_PASSRIGHTS = 83;
export const SCM_RIGHTS = 1;
export const MSG_PEEK = 2;
export const MSG_TRUNC = 0x20;
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_CMSG_CLOEXEC = 0x40000000;
export const PROT_READ = 1;
export const PROT_WRITE = 2;
export const MAP_SHARED = 1;
export const MAP_PRIVATE = 2;
export const MAP_ANONYMOUS = 0x20;
export const MAP_NORESERVE = 0x4000;
export const MFD_CLOEXEC = 1;
export const MFD_ALLOW_SEALING = 2;
export const LOCK_EX = 2;
export const LOCK_NB = 4;
export const F_SETFD = 2;
export const FD_CLOEXEC = 1;
export const F_DUPFD_CLOEXEC = 1030;
export const F_ADD_SEALS = 1033;
export const F_SEAL_SEAL = 1;
export const F_SEAL_SHRINK = 2;
export const F_SEAL_GROW = 4;
export const EPOLLIN = 1;
export const EPOLLOUT = 4;
export const EPOLLERR = 8;
export const EPOLLHUP = 0x10;
export const EPOLLRDHUP = 0x2000;
export const EPOLLET = 0x80000000;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLL_CTL_MOD = 3;
export const EFD_CLOEXEC = 0x80000;
export const EFD_NONBLOCK = 0x800;
export const POLLIN = 1;

/** A system call of our own that failed, not one a client asked for. */
export class SystemError extends Error {
  override readonly name = 'SystemError';
  constructor(
    readonly call: string,
    readonly errno: number,
    detail = '',
  ) {
    super(`${call} failed: ${koffi.os.errno ? errnoText(errno) : errno}${detail ? ` (${detail})` : ''}`);
  }
}

function errnoText(value: number): string {
  for (const [name, number] of Object.entries(koffi.os.errno)) if (number === value) return name;
  return `errno ${value}`;
}

/** @returns the result, or throws where the call returned -1 */
export function checked(call: string, result: number, detail = ''): number {
  if (result === -1) throw new SystemError(call, koffi.errno(), detail);
  return result;
}

/** Memory outside the JavaScript heap, whose address can be given to the system. */
export interface NativeMemory {
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
}

function wrap(address: number, size: number): NativeMemory {
  const buffer = koffi.view(address, size);
  return { address, bytes: new Uint8Array(buffer), view: new DataView(buffer) };
}

/** A view of memory that is mapped at an address; must not be touched once it is unmapped. */
export function nativeView(address: number, size: number): Uint8Array {
  return new Uint8Array(koffi.view(address, size));
}

/** Zeroed memory for the life of the process. @param size bytes */
export function allocateNative(size: number): NativeMemory {
  const flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  return wrap(checked('mmap', libc.mmap(0, size, PROT_READ | PROT_WRITE, flags, -1, 0)), size);
}

/** Maps a file shared. The views must not be touched after `unmap`. */
export function mapShared(fd: number, size: number, offset = 0): NativeMemory & { unmap(): void } {
  const address = checked('mmap', libc.mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, offset));
  return { ...wrap(address, size), unmap: () => void libc.munmap(address, size) };
}

/** A new memory file whose size nobody can change. @returns its descriptor */
export function createMemoryFile(name: string, size: number): number {
  const fd = checked('memfd_create', libc.memfdCreate(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), name);
  checked('ftruncate', libc.ftruncate(fd, size), `${size} bytes`);
  checked('fcntl', libc.dup(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
  return fd;
}
