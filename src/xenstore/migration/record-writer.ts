/** Writes records one behind the other into a buffer that grows. */
import type { ByteArena, ByteRef } from '../arena.js';
import { copyBytes } from '../arena.js';
import { RECORD_HEADER_SIZE, STREAM_HEADER_SIZE, STREAM_IDENT } from './records.js';

const INITIAL_BYTES = 1 << 14;
/** A buffer that has grown beyond this is given back once it has been emptied. */
const KEEP_BYTES = 1 << 20;

export class RecordWriter {
  #bytes = new Uint8Array(INITIAL_BYTES);
  #length = 0;
  /** Where the open record begins. */
  #record = 0;

  /** Bytes written so far, all records complete. */
  get length(): number {
    return this.#length;
  }

  /** What was written. Valid until the next call. */
  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  clear(): void {
    this.#length = 0;
    if (this.#bytes.length > KEEP_BYTES) this.#bytes = new Uint8Array(INITIAL_BYTES);
  }

  streamHeader(version: number): void {
    this.#reserve(STREAM_HEADER_SIZE);
    for (let i = 0; i < STREAM_IDENT.length; i++) this.u8(STREAM_IDENT.charCodeAt(i));
    for (const shift of [24, 16, 8, 0]) this.u8(version >>> shift);
    this.zeros(4);
  }

  begin(type: number): void {
    this.#record = this.#length;
    this.#reserve(RECORD_HEADER_SIZE);
    this.u32(type);
    this.u32(0);
  }

  /** Pads the record and writes its length: like Xen 4.17's, it counts the padding. */
  end(): void {
    this.zeros((8 - ((this.#length - this.#record) & 7)) & 7);
    const length = this.#length - this.#record - RECORD_HEADER_SIZE;
    for (let i = 0; i < 4; i++) this.#bytes[this.#record + 4 + i] = length >>> (8 * i);
  }

  u8(value: number): void {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
  }

  u16(value: number): void {
    this.#reserve(2);
    const b = this.#bytes;
    b[this.#length++] = value;
    b[this.#length++] = value >>> 8;
  }

  u32(value: number): void {
    this.#reserve(4);
    const b = this.#bytes;
    b[this.#length++] = value;
    b[this.#length++] = value >>> 8;
    b[this.#length++] = value >>> 16;
    b[this.#length++] = value >>> 24;
  }

  /** A whole number below 2^53. */
  u64(value: number): void {
    this.u32(value >>> 0);
    this.u32(Math.floor(value / 0x100000000));
  }

  copy(from: Uint8Array, start = 0, length = from.length): void {
    this.#reserve(length);
    copyBytes(this.#bytes, this.#length, from, start, length);
    this.#length += length;
  }

  slot(arena: ByteArena, ref: ByteRef, length: number, skip = 0): void {
    this.#reserve(length);
    arena.copyTo(ref, skip, length, this.#bytes, this.#length);
    this.#length += length;
  }

  zeros(count: number): void {
    this.#reserve(count);
    this.#bytes.fill(0, this.#length, this.#length + count);
    this.#length += count;
  }

  #reserve(count: number): void {
    if (this.#length + count <= this.#bytes.length) return;
    let size = this.#bytes.length * 2;
    while (size < this.#length + count) size *= 2;
    const grown = new Uint8Array(size);
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
  }
}
