/**
 * Tells when devices can be read, which Node does for sockets only. All devices of the process lie in one epoll set, and one
 * thread of Node's pool waits for the set: how many devices are open does not matter to whoever else uses the pool.
 */
import {
  allocateNative,
  checked,
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLLIN,
  errno,
  libc,
  POLLIN,
  pollAsync,
  SOCK_CLOEXEC,
} from '../../host/libc.js';

/** The thread looks up this often, in case that nobody could end its waiting: Node joins it before the process ends. */
const LOOK_UP_MS = 1000;
const MAX_EVENTS = 16;
/** struct epoll_event is packed: 4 bytes of events, 8 of data. */
const EVENT_BYTES = 12;
/** Where in the native memory what lies: two pollfds, the word for the wake-up, events. */
const POLL = 0;
const WORD = 32;
const EVENTS = 64;

class Readiness {
  readonly #memory = allocateNative(4096);
  readonly #epoll = checked('epoll_create1', libc.epollCreate(SOCK_CLOEXEC));
  /** Ends the thread's waiting. */
  readonly #wake = checked('eventfd', libc.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  readonly #readers = new Map<number, () => void>();
  #isWaiting = false;

  /** @param ready called whenever the descriptor can be read, as long as it can */
  add(fd: number, ready: () => void): void {
    this.#control(EPOLL_CTL_ADD, fd);
    this.#readers.set(fd, ready);
    if (!this.#isWaiting) void this.#run();
  }

  /** To be called before the descriptor is closed. */
  remove(fd: number): void {
    if (!this.#readers.delete(fd)) return;
    this.#control(EPOLL_CTL_DEL, fd);
    if (this.#readers.size === 0) this.#endWaiting();
  }

  readonly #endWaiting = (): void => {
    this.#memory.view.setBigUint64(WORD, 1n, true);
    libc.write(this.#wake, this.#memory.address + WORD, 8);
  };

  #control(operation: number, fd: number): void {
    const { view, address } = this.#memory;
    view.setUint32(EVENTS, EPOLLIN, true);
    view.setBigUint64(EVENTS + 4, BigInt(fd), true);
    checked('epoll_ctl', libc.epollCtl(this.#epoll, operation, fd, address + EVENTS));
  }

  async #run(): Promise<void> {
    this.#isWaiting = true;
    process.on('exit', this.#endWaiting);
    const { view, address } = this.#memory;
    while (this.#readers.size > 0) {
      for (const [i, fd] of [this.#epoll, this.#wake].entries()) {
        view.setInt32(POLL + 8 * i, fd, true);
        view.setInt16(POLL + 8 * i + 4, POLLIN, true);
        view.setInt16(POLL + 8 * i + 6, 0, true);
      }
      await pollAsync(address + POLL, 2, LOOK_UP_MS);
      libc.read(this.#wake, address + WORD, 8);
      this.#serve();
    }
    process.off('exit', this.#endWaiting);
    this.#isWaiting = false;
  }

  #serve(): void {
    const { view, address } = this.#memory;
    const count = libc.epollWait(this.#epoll, address + EVENTS, MAX_EVENTS, 0);
    if (count < 0) throw new Error(`epoll_wait: errno ${errno()}`);
    const fds = Array.from({ length: count }, (_, i) => view.getInt32(EVENTS + i * EVENT_BYTES + 4, true));
    for (const fd of fds) this.#readers.get(fd)?.();
  }
}

let readiness: Readiness | undefined;

/** The process's. */
export function deviceReadiness(): Readiness {
  readiness ??= new Readiness();
  return readiness;
}
