/**
 * Rings of domains that a XenStore server serves, on a reactor: from INTRODUCE to RELEASE or the domain's end. How a page
 * is mapped and a port bound is the platform's affair: the embedded host asks its hypervisor, a daemon of its own the
 * device files.
 *
 * Domains are hostile, in what they write to the page (StoreRing) and in how often they ring: rings are served in rounds,
 * one look at each, with everything else between them.
 */

import type { XsErrorName } from '../abi/xen/xs-wire.js';
import { XenError } from '../boundary/xen-error.js';
import { StoreRing } from '../xenstore/ring.js';
import type { ServedClient, XenstoreService } from './xenstore-service.js';

export interface MappedPage {
  /** Not to be touched after `unmap`. */
  readonly bytes: Uint8Array;
  unmap(): void;
}

/** What the domain the server runs in can do with others. */
export interface RingPlatform {
  /** @throws XenError */
  map(domid: number, gfn: number): MappedPage;
  /** @returns the local port, which rings `XenstoreRings.rung` @throws XenError */
  bind(domid: number, port: number): number;
  unbind(port: number): void;
  notify(port: number): void;
}

interface Served extends ServedClient {
  readonly domid: number;
  readonly page: MappedPage;
  readonly ring: StoreRing;
  /** Our end of the event channel; undefined where it could not be bound again. */
  port: number | undefined;
}

export class XenstoreRings {
  private readonly byDomid = new Map<number, Served>();
  private readonly byPort = new Map<number, Served>();
  private readonly toReceive = new Set<Served>();

  constructor(
    private readonly service: XenstoreService,
    private readonly platform: RingPlatform,
  ) {}

  /** Rings served. */
  get count(): number {
    return this.byDomid.size;
  }

  has(domid: number): boolean {
    return this.byDomid.has(domid);
  }

  /** INTRODUCE: maps and binds, or for a domain that is served binds again and starts anew. Null on success. */
  introduce(domid: number, gfn: number, port: number): XsErrorName | null {
    const served = this.byDomid.get(domid);
    try {
      if (served) this.rebind(served, port);
      else this.serve(domid, this.platform.map(domid, gfn), port);
      return null;
    } catch (error) {
      if (!(error instanceof XenError)) throw error;
      return error.code === 'ESRCH' ? 'ENOENT' : 'EINVAL';
    }
  }

  /** Serves a page that is mapped already; it is unmapped in the end, also where this fails. @throws XenError */
  serve(domid: number, page: MappedPage, port: number): void {
    let local: number;
    try {
      local = this.platform.bind(domid, port);
    } catch (error) {
      page.unmap();
      throw error;
    }
    const host = {
      notify: () => {
        if (served.port !== undefined) this.platform.notify(served.port);
      },
      due: () => this.settleSoon(served),
      more: () => this.receiveSoon(served),
      closed: () => this.detach(served),
    };
    const ring: StoreRing = new StoreRing(this.service.server, page.bytes, host, domid);
    const served: Served = { domid, page, ring, port: local, flush: () => ring.flush() };
    this.byDomid.set(domid, served);
    this.byPort.set(local, served);
    this.platform.notify(local);
    this.receiveSoon(served); // what came before we listened
  }

  /** The domain is served no more. */
  released(domid: number): void {
    const served = this.byDomid.get(domid);
    if (served) this.detach(served);
  }

  /** An event on a local port. @returns whether it is one of these */
  rung(port: number): boolean {
    const served = this.byPort.get(port);
    if (!served) return false;
    this.receiveSoon(served);
    return true;
  }

  close(): void {
    for (const served of [...this.byDomid.values()]) this.detach(served);
  }

  private rebind(served: Served, port: number): void {
    this.unbind(served);
    served.port = this.platform.bind(served.domid, port);
    this.byPort.set(served.port, served);
    served.ring.reset();
    this.receiveSoon(served);
  }

  private unbind(served: Served): void {
    if (served.port === undefined) return;
    this.byPort.delete(served.port);
    this.platform.unbind(served.port);
    served.port = undefined;
  }

  private detach(served: Served): void {
    if (!this.byDomid.delete(served.domid)) return;
    this.toReceive.delete(served);
    this.service.forget(served);
    this.unbind(served);
    served.ring.close();
    served.page.unmap();
  }

  private receiveSoon(served: Served): void {
    this.wake();
    this.toReceive.add(served);
  }

  private settleSoon(served: Served): void {
    this.service.due(served);
  }

  private wake(): void {
    if (this.toReceive.size === 0) this.service.reactor.queue(() => this.round());
  }

  /** One look at each ring that has something to say. */
  private round(): boolean {
    const rings = [...this.toReceive];
    this.toReceive.clear();
    for (const served of rings) if (this.byDomid.get(served.domid) === served) served.ring.receive();
    this.service.settle();
    return true;
  }
}
