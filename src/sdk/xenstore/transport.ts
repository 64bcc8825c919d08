/** The seam between a client and what carries its bytes: the daemon's socket, a gate's socket or the xenbus device. */

export interface Receiver {
  /** Bytes from the server, the transport's again on return. */
  data(chunk: Buffer): void;
  /** The kernel took the message but refused what it asks for. @param code errno's name */
  refused(requestId: number, code: string): void;
  /** It is over; nothing else follows. Not called after `close`. @param reason for people */
  ended(reason: string): void;
}

export interface Transport {
  /** For messages: the path that was opened. */
  readonly path: string;
  /** The longest payload that it takes, in bytes. */
  readonly maxPayload: number;
  /** How many requests may wait for their replies at a time. */
  readonly maxOutstanding: number;
  /** Linux answers WATCH and UNWATCH itself, and without the request's number. */
  readonly answersWatchesItself: boolean;
  /** To be called once, first. */
  start(receiver: Receiver): void;
  /** Sends whole messages. The bytes must not change afterwards. */
  send(messages: Buffer): void;
  close(): void;
}
