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
  private readonly waiting = new Set<ServedClient>();
  private readonly beforeReplies: (() => void) | undefined;
  private cancelTick: (() => void) | undefined;

  constructor(
    readonly reactor: Reactor,
    readonly server: XenstoreServer,
    options: XenstoreServiceOptions = {},
  ) {
    this.beforeReplies = options.beforeReplies;
  }

  /** The client has something to send, or may read on. */
  due(client: ServedClient): void {
    this.waiting.add(client);
  }

  /** The client has gone. */
  forget(client: ServedClient): void {
    this.waiting.delete(client);
  }

  /** After a batch of input, for whichever clients it has made due. */
  settle(): void {
    this.beforeReplies?.();
    for (const client of this.waiting) {
      this.waiting.delete(client);
      client.flush();
    }
    this.armClock();
  }

  close(): void {
    this.cancelTick?.();
  }

  private armClock(): void {
    this.cancelTick?.();
    this.cancelTick = undefined;
    const deadline = this.server.nextDeadlineMs();
    if (deadline === null) return;
    this.cancelTick = this.reactor.after(Math.max(0, deadline - performance.now()), () => {
      this.cancelTick = undefined;
      this.server.tick();
      this.settle();
    });
  }
}
