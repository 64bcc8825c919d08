/**
 * Messages as a client sends and receives them. The server is not trusted: a length is checked before anything is kept
 * for it, so that at most one message's bytes wait here.
 * @spec xen:io/xs_wire.h
 */
import { XENSTORE_PAYLOAD_MAX, XS_HEADER_SIZE } from '../../abi/xs-wire.js';

export interface Message {
  readonly type: number;
  readonly requestId: number;
  /** Valid until the handler returns. */
  readonly payload: Buffer;
}

/** Puts a message at `at`, where there must be room for it. @returns where the next one goes */
export function putMessage(
  into: Buffer,
  at: number,
  type: number,
  requestId: number,
  transactionId: number,
  payload: Uint8Array,
): number {
  into.writeUInt32LE(type, at);
  into.writeUInt32LE(requestId, at + 4);
  into.writeUInt32LE(transactionId, at + 8);
  into.writeUInt32LE(payload.length, at + 12);
  into.set(payload, at + XS_HEADER_SIZE);
  return at + XS_HEADER_SIZE + payload.length;
}

/** The length in bytes of the message whose header is at `at`. */
export function messageLength(bytes: Uint8Array, at: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, XS_HEADER_SIZE);
  return XS_HEADER_SIZE + view.getUint32(12, true);
}

/** Cuts a stream of bytes into messages. */
export class MessageReader {
  readonly #partial = Buffer.allocUnsafe(XS_HEADER_SIZE + XENSTORE_PAYLOAD_MAX);
  #kept = 0;

  /**
   * @param chunk the caller's again when this returns
   * @param take called for each message that is complete; may return false to stop
   * @returns false where a length is beyond what the protocol allows: nothing that follows can be understood
   */
  push(chunk: Buffer, take: (message: Message) => boolean): boolean {
    let at = 0;
    while (this.#kept > 0 && at < chunk.length) {
      const wanted = this.#wanted();
      if (wanted > this.#partial.length) return false;
      const count = Math.min(wanted - this.#kept, chunk.length - at);
      chunk.copy(this.#partial, this.#kept, at, at + count);
      this.#kept += count;
      at += count;
      if (this.#kept < XS_HEADER_SIZE || this.#kept < this.#wanted()) continue;
      this.#kept = 0;
      if (!take(read(this.#partial, 0))) return true;
    }
    while (chunk.length - at >= XS_HEADER_SIZE) {
      const length = XS_HEADER_SIZE + chunk.readUInt32LE(at + 12);
      if (length > this.#partial.length) return false;
      if (chunk.length - at < length) break;
      if (!take(read(chunk, at))) return true;
      at += length;
    }
    if (at < chunk.length) this.#kept += chunk.copy(this.#partial, this.#kept, at);
    return true;
  }

  /** How many bytes the kept message needs, as far as they say. */
  #wanted(): number {
    return this.#kept < XS_HEADER_SIZE ? XS_HEADER_SIZE : XS_HEADER_SIZE + this.#partial.readUInt32LE(12);
  }
}

function read(bytes: Buffer, at: number): Message {
  const start = at + XS_HEADER_SIZE;
  return {
    type: bytes.readUInt32LE(at),
    requestId: bytes.readUInt32LE(at + 4),
    payload: bytes.subarray(start, start + bytes.readUInt32LE(at + 12)),
  };
}

/** The nul-terminated strings of a payload; what follows the last nul is one too. */
export function strings(payload: Buffer): string[] {
  const texts: string[] = [];
  for (let at = 0; at < payload.length; ) {
    const nul = payload.indexOf(0, at);
    const end = nul < 0 ? payload.length : nul;
    texts.push(payload.toString('utf8', at, end));
    at = end + 1;
  }
  return texts;
}

/** A reply of one string. */
export function oneString(payload: Buffer): string {
  const nul = payload.indexOf(0);
  return payload.toString('utf8', 0, nul < 0 ? payload.length : nul);
}
