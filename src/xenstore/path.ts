/**
 * A path on its way in: checked, hashed and cut into segments in one pass over the request's own bytes.
 *
 * One `Path` is reused for every request: nothing is allocated, and an absolute path isn't copied. The hash of every
 * prefix falls out of the same loop, so ancestors are found without looking at the bytes again. Hashes are seeded: a guest
 * that doesn't know the seed can't aim at one bucket.
 *
 * Trusts nobody: the bytes are a client's.
 * @spec xen:docs/misc/xenstore.txt (permitted characters, no doubled or trailing slashes)
 */
import { XENSTORE_REL_PATH_MAX } from '../abi/xen/xs-wire.js';
import { copyBytes, latin1 } from './arena.js';

const SLASH = 0x2f;
const AT = 0x40;
/** Longest canonical path: the quota on top of `/local/domain/12345/`. */
const PATH_BYTES_MAX = XENSTORE_REL_PATH_MAX + 20;

/** 1 for bytes that may occur between slashes. */
const NAME_BYTE = new Uint8Array(256);
for (const c of 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_@') NAME_BYTE[c.charCodeAt(0)] = 1;

/** `/local/domain/` */
const HOME_PREFIX = Uint8Array.from('/local/domain/', (c) => c.charCodeAt(0));

export class Path {
  /** The bytes that the path lies in: the request's, or `#scratch` for what was relative. */
  bytes: Uint8Array;
  start = 0;
  length = 0;
  hash = 0;
  /** Number of segments; 0 for the root. */
  depth = 0;
  /** An `@` name: no path in the tree. */
  special = false;
  /** For the segment i: hash and length of the prefix that ends with it. */
  readonly prefixHash = new Int32Array(PATH_BYTES_MAX);
  readonly prefixLength = new Int32Array(PATH_BYTES_MAX);
  readonly rootHash: number;
  readonly #scratch = new Uint8Array(2 * PATH_BYTES_MAX + 4096);

  constructor(seed: number) {
    this.rootHash = seed | 0;
    this.bytes = this.#scratch;
  }

  /**
   * Takes `from[start, end)`, putting `base` in front of a relative path.
   * @returns false where the bytes are no path: the caller answers EINVAL
   */
  parse(from: Uint8Array, start: number, end: number, base: Uint8Array, maxBytes: number): boolean {
    if (start < end && from[start] === SLASH) return this.#scan(from, start, end, maxBytes);
    if (start < end && from[start] === AT) return false;
    const length = base.length + 1 + (end - start);
    copyBytes(this.#scratch, 0, base, 0, base.length);
    this.#scratch[base.length] = SLASH;
    copyBytes(this.#scratch, base.length + 1, from, start, end - start);
    return this.#scan(this.#scratch, 0, length, maxBytes);
  }

  /** As `parse`, but `@` names are taken too: any bytes, up to the length of a relative path. */
  parseWatched(from: Uint8Array, start: number, end: number, base: Uint8Array, maxBytes: number): boolean {
    if (start === end || from[start] !== AT) return this.parse(from, start, end, base, maxBytes);
    if (end - start > XENSTORE_REL_PATH_MAX) return false;
    this.special = true;
    this.bytes = from;
    this.start = start;
    this.length = end - start;
    this.hash = hashBytes(from.subarray(start, end), this.rootHash);
    this.depth = 1;
    return true;
  }

  toString(): string {
    return latin1(this.bytes, this.start, this.start + this.length);
  }

  #scan(bytes: Uint8Array, start: number, end: number, maxBytes: number): boolean {
    const length = end - start;
    if (length > maxBytes && length > maxBytes + homePrefixLength(bytes, start, end)) return false;
    this.special = false;
    this.bytes = bytes;
    this.start = start;
    this.length = length;
    let hash = this.rootHash;
    let depth = 0;
    if (length > 1) {
      let previous = SLASH;
      for (let i = start + 1; i < end; i++) {
        const byte = bytes[i] as number;
        if (byte === SLASH) {
          if (previous === SLASH) return false;
          this.prefixHash[depth] = hash;
          this.prefixLength[depth++] = i - start;
        } else if (NAME_BYTE[byte] === 0) {
          return false;
        }
        hash = mix(hash, byte);
        previous = byte;
      }
      if (previous === SLASH) return false;
      this.prefixHash[depth] = hash;
      this.prefixLength[depth++] = length;
    }
    this.hash = hash;
    this.depth = depth;
    return true;
  }
}

/** The hash of a special watch's name. */
export function hashBytes(bytes: Uint8Array, seed: number): number {
  let hash = seed;
  for (const byte of bytes) hash = mix(hash, byte);
  return hash;
}

function mix(hash: number, byte: number): number {
  const h = Math.imul(hash ^ byte, 0x01000193);
  return h ^ (h >>> 15);
}

/** Length of a leading `/local/domain/<up to five digits>/`, which doesn't count against the path quota; else 0. */
function homePrefixLength(bytes: Uint8Array, start: number, end: number): number {
  for (let i = 0; i < HOME_PREFIX.length; i++) if (bytes[start + i] !== HOME_PREFIX[i]) return 0;
  let i = start + HOME_PREFIX.length;
  const digits = i;
  while (i < end && i - digits < 5 && isDigit(bytes[i] as number)) i++;
  return i > digits && i < end && bytes[i] === SLASH ? i + 1 - start : 0;
}

function isDigit(byte: number): boolean {
  return byte >= 0x30 && byte <= 0x39;
}
