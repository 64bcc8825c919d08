/**
 * All patterns of a policy as one tree, walked along a path's own bytes: what is granted on the path and on everything
 * above it comes out of one pass, with no string made.
 *
 * Several places of the tree can match one path (`/a/*` and `/a/b`): the walk keeps them all. It trusts the policy to be
 * of a size that a person writes; the path is a client's.
 */
import { latin1Bytes } from '../arena.js';
import type { Path } from '../path.js';
import { namesOf } from './pattern.js';
import { RIGHTS_TO_KNOW } from './rights.js';

const ROOT_DEPTH = 0;
/** Names in the longest path that the checks let through. */
const MAX_DEPTH = 1100;

class Place {
  readonly children: Place[] = [];
  any: Place | null = null;
  /** Granted on exactly this path. */
  here = 0;
  /** Granted on all paths below, by `**`. */
  below = 0;

  constructor(readonly name: Uint8Array) {}

  /** Whether some path below matches a pattern. */
  get leads(): boolean {
    return this.children.length > 0 || this.any !== null || this.below !== 0;
  }

  child(name: string): Place {
    const bytes = latin1Bytes(name);
    const known = this.children.find((child) => same(child.name, bytes, 0, bytes.length));
    if (known !== undefined) return known;
    const child = new Place(bytes);
    this.children.push(child);
    return child;
  }
}

export class PatternTree {
  readonly #root = new Place(new Uint8Array(0));
  /** What the last walk found for each prefix of its path, by number of names. */
  readonly rightsAt = new Int32Array(MAX_DEPTH);
  #places: Place[] = [];
  #next: Place[] = [];
  #deep = 0;

  /** @param pattern filled, and checked */
  add(pattern: string, rights: number): void {
    let place = this.#root;
    for (const name of namesOf(pattern)) {
      if (name === '**') {
        place.below |= rights;
        return;
      }
      if (name === '*') {
        place.any ??= new Place(new Uint8Array(0));
        place = place.any;
      } else {
        place = place.child(name);
      }
    }
    place.here |= rights;
  }

  /** Walks along a path. @returns the rights granted on it; the other questions are about the same path */
  walk(path: Path): number {
    const { bytes, start, depth, prefixLength } = path;
    this.#places.length = 1;
    this.#places[0] = this.#root;
    this.#deep = 0;
    this.rightsAt[ROOT_DEPTH] = this.#root.here;
    let at = start + 1;
    for (let i = 0; i < depth; i++) {
      const end = start + (prefixLength[i] as number);
      this.#step(bytes, at, end);
      this.rightsAt[i + 1] = this.#rights();
      at = end + 1;
    }
    return this.rightsAt[depth] as number;
  }

  /** Whether a child of this name is the policy's business: then it may be listed. */
  shows(bytes: Uint8Array, start: number, end: number): boolean {
    if (this.showsAll) return true;
    for (const place of this.#places) {
      for (const child of place.children) if (same(child.name, bytes, start, end)) return true;
    }
    return false;
  }

  /** Whether every child may be listed. */
  get showsAll(): boolean {
    if (this.#deep !== 0) return true;
    for (const place of this.#places) if (place.any !== null || place.below !== 0) return true;
    return false;
  }

  /** Whether there may be something below that the client may know of. */
  get leadsOn(): boolean {
    if ((this.#deep & RIGHTS_TO_KNOW) !== 0) return true;
    for (const place of this.#places) if (place.leads) return true;
    return false;
  }

  #step(bytes: Uint8Array, start: number, end: number): void {
    const next = this.#next;
    next.length = 0;
    for (const place of this.#places) {
      this.#deep |= place.below;
      for (const child of place.children) {
        if (same(child.name, bytes, start, end)) {
          next.push(child);
          break;
        }
      }
      if (place.any !== null) next.push(place.any);
    }
    this.#next = this.#places;
    this.#places = next;
  }

  #rights(): number {
    let rights = this.#deep;
    for (const place of this.#places) rights |= place.here;
    return rights;
  }
}

function same(name: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  if (name.length !== end - start) return false;
  for (let i = 0; i < name.length; i++) if (name[i] !== bytes[start + i]) return false;
  return true;
}
