/**
 * Linux's /dev/xen/xenbus. The driver takes one message a write and drops what follows it, has room for 4096 bytes with the
 * header, and answers WATCH and UNWATCH itself; a watch that the store refuses makes the write fail.
 *
 * A file's request lies in a buffer of the driver that the next write overwrites, while the request may still be on its way
 * to the store: of 100 written without waiting, Linux 6.1 on Xen 4.17 did 65, some others came out as EINVAL, and then it
 * hung. So there is one at a time.
 *
 * The kernel is trusted not to block a write for long, as for everybody who uses the device.
 * @spec linux:drivers/xen/xenbus/xenbus_dev_frontend.c
 */
import { closeSync, constants, openSync, readSync, writeSync } from 'node:fs';
import { XENSTORE_PAYLOAD_MAX, XS_HEADER_SIZE } from '../../abi/xs-wire.js';
import { deviceReadiness } from './readiness.js';
import type { Receiver, Transport } from './transport.js';
import { messageLength } from './wire.js';

/** The longest payload beside a header in the driver's buffer. */
export const DEVICE_PAYLOAD_MAX = XENSTORE_PAYLOAD_MAX - XS_HEADER_SIZE;
const RECEIVE_BYTES = 1 << 16;

export class DeviceTransport implements Transport {
  readonly maxPayload = DEVICE_PAYLOAD_MAX;
  readonly maxOutstanding = 1;
  readonly answersWatchesItself = true;
  readonly #buffer = Buffer.allocUnsafe(RECEIVE_BYTES);
  #receiver: Receiver | undefined;
  #isOpen = true;

  /** @param fd the device, opened for reading and writing without blocking; this object's from now on */
  constructor(
    readonly path: string,
    readonly fd: number,
  ) {}

  /** @throws Error with errno's name as its `code` */
  static open(path: string): DeviceTransport {
    return new DeviceTransport(path, openSync(path, constants.O_RDWR | constants.O_NONBLOCK));
  }

  start(receiver: Receiver): void {
    this.#receiver = receiver;
    deviceReadiness().add(this.fd, () => this.#read());
  }

  send(messages: Buffer): void {
    for (let at = 0; at < messages.length && this.#isOpen; ) {
      const length = messageLength(messages, at);
      this.#write(messages.subarray(at, at + length));
      at += length;
    }
  }

  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    if (this.#receiver !== undefined) deviceReadiness().remove(this.fd);
    closeSync(this.fd);
  }

  #write(message: Buffer): void {
    try {
      for (let at = 0; at < message.length; ) at += writeSync(this.fd, message, at);
    } catch (error) {
      const { code = 'EIO' } = error as NodeJS.ErrnoException;
      const requestId = message.readUInt32LE(4);
      // Not in the middle of the call that sends: whoever asked has yet to get its promise.
      queueMicrotask(() => this.#receiver?.refused(requestId, code));
    }
  }

  /** What is there now. A read returns all that is queued, as far as it fits. */
  #read(): void {
    let count: number;
    try {
      count = readSync(this.fd, this.#buffer);
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'EAGAIN' || code === 'EINTR') return;
      return this.#end(message);
    }
    if (count === 0) return this.#end('the device is at its end');
    this.#receiver?.data(this.#buffer.subarray(0, count));
  }

  #end(reason: string): void {
    const receiver = this.#receiver;
    this.close();
    receiver?.ended(reason);
  }
}
