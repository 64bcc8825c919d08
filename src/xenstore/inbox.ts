/** Bytes of a stream that wait: a message that is not complete, and what came behind one that must wait. */

const INITIAL_BYTES = 512;
/** A buffer that has grown beyond this is given back once it is empty. */
const KEEP_BYTES = 8192;

export class Inbox {
  #buffer = new Uint8Array(0);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** What waits, at the start of this; valid until the next call. */
  get buffer(): Uint8Array {
    return this.#buffer;
  }

  /** Adds bytes `from` to `end` of a chunk. */
  add(chunk: Uint8Array, from: number, end = chunk.length): void {
    const size = this.#size + end - from;
    if (size > this.#buffer.length) {
      const grown = new Uint8Array(Math.max(size, 2 * this.#buffer.length, INITIAL_BYTES));
      grown.set(this.#buffer.subarray(0, this.#size));
      this.#buffer = grown;
    }
    this.#buffer.set(chunk.subarray(from, end), this.#size);
    this.#size = size;
  }

  /** The first `count` bytes have been used. */
  drop(count: number): void {
    this.#buffer.copyWithin(0, count, this.#size);
    this.#size -= count;
    if (this.#size === 0 && this.#buffer.length > KEEP_BYTES) this.#buffer = new Uint8Array(0);
  }

  clear(): void {
    this.#buffer = new Uint8Array(0);
    this.#size = 0;
  }
}
