/**
 * What all transports of one XenStore server share: when replies leave, and when the server's clock is looked at.
 *
 * A transport gives its server bytes as they come, has its connections' sinks call `due`, and calls `settle` after each
 * batch. Nothing leaves before `settle`: so what must be kept for good can be written once for everything in a batch, and
 * before anybody is told of it.
 */
import type { XenstoreServer } from '../xenstore/server.js';
import type { Reactor } from './reactor.js';

/** A client of some transport. */
export interface ServedClient {
  /** Sends what it can of the connection's output, and reads on where input is wanted again. May end the client. */
  flush(): void;
}

export interface XenstoreServiceOptions {
  /** Runs before replies leave: whatever they acknowledge must be safe when it returns. */
  readonly beforeReplies?: () => void;
}

export class XenstoreService {
  /**
   * Clients with something to send, the first `nrWaiting` of them. Reused, and no Set: one that is filled and emptied all
   * the time leaves a chain of former tables behind, which the collector takes for alive once the first has grown old.
   */
  private readonly waiting: (ServedClient | null)[] = [];
  private nrWaiting = 0;
  private readonly beforeReplies: (() => void) | undefined;
  /** When the server's clock is looked at next: not after it has something to do. */
  private tickAt = Number.POSITIVE_INFINITY;
  private cancelTick: (() => void) | undefined;

  constructor(
    readonly reactor: Reactor,
    readonly server: XenstoreServer,
    options: XenstoreServiceOptions = {},
  ) {
    this.beforeReplies = options.beforeReplies;
  }

  /** The client has something to send, or may read on. To say so twice does no harm. */
  due(client: ServedClient): void {
    this.waiting[this.nrWaiting++] = client;
  }

  /** The client has gone. */
  forget(client: ServedClient): void {
    for (let i = 0; i < this.nrWaiting; i++) if (this.waiting[i] === client) this.waiting[i] = null;
  }

  /** After a batch of input, for whichever clients it has made due. */
  settle(): void {
    do {
      this.beforeReplies?.();
      this.flush();
    } while (this.nrWaiting > 0);
    const deadline = this.server.nextDeadlineMs();
    if (deadline !== null && deadline < this.tickAt) this.armClock(deadline);
  }

  /** Taking replies lets requests go on that had to wait: after the last flush, so that theirs are kept in turn. */
  private flush(): void {
    this.server.enter();
    for (let i = 0; i < this.nrWaiting; i++) {
      const client = this.waiting[i] ?? null;
      this.waiting[i] = null;
      client?.flush();
    }
    this.nrWaiting = 0;
    this.server.leave();
  }

  close(): void {
    this.cancelTick?.();
  }

  /** Deadlines come and go with every few requests, so a timer that turns out to be early is left alone. */
  private armClock(deadline: number): void {
    this.cancelTick?.();
    this.tickAt = deadline;
    this.cancelTick = this.reactor.after(Math.max(0, deadline - performance.now()), () => {
      this.tickAt = Number.POSITIVE_INFINITY;
      this.server.tick();
      this.settle();
    });
  }
}
