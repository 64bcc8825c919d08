/**
 * Bytes of paths and values, kept outside the garbage-collected heap's object graph.
 *
 * A store of 100,000 nodes holds 200,000 small byte strings. As JavaScript strings they cost a header each and ten
 * nanoseconds a character to compare or send; as typed arrays two hundred bytes each. Here they are slots of a few size
 * classes in 256 KiB chunks, named by a small integer (chunk, offset), so that writing a value allocates nothing.
 *
 * Ownership is explicit: a slot has exactly one owner (a node, a version of a node, an entry of a transaction, a watched
 * path), who frees it once. `check.ts` counts owners against `slotsInUse`.
 */

const CHUNK_SHIFT = 18;
const CHUNK_SIZE = 1 << CHUNK_SHIFT;
const OFFSET_MASK = CHUNK_SIZE - 1;
/** Below this many bytes a loop beats the fixed cost of `subarray` and `set`. */
const LOOP_LIMIT = 96;

/** Names a slot. 0 stands for "no bytes". */
export type ByteRef = number;

/** Size classes in bytes: steps of 8, 32, 128 and 512, so that at most about a quarter of a slot is idle. */
const CLASS_SIZES: readonly number[] = [
  ...steps(8, 128, 8),
  ...steps(160, 512, 32),
  ...steps(640, 2048, 128),
  ...steps(2560, 4608, 512),
];
const MAX_SLOT = 4608;

function steps(from: number, to: number, by: number): number[] {
  return Array.from({ length: (to - from) / by + 1 }, (_, i) => from + i * by);
}

/** Class of a length, by units of 8 bytes. */
const CLASS_OF = new Uint8Array(MAX_SLOT / 8 + 1);
for (let unit = 1, c = 0; unit < CLASS_OF.length; unit++) {
  if (unit * 8 > (CLASS_SIZES[c] as number)) c++;
  CLASS_OF[unit] = c;
}

function classOf(length: number): number {
  return CLASS_OF[(length + 7) >>> 3] as number;
}

/** Whether values of both lengths live in slots of one size, so that one can take the other's place. */
export function sameSlotSize(a: number, b: number): boolean {
  return a > 0 && b > 0 && classOf(a) === classOf(b);
}

/** Copies a few bytes with a loop, many with the engine's copy. */
export function copyBytes(to: Uint8Array, at: number, from: Uint8Array, start: number, length: number): void {
  if (length <= LOOP_LIMIT) {
    for (let i = 0; i < length; i++) to[at + i] = from[start + i] as number;
  } else {
    to.set(from.subarray(start, start + length), at);
  }
}

export class ByteArena {
  readonly #chunks: Uint8Array[] = [new Uint8Array(CHUNK_SIZE)];
  readonly #free: ByteRef[][] = CLASS_SIZES.map(() => []);
  /** Next unused byte of the last chunk. Starts at 8: reference 0 is taken by "no bytes". */
  #top = 8;
  #slots = 0;

  get slotsInUse(): number {
    return this.#slots;
  }

  get bytesReserved(): number {
    return this.#chunks.length * CHUNK_SIZE;
  }

  /** A slot holding a copy of `from[start, start + length)`; 0 for no bytes. */
  store(from: Uint8Array, start: number, length: number): ByteRef {
    if (length === 0) return 0;
    const ref = this.#take(length);
    copyBytes(this.chunk(ref), ref & OFFSET_MASK, from, start, length);
    return ref;
  }

  /** Overwrites a slot of the same size class. */
  overwrite(ref: ByteRef, from: Uint8Array, start: number, length: number): void {
    copyBytes(this.chunk(ref), ref & OFFSET_MASK, from, start, length);
  }

  free(ref: ByteRef, length: number): void {
    if (length === 0) return;
    this.#slots--;
    (this.#free[classOf(length)] as ByteRef[]).push(ref);
  }

  copyTo(ref: ByteRef, skip: number, length: number, to: Uint8Array, at: number): void {
    if (length > 0) copyBytes(to, at, this.chunk(ref), (ref & OFFSET_MASK) + skip, length);
  }

  equals(ref: ByteRef, other: Uint8Array, start: number, length: number): boolean {
    const chunk = this.chunk(ref);
    const offset = ref & OFFSET_MASK;
    for (let i = 0; i < length; i++) if (chunk[offset + i] !== other[start + i]) return false;
    return true;
  }

  /** The chunk that holds a slot; with `offset` a view for code that reads in place and keeps nothing. */
  chunk(ref: ByteRef): Uint8Array {
    return this.#chunks[ref >>> CHUNK_SHIFT] as Uint8Array;
  }

  offset(ref: ByteRef): number {
    return ref & OFFSET_MASK;
  }

  /** For logs, tools and tests: the bytes as a string, one character a byte. */
  text(ref: ByteRef, length: number): string {
    return length === 0 ? '' : latin1(this.chunk(ref), ref & OFFSET_MASK, (ref & OFFSET_MASK) + length);
  }

  #take(length: number): ByteRef {
    this.#slots++;
    const c = classOf(length);
    const reused = (this.#free[c] as ByteRef[]).pop();
    if (reused !== undefined) return reused;
    const size = CLASS_SIZES[c] as number;
    if (this.#top + size > CHUNK_SIZE) {
      this.#chunks.push(new Uint8Array(CHUNK_SIZE));
      this.#top = 0;
    }
    const ref = ((this.#chunks.length - 1) << CHUNK_SHIFT) | this.#top;
    this.#top += size;
    return ref;
  }
}

/** Bytes as a string with one character a byte, whatever their value. */
export function latin1(bytes: Uint8Array, start: number, end: number): string {
  let text = '';
  let i = start;
  for (; i + 8 <= end; i += 8) {
    text += String.fromCharCode(
      bytes[i] as number,
      bytes[i + 1] as number,
      bytes[i + 2] as number,
      bytes[i + 3] as number,
      bytes[i + 4] as number,
      bytes[i + 5] as number,
      bytes[i + 6] as number,
      bytes[i + 7] as number,
    );
  }
  for (; i < end; i++) text += String.fromCharCode(bytes[i] as number);
  return text;
}

/** The inverse of `latin1`: characters above 0xff lose their upper bits. */
export function latin1Bytes(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}
