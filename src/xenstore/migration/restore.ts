/**
 * Makes a server from a stream, and from the frames of a journal that follow it.
 *
 *     const restorer = new Restorer(server);          // a server that nobody has used yet
 *     restorer.stream(bytes); restorer.frame(bytes)…  // StreamError: drop the server
 *     restorer.finish(transports);                    // connections come to life; can't fail any more
 *
 * Trusts nobody: what `record-reader.ts` has left open is checked here, and nothing leaves this server before `finish`. A
 * domain that has gone meanwhile is ended then, so that watchers hear of it.
 */
import { DOMID_FIRST_RESERVED, XENSTORE_REL_PATH_MAX, XS_HEADER_SIZE } from '../../abi/xen/xs-wire.js';
import { latin1, latin1Bytes } from '../arena.js';
import type { Connection } from '../connection.js';
import type { Domain } from '../domains.js';
import type { Node } from '../node.js';
import { isQuotaName, setLimit } from '../operations/quota-argument.js';
import { watchKey } from '../operations/watch.js';
import { getU32 } from '../output-queue.js';
import type { Path } from '../path.js';
import type { PermEntry, Perms } from '../permissions.js';
import type { XenstoreServer } from '../server.js';
import type { Actor } from '../view.js';
import { NO_DEPTH_LIMIT } from '../watches.js';
import { ringId } from './encode.js';
import { readFrame, readStream } from './record-reader.js';
import {
  type ConnectionRecord,
  DEPTH_UNLIMITED,
  DOMAIN_SHUTDOWN,
  DOMID_INVALID,
  type GlobalRecord,
  type MoreInputRecord,
  type NodeRecord,
  OWN_DOMAIN,
  OWN_DOMAIN_ENDED,
  OWN_MORE_INPUT,
  OWN_RESTRICTED,
  OWN_RING,
  OWN_STATE,
  OWN_TRANSACTION,
  OWN_UNWATCH,
  type OwnDomainRecord,
  type OwnTransactionRecord,
  type QuotaRecord,
  RECORD_CONNECTION_DATA,
  RECORD_DOMAIN_DATA,
  RECORD_GLOBAL_DATA,
  RECORD_GLOBAL_QUOTA_DATA,
  RECORD_NODE_DATA,
  RECORD_TRANSACTION_DATA,
  RECORD_WATCH_DATA_EXTENDED,
  type RestrictedRecord,
  type RingRecord,
  type StateRecord,
  StreamError,
  type StreamRecord,
  type TransactionRecord,
  type WatchRecord,
} from './records.js';
import { checkTransaction, restoreTransaction, type TransactionImage } from './transactions.js';

/** Who brings connections to life. Default: rings as INTRODUCE does, sockets not at all. */
export interface Transports {
  /** Connects the socket to the server; null where the descriptor is no use. */
  readonly socket?: (fd: number) => Connection | null;
  /** Attaches a domain's ring and connects it; null where that isn't possible (any more). */
  readonly ring?: (domid: number, gfn: number, port: number) => Connection | null;
}

interface ConnectionImage {
  readonly spec: ConnectionRecord['spec'];
  readonly home: Uint8Array;
  input: Uint8Array;
  readonly partial: number;
  readonly output: Uint8Array;
  readonly watches: Map<string, WatchRecord>;
  readonly transactions: Map<number, TransactionImage & { readonly places: Map<string, number> }>;
  restricted: Domain | null;
  position: RingRecord | null;
}

export class Restorer {
  /** Of the last stream: its GLOBAL_DATA, and the journal that follows it (0 for none). */
  global: GlobalRecord | null = null;
  journal = 0;
  readonly #server: XenstoreServer;
  readonly #internal: Actor;
  readonly #connections = new Map<number, ConnectionImage>();
  #inJournal = false;

  constructor(server: XenstoreServer) {
    this.#server = server;
    this.#internal = { domain: server.domains.control, privileged: true, cause: () => null };
  }

  /** @throws StreamError */
  stream(bytes: Uint8Array): void {
    const { store } = this.#server;
    for (const node of [...store.children(store.root)]) store.remove(this.#internal, node);
    for (const record of readStream(bytes)) this.#apply(record);
    for (const { transactions } of this.#connections.values()) {
      for (const transaction of transactions.values()) checkTransaction(transaction);
    }
  }

  /** @throws StreamError */
  frame(bytes: Uint8Array): void {
    this.#inJournal = true;
    for (const record of readFrame(bytes)) this.#apply(record);
  }

  finish(transports: Transports = {}): void {
    const server = this.#server;
    server.enter();
    for (const image of this.#connections.values()) {
      const { spec, restricted } = image;
      const connection = spec.kind === 'ring' ? this.#ring(spec.domid, transports) : transports.socket?.(spec.fd);
      if (connection == null) continue;
      if (restricted !== null) connection.become(restricted);
      for (const watch of image.watches.values()) this.#addWatch(connection, image, watch);
      this.#openTransactions(connection, image);
      this.#takeOver(connection, image);
    }
    for (const domain of [...server.domains]) {
      if (!domain.privileged && !server.domains.exists(domain.domid)) server.domainGone(domain.domid);
    }
    server.leave();
  }

  /** Without a record of ours a ring's transaction is from a file: its daemon was killed. */
  #openTransactions(connection: Connection, { transactions, position }: ConnectionImage): void {
    if (position === null && this.#inJournal) return;
    for (const id of position?.transactions ?? []) {
      if (id !== 0 && !transactions.has(id)) transactions.set(id, { id, nodes: [], own: null, places: new Map() });
    }
    for (const image of transactions.values()) {
      const isDoomed = position !== null && image.own === null;
      restoreTransaction(this.#server, connection, image, isDoomed, (record) => this.#perms(record));
    }
  }

  #ring(domid: number, transports: Transports): Connection | null {
    const domain = this.#server.domains.get(domid) as Domain;
    const { gfn, port } = domain.ring ?? { gfn: 0, port: 0 };
    if (transports.ring !== undefined) return transports.ring(domid, gfn, port);
    if (domain === this.#server.domains.control) return domain.connection;
    const error = this.#server.host.introduce?.(domid, gfn, port) ?? null;
    if (error !== null) this.#server.host.log?.(`the ring of domain ${domid} could not be attached: ${error}`);
    return domain.connection;
  }

  /** What a ring has had of its output since is not sent again. */
  #takeOver(connection: Connection, { input, partial, output, position }: ConnectionImage): void {
    if (position === null || connection.ring === null) return connection.takeOver(input, partial, output);
    const given = Math.min(connection.ring.resume(position), output.length);
    let end = partial;
    while (end < given) end += XS_HEADER_SIZE + getU32(output, end + 12);
    connection.takeOver(input, end - given, output.subarray(given));
  }

  #addWatch(connection: Connection, image: ConnectionImage, { path: bytes, token, depth }: WatchRecord): void {
    const path = this.#watchPath(image, bytes);
    const skip = path.special || bytes[0] === 0x2f ? 0 : image.home.length + 1;
    const key = watchKey(path.toString(), latin1(token, 0, token.length));
    connection.addWatch(path, token.slice(), key, skip, depth === DEPTH_UNLIMITED ? NO_DEPTH_LIMIT : depth);
  }

  #apply(record: StreamRecord): void {
    switch (record.type) {
      case RECORD_GLOBAL_DATA:
        this.global = record;
        return;
      case OWN_STATE:
        return this.#state(record);
      case RECORD_CONNECTION_DATA:
        return this.#connection(record);
      case OWN_RING:
        return this.#position(record);
      case OWN_MORE_INPUT:
        return this.#moreInput(record);
      case OWN_RESTRICTED:
        return this.#restricted(record);
      case RECORD_WATCH_DATA_EXTENDED:
      case OWN_UNWATCH:
        return this.#watch(record);
      case RECORD_TRANSACTION_DATA:
        return this.#transaction(record);
      case OWN_TRANSACTION:
        return this.#ownTransaction(record);
      case RECORD_NODE_DATA:
        return record.connection === 0 ? this.#node(record) : this.#pendingNode(record);
      case RECORD_GLOBAL_QUOTA_DATA:
      case RECORD_DOMAIN_DATA:
        return this.#quotas(record);
      case OWN_DOMAIN:
        return this.#ownDomain(record);
      case OWN_DOMAIN_ENDED:
        return this.#domainEnded(record);
    }
  }

  #state({ journal, clock }: StateRecord): void {
    this.journal = journal;
    // Generations must not come again: a client may be in the middle of a DIRECTORY_PART.
    if (clock > this.#server.store.clock) this.#server.store.clock = clock;
  }

  #connection(record: ConnectionRecord): void {
    const { id, spec, input, partial, output } = record;
    const known = this.#connections.get(id);
    if (known !== undefined && !this.#inJournal) throw new StreamError(`connection ${id} twice`);
    const domid = spec.kind === 'ring' ? spec.domid : this.#server.domains.control.domid;
    if (spec.kind === 'ring') this.#serve(spec, id);
    this.#connections.set(id, {
      spec,
      home: latin1Bytes(`/local/domain/${domid}`),
      input,
      partial,
      output,
      watches: known?.watches ?? new Map(),
      transactions: known?.transactions ?? new Map(),
      restricted: null,
      position: null,
    });
  }

  #serve(spec: ConnectionRecord['spec'] & { kind: 'ring' }, id: number): void {
    const domain = this.#domain(spec.domid);
    if (domain.introduced && domain.ring !== null && !this.#inJournal) throw new StreamError(`two rings of one domain`);
    if (this.#inJournal && id !== ringId(spec.domid)) throw new StreamError(`connection ${id} of domain ${spec.domid}`);
    domain.introduced = true;
    domain.ring = { gfn: domain.ring?.gfn ?? 0, port: spec.port };
    domain.target = spec.target === DOMID_INVALID ? null : this.#domain(spec.target);
  }

  #position(record: RingRecord): void {
    const image = this.#image(record.connection);
    image.position = record;
    const open = new Set(record.transactions);
    for (const id of image.transactions.keys()) if (!open.has(id)) image.transactions.delete(id);
  }

  #moreInput({ connection: id, input: more }: MoreInputRecord): void {
    const image = this.#image(id);
    const input = new Uint8Array(image.input.length + more.length);
    input.set(image.input);
    input.set(more, image.input.length);
    image.input = input;
  }

  #restricted({ connection, domid }: RestrictedRecord): void {
    const image = this.#image(connection);
    const domain = this.#domain(domid);
    if (domain.privileged) throw new StreamError(`restriction to domain ${domid}`);
    image.restricted = domain;
  }

  #watch(record: WatchRecord): void {
    // The snapshot may have been written after the end of the domain.
    if (this.#inJournal && !this.#connections.has(record.connection)) return;
    const image = this.#image(record.connection);
    const key = watchKey(this.#watchPath(image, record.path).toString(), latin1(record.token, 0, record.token.length));
    if (record.type === OWN_UNWATCH) {
      // The snapshot may have been written after it: then it wasn't in it any more.
      image.watches.delete(key);
    } else if (image.watches.has(key) && !this.#inJournal) {
      throw new StreamError('a watch is set twice');
    } else {
      image.watches.set(key, record);
    }
  }

  #transaction({ connection, transaction: id }: TransactionRecord): void {
    const { transactions } = this.#image(connection);
    // In a journal it may be another one of the same number: a ring that begins anew counts anew.
    const isTwice = transactions.has(id) && !this.#inJournal;
    if (id === 0 || isTwice) throw new StreamError(`transaction ${id} of connection ${connection}`);
    transactions.set(id, { id, nodes: [], own: null, places: new Map() });
  }

  #ownTransaction(record: OwnTransactionRecord): void {
    const transaction = this.#image(record.connection).transactions.get(record.transaction);
    if (transaction === undefined) throw new StreamError(`no transaction ${record.transaction}`);
    transaction.own = record;
  }

  #pendingNode(record: NodeRecord): void {
    const transaction = this.#image(record.connection).transactions.get(record.transaction);
    if (transaction === undefined) {
      // The snapshot may have been written after its end.
      if (this.#inJournal) return;
      throw new StreamError(`a node of a transaction ${record.transaction} that isn't there`);
    }
    const path = this.#treePath(record.path).toString();
    const place = transaction.places.get(path) ?? transaction.nodes.length;
    if (place < transaction.nodes.length && !this.#inJournal) throw new StreamError(`${path} twice in a transaction`);
    transaction.places.set(path, place);
    transaction.nodes[place] = record;
  }

  #node(record: NodeRecord): void {
    const special = latin1(record.path, 0, record.path.length);
    if (special === '@introduceDomain' || special === '@releaseDomain') {
      if (record.perms.length === 0) throw new StreamError(`${special} without permissions`);
      this.#server.watches.special[special] = this.#perms(record);
      return;
    }
    const { store } = this.#server;
    const path = this.#treePath(record.path);
    const node = store.find(path.hash, path.bytes, path.start, path.length, 0);
    if (record.perms.length === 0) {
      if (!this.#inJournal || node === null || node === store.root)
        throw new StreamError(`${special} has no permissions`);
      store.remove(this.#internal, node);
    } else if (node === null) {
      this.#create(path, record);
    } else {
      this.#change(node, record, special);
    }
  }

  #create(path: Path, record: NodeRecord): void {
    const { store, arena } = this.#server;
    const top = path.depth < 2;
    const hash = top ? path.rootHash : (path.prefixHash[path.depth - 2] as number);
    const length = top ? 1 : (path.prefixLength[path.depth - 2] as number);
    const parent = store.find(hash, path.bytes, path.start, length, 0);
    if (parent === null) throw new StreamError(`${path.toString()} has no parent`);
    const pathRef = arena.store(path.bytes, path.start, path.length);
    const { value } = record;
    const valueRef = arena.store(value, 0, value.length);
    store.insert(parent, path.hash, pathRef, path.length, valueRef, value.length, this.#perms(record));
  }

  #change(node: Node, record: NodeRecord, text: string): void {
    const { store, arena } = this.#server;
    if (!this.#inJournal && node !== store.root) throw new StreamError(`${text} twice`);
    const perms = this.#perms(record);
    if (perms !== node.perms) store.replacePerms(node, perms);
    const { value } = record;
    if (value.length !== node.valueLength || !arena.equals(node.valueRef, value, 0, value.length)) {
      store.replaceValue(node, arena.store(value, 0, value.length), value.length);
    }
  }

  #quotas({ domid, features, limits }: QuotaRecord): void {
    const { quotas } = this.#server;
    const domain = domid < 0 ? null : this.#domain(domid);
    if (domain !== null) domain.features = features === this.#server.features ? null : features;
    if (domain !== null && limits.size > 0) {
      domain.limits = { ...quotas.limits };
      domain.softLimits = { ...quotas.soft };
    }
    for (const [name, value] of limits) {
      if (isQuotaName(name)) setLimit(name, domain?.limits ?? quotas.limits, domain?.softLimits ?? quotas.soft, value);
    }
  }

  #ownDomain({ domid, flags, gfn }: OwnDomainRecord): void {
    const domain = this.#domain(domid);
    if (domain.ring === null) throw new StreamError(`domain ${domid} has no ring`);
    domain.shutdown = (flags & DOMAIN_SHUTDOWN) !== 0;
    domain.ring = { gfn, port: domain.ring.port };
  }

  #domainEnded({ domid }: OwnDomainRecord): void {
    const domain = this.#server.domains.get(domid);
    if (domain === this.#server.domains.control) throw new StreamError('the control domain ends');
    this.#connections.delete(ringId(domid));
    if (domain === null) return;
    // Nobody is attached yet: nothing to announce or to detach.
    domain.introduced = false;
    this.#server.endDomain(domain);
  }

  #image(id: number): ConnectionImage {
    const image = this.#connections.get(id);
    if (image === undefined) throw new StreamError(`there is no connection ${id}`);
    return image;
  }

  #domain(domid: number): Domain {
    const domain = this.#server.domains.adopt(domid);
    if (domain === null) throw new StreamError(`there can be no domain ${domid}`);
    return domain;
  }

  /** An owner that means nobody is replaced by the control domain. */
  #perms({ perms }: NodeRecord): Perms {
    const { domains, pool } = this.#server;
    const entries = perms.map(({ access, stale, domid }, i): PermEntry => {
      const domain = stale || domid >= DOMID_FIRST_RESERVED ? null : domains.adopt(domid);
      if (domain !== null || i > 0) return { domid, domain, access };
      return { domid: domains.control.domid, domain: domains.control, access };
    });
    return pool.of(entries);
  }

  #treePath(bytes: Uint8Array): Path {
    const { path } = this.#server.request;
    if (bytes[0] !== 0x2f || !path.parse(bytes, 0, bytes.length, bytes, XENSTORE_REL_PATH_MAX)) {
      throw new StreamError(`not a path: ${JSON.stringify(latin1(bytes, 0, Math.min(bytes.length, 100)))}`);
    }
    return path;
  }

  #watchPath({ home }: ConnectionImage, bytes: Uint8Array): Path {
    const { path } = this.#server.request;
    if (!path.parseWatched(bytes, 0, bytes.length, home, XENSTORE_REL_PATH_MAX)) {
      throw new StreamError(`not a path to watch: ${JSON.stringify(latin1(bytes, 0, Math.min(bytes.length, 100)))}`);
    }
    return path;
  }
}
