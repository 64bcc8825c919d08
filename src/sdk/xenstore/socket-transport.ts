/** A stream: the daemon's Unix socket, a gate's, or the xenbus device as the embedded host serves it. */
import { connect, Socket } from 'node:net';
import { XENSTORE_PAYLOAD_MAX } from '../../abi/xs-wire.js';
import { onAbort } from './abort.js';
import type { Receiver, Transport } from './transport.js';

const RECEIVE_BYTES = 1 << 16;

type OnRead = { buffer: Buffer; callback: (count: number, buffer: Uint8Array) => boolean };

export class SocketTransport implements Transport {
  readonly maxOutstanding = Number.POSITIVE_INFINITY;
  readonly #socket: Socket;
  #receiver: Receiver | undefined;
  #over = false;
  #reason = 'the other side closed it';

  private constructor(
    readonly path: string,
    open: (onread: OnRead) => Socket,
    readonly maxPayload: number,
    readonly answersWatchesItself: boolean,
  ) {
    const callback = (count: number, buffer: Uint8Array): boolean => {
      this.#receiver?.data(buffer.subarray(0, count) as Buffer);
      return true;
    };
    this.#socket = open({ buffer: Buffer.allocUnsafe(RECEIVE_BYTES), callback });
    this.#socket.on('error', (error) => {
      this.#reason = error.message;
    });
    this.#socket.once('close', () => this.#end());
  }

  /** @throws Error with errno's name as its `code`, or the signal's reason */
  static connect(path: string, signal?: AbortSignal): Promise<SocketTransport> {
    return new Promise((resolve, reject) => {
      signal?.throwIfAborted();
      const open = (onread: OnRead): Socket => connect({ path, onread });
      const transport = new SocketTransport(path, open, XENSTORE_PAYLOAD_MAX, false);
      const socket = transport.#socket;
      const stop = signal === undefined ? () => {} : onAbort(signal, abort);
      function abort(): void {
        socket.destroy();
        reject(signal?.reason);
      }
      socket.once('connect', () => {
        stop();
        resolve(transport);
      });
      socket.once('error', (error) => {
        stop();
        reject(error);
      });
    });
  }

  /** A stream socket that stands for the xenbus device, which is this object's from now on. */
  static adopt(path: string, fd: number, maxPayload: number): SocketTransport {
    // Node's types know `onread` for connect only.
    const open = (onread: OnRead): Socket => new Socket({ fd, readable: true, writable: true, onread } as object);
    return new SocketTransport(path, open, maxPayload, true);
  }

  start(receiver: Receiver): void {
    this.#receiver = receiver;
    if (this.#over) receiver.ended(this.#reason);
  }

  send(messages: Buffer): void {
    if (!this.#over) this.#socket.write(messages);
  }

  close(): void {
    this.#over = true;
    this.#receiver = undefined;
    this.#socket.destroy();
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.#receiver?.ended(this.#reason);
  }
}
