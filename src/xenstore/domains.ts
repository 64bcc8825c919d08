/**
 * Domains as XenStore knows them, each an incarnation: an object that dies with the domain.
 *
 * Rights, ownership and accounting hang on the object, never on the number, so that a reused domid starts from nothing.
 * Which numbers exist is the hypervisor's knowledge: the host passes it in.
 */
import { DOMID_FIRST_RESERVED } from '../abi/xen/xs-wire.js';
import type { Connection } from './connection.js';
import type { Node } from './node.js';
import type { Limits, SoftLimits } from './quotas.js';

export class Domain {
  readonly domid: number;
  /** Distinguishes incarnations of one domid. */
  readonly serial: number;
  readonly privileged: boolean;
  alive = true;
  introduced = false;
  /** Shutdown has been noticed and announced. */
  shutdown = false;
  /** SET_TARGET: this domain acts with that one's rights too. */
  target: Domain | null = null;
  /** The domain's own ring, once introduced and connected. */
  connection: Connection | null = null;
  /** How INTRODUCE described the ring. */
  ring: { readonly gfn: number; readonly port: number } | null = null;
  /** Features offered on the ring page; null for all that the server has. */
  features: number | null = null;
  limits: Limits | null = null;
  softLimits: SoftLimits | null = null;
  nodes = 0;
  /** The list of its live nodes. */
  firstOwned: Node | null = null;
  watches = 0;
  transactions = 0;
  outstanding = 0;
  /** Bytes held for this domain: nodes owned, watches, transactions, replies and events not yet taken. */
  memory = 0;

  constructor(domid: number, serial: number, privileged: boolean) {
    this.domid = domid;
    this.serial = serial;
    this.privileged = privileged;
  }

  /** A node is this domain's from now on, at this price. */
  own(node: Node, memory: number): void {
    this.nodes++;
    this.memory += memory;
    node.previousOwned = null;
    node.nextOwned = this.firstOwned;
    if (this.firstOwned !== null) this.firstOwned.previousOwned = node;
    this.firstOwned = node;
  }

  /** A node is no longer this domain's. */
  disown(node: Node, memory: number): void {
    this.nodes--;
    this.memory -= memory;
    if (node.previousOwned === null) this.firstOwned = node.nextOwned;
    else node.previousOwned.nextOwned = node.nextOwned;
    if (node.nextOwned !== null) node.nextOwned.previousOwned = node.previousOwned;
    node.nextOwned = node.previousOwned = null;
  }
}

export class DomainTable {
  readonly #byId = new Map<number, Domain>();
  readonly #exists: (domid: number) => boolean;
  #serial = 1;
  /** Owner of what belongs to nobody else, and identity of local tools. */
  readonly control: Domain;

  constructor(exists: (domid: number) => boolean, controlDomid: number) {
    this.#exists = exists;
    this.control = this.#add(controlDomid, true);
    this.control.introduced = true;
  }

  /** A domain that XenStore has met. */
  get(domid: number): Domain | null {
    return this.#byId.get(domid) ?? null;
  }

  /** A domain named by a client: met now if the hypervisor has it; null for one that doesn't exist. */
  refer(domid: number): Domain | null {
    const known = this.#byId.get(domid);
    if (known !== undefined) return known;
    if (!(domid >= 0 && domid < DOMID_FIRST_RESERVED) || !this.#exists(domid)) return null;
    return this.#add(domid, domid === 0);
  }

  /** A domain that a dump tells of: whether it still exists is asked later. Null for a number that none can have. */
  adopt(domid: number): Domain | null {
    return this.#byId.get(domid) ?? (domid < DOMID_FIRST_RESERVED ? this.#add(domid, domid === 0) : null);
  }

  /** Whether the hypervisor has such a domain now. */
  exists(domid: number): boolean {
    return this.#exists(domid);
  }

  /** Ends an incarnation. Whoever held its object holds a dead one. */
  forget(domain: Domain): void {
    domain.alive = false;
    domain.introduced = false;
    domain.target = null;
    for (const other of this.#byId.values()) if (other.target === domain) other.target = null;
    this.#byId.delete(domain.domid);
  }

  [Symbol.iterator](): IterableIterator<Domain> {
    return this.#byId.values();
  }

  #add(domid: number, privileged: boolean): Domain {
    const domain = new Domain(domid, this.#serial++, privileged);
    this.#byId.set(domid, domain);
    return domain;
  }
}
