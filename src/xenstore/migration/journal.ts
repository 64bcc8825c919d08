/**
 * What has changed since the last snapshot, as records: collected while requests are served, taken out in one piece before
 * any reply leaves. So a piece is all or nothing, and with it each request and each transaction in it.
 *
 * Written are nodes with what they hold now (NODE_DATA, without permissions: removed with all below it), domains, limits,
 * watches of rings, where rings stand, and what their open transactions see: with that, the next daemon goes on in the
 * middle of a request, and neither does one twice nor leaves one out. Not written is what ends with the daemon: sockets
 * and what they have.
 */
import type { Connection } from '../connection.js';
import type { Domain } from '../domains.js';
import type { Node } from '../node.js';
import type { Observer } from '../observer.js';
import type { XenstoreServer } from '../server.js';
import type { Transaction } from '../transaction.js';
import type { SpecialWatch, Watch } from '../watches.js';
import {
  isServed,
  ringId,
  writeDomain,
  writeDomainData,
  writeGlobalQuotas,
  writeNode,
  writeSpecial,
  writeWatch,
} from './encode.js';
import { RecordWriter } from './record-writer.js';
import { OWN_DOMAIN_ENDED, OWN_UNWATCH, RECORD_WATCH_DATA_EXTENDED } from './records.js';
import { writeNews } from './transactions.js';

export class JournalRecords implements Observer {
  readonly #server: XenstoreServer;
  readonly #writer = new RecordWriter();
  readonly #headroom: number;
  /** To be written once all is done that is done in one go. */
  readonly #rings = new Set<Connection>();
  /** Transactions of rings that were begun here. */
  readonly #transactions = new WeakSet<Transaction>();

  /** @param headroom bytes left free in front of the records, for whoever frames them */
  constructor(server: XenstoreServer, headroom = 0) {
    this.#server = server;
    this.#headroom = headroom;
    this.#writer.zeros(headroom);
  }

  /** The headroom and what has been collected, to be written at once; not to be kept. */
  bytes(): Uint8Array {
    this.#writeRings();
    return this.#writer.bytes();
  }

  get length(): number {
    this.#writeRings();
    return this.#writer.length - this.#headroom;
  }

  clear(): void {
    this.#writer.clear();
    this.#writer.zeros(this.#headroom);
  }

  nodeChanged(node: Node): void {
    writeNode(this.#writer, this.#server.arena, node.pathRef, node.pathLength, node);
  }

  nodeRemoved(node: Node): void {
    writeNode(this.#writer, this.#server.arena, node.pathRef, node.pathLength, null);
  }

  domainChanged(domain: Domain): void {
    if (isServed(this.#server, domain)) writeDomain(this.#writer, domain, true, null);
    writeDomainData(this.#writer, this.#server, domain);
    if (domain.connection !== null) this.ringMoved(domain.connection);
  }

  ringMoved(connection: Connection): void {
    this.#rings.add(connection);
  }

  domainEnded(domain: Domain): void {
    this.#writer.begin(OWN_DOMAIN_ENDED);
    this.#writer.u16(domain.domid);
    this.#writer.end();
  }

  quotasChanged(): void {
    writeGlobalQuotas(this.#writer, this.#server);
  }

  specialChanged(name: SpecialWatch): void {
    writeSpecial(this.#writer, name, this.#server.watches.special[name]);
  }

  watchAdded(watch: Watch): void {
    this.#watch(watch, RECORD_WATCH_DATA_EXTENDED);
  }

  watchRemoved(watch: Watch): void {
    this.#watch(watch, OWN_UNWATCH);
  }

  /** Rings that stand elsewhere now. */
  #writeRings(): void {
    for (const connection of this.#rings) {
      const { origin, open, ring } = connection;
      if (!open || ring === null || !isServed(this.#server, origin)) continue;
      writeDomain(this.#writer, origin, true, connection);
      writeNews(this.#writer, connection, this.#transactions);
    }
    this.#rings.clear();
  }

  #watch(watch: Watch, type: typeof RECORD_WATCH_DATA_EXTENDED | typeof OWN_UNWATCH): void {
    const { kind, origin } = watch.connection;
    if (kind !== 'ring') return;
    writeWatch(this.#writer, this.#server.arena, ringId(origin.domid), watch, type);
  }
}
