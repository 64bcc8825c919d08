/**
 * Permissions of a node: the owner first, then rights of further domains; the first entry's rights are everybody else's.
 *
 * An entry names a domain's incarnation, not its number: a later domain with the same domid is another object and inherits
 * nothing (XSA-322, 417, 483). `Perms` are immutable and shared, so nodes that inherit cost nothing.
 * @spec xen:docs/misc/xenstore.txt GET_PERMS, SET_PERMS
 */
import { XS_PERM_NONE, XS_PERM_OWNER, XS_PERM_READ, XS_PERM_WRITE } from '../abi/xen/xs-wire.js';
import { latin1Bytes } from './arena.js';
import type { Domain } from './domains.js';

export const ALL_RIGHTS = XS_PERM_READ | XS_PERM_WRITE | XS_PERM_OWNER;

export interface PermEntry {
  /** As given, for GET_PERMS. */
  readonly domid: number;
  /** Null where no such domain existed when the entry was set: shown, never effective. */
  readonly domain: Domain | null;
  readonly access: number;
}

/** Who asks: a connection. */
export interface Subject {
  readonly domain: Domain;
  readonly privileged: boolean;
}

const LETTERS = ['n', 'r', 'w', 'b'] as const;

export class Perms {
  readonly entries: readonly PermEntry[];
  readonly owner: Domain;
  #text: Uint8Array | null = null;

  /** Use `PermsPool.of`, which shares equal ones. */
  constructor(entries: readonly PermEntry[]) {
    const owner = entries[0]?.domain;
    if (owner === null || owner === undefined) throw new Error('permissions without an owner');
    this.entries = entries;
    this.owner = owner;
  }

  rightsOf(who: Subject): number {
    if (who.privileged) return ALL_RIGHTS;
    const domain = who.domain;
    const target = domain.target;
    if (this.owner === domain || this.owner === target) return ALL_RIGHTS;
    for (let i = 1; i < this.entries.length; i++) {
      const entry = this.entries[i] as PermEntry;
      if (entry.domain !== null && (entry.domain === domain || entry.domain === target)) return entry.access;
    }
    return (this.entries[0] as PermEntry).access;
  }

  /** The reply to GET_PERMS: `n0|r5|`. */
  get text(): Uint8Array {
    this.#text ??= latin1Bytes(this.entries.map((e) => `${LETTERS[e.access & 3]}${e.domid}\0`).join(''));
    return this.#text;
  }
}

/** Shares equal permissions. Forgets them all when it has grown large: only sharing is lost. */
export class PermsPool {
  readonly #known = new Map<string, Perms>();
  readonly #maxKnown = 8192;

  of(entries: readonly PermEntry[]): Perms {
    let key = '';
    for (const e of entries) key += `${e.domid}.${e.domain === null ? 0 : e.domain.serial}.${e.access},`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    if (this.#known.size >= this.#maxKnown) this.#known.clear();
    const perms = new Perms(entries);
    this.#known.set(key, perms);
    return perms;
  }

  /** What a new child gets: the parent's permissions, owned by its creator unless that one is privileged. */
  inherited(parent: Perms, creator: Subject): Perms {
    if (creator.privileged || parent.owner === creator.domain) return parent;
    const [first, ...others] = parent.entries as [PermEntry, ...PermEntry[]];
    return this.of([{ domid: creator.domain.domid, domain: creator.domain, access: first.access }, ...others]);
  }

  /** Without a domain that has gone: for the special watches, whose permissions outlive domains. */
  without(perms: Perms, gone: Domain, heir: Domain): Perms {
    const [first, ...others] = perms.entries as [PermEntry, ...PermEntry[]];
    const head = first.domain === gone ? { domid: heir.domid, domain: heir, access: first.access } : first;
    return this.of([head, ...others.filter((e) => e.domain !== gone)]);
  }
}

/** The access bits of `r`, `w`, `b` and `n`; null for another letter. */
export function accessOf(letter: number): number | null {
  switch (letter) {
    case 0x6e:
      return XS_PERM_NONE;
    case 0x72:
      return XS_PERM_READ;
    case 0x77:
      return XS_PERM_WRITE;
    case 0x62:
      return XS_PERM_READ | XS_PERM_WRITE;
    default:
      return null;
  }
}
