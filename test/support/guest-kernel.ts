/** A guest's kernel, as far as its XenStore goes, played through a domain's memory and event channels. */
import { HVM_PARAM_STORE_EVTCHN, HVM_PARAM_STORE_PFN } from '../../dist/abi/xen/hvm-params.js';
import type { Domain } from '../../dist/hypervisor/domain.js';
import { RingGuest } from './ring-guest.js';

export class GuestKernel {
  readonly ring: RingGuest;
  readonly gfn: number;
  readonly port: number;
  upcalls = 0;

  constructor(readonly domain: Domain) {
    const { params } = domain.hvm as NonNullable<Domain['hvm']>;
    this.gfn = Number(params[HVM_PARAM_STORE_PFN]);
    this.port = Number(params[HVM_PARAM_STORE_EVTCHN]);
    const { evtchn } = domain;
    evtchn.onUpcall = (port) => {
      this.upcalls++;
      evtchn.clearPending(port);
    };
    evtchn.unmask(this.port);
    const page = domain.machine.frame(domain.p2m.mfn(this.gfn));
    this.ring = new RingGuest(page, () => evtchn.send(this.port));
  }
}
