/** Event channels of one domain. (stub: signatures only) */
import type { Domain } from './domain.js';

/** What Xen itself does when a channel that it consumes is notified (ioreq completion). */
export type XenConsumer = (vcpuId: number) => void;

export class EventChannels {
  constructor(readonly domain: Domain) {}
  /** EVTCHNOP_alloc_unbound in this domain, for `remoteDomid` to bind. @throws XenError ENOSPC */
  allocUnbound(_remoteDomid: number): number {
    throw new Error('stub');
  }
  /** A port of this domain that Xen consumes: `remoteDomid` may bind it; its notifications call `consumer`. */
  allocUnboundXen(_vcpuId: number, _remoteDomid: number, _consumer: XenConsumer): number {
    throw new Error('stub');
  }
  /** Frees a port that Xen consumes, whatever its state. */
  freeXen(_port: number): void {
    throw new Error('stub');
  }
  /** Notifies the other end of a port that Xen consumes (Xen's notify_via_xen_event_channel). */
  notifyViaXen(_port: number): void {
    throw new Error('stub');
  }
}
