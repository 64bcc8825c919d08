/**
 * One ioreq server: what a device model claims of a domain's I/O, the pages through which it is asked, and the event
 * channels that wake it.
 *
 *     created (disabled) <──── set_state ────> enabled
 *          │        pages: none ─┬─ resource: an extent of the server's own, mapped by whoever may
 *          │                     └─ guest frames: in the p2m while disabled, out of it while enabled
 *          └── destroyed, from either: pages given back, channels closed, waiting vCPUs told
 *
 * The pages are of one kind or the other, never both. vp_eport of a slot is written when the server is enabled.
 *
 * Trusts its caller (IoreqServers) to have looked at every number; what is in the pages is the device model's.
 *
 * @spec xen:common/ioreq.c
 */

import { PAGE_SIZE } from '../../abi/ids.js';
import { HVM_IOREQSRV_BUFIOREQ_ATOMIC, HVM_IOREQSRV_BUFIOREQ_OFF } from '../../abi/xen/dm-op.js';
import { SHUTDOWN_crash } from '../../abi/xen/xen.js';
import { XenError } from '../../boundary/xen-error.js';
import type { Domain } from '../domain.js';
import type { LogDirty } from '../log-dirty.js';
import type { Extent } from '../machine-memory.js';
import { P2M_INVALID } from '../p2m.js';
import type { IoreqGfn, IoreqGfns } from './ioreq-gfns.js';
import { IoreqPage, NR_IOREQ_SLOTS } from './ioreq-page.js';
import { RangeSet } from './range-set.js';

/** @spec xen:xen/ioreq.h MAX_NR_IO_RANGES, a type of range */
export const MAX_NR_IO_RANGES = 256;
const NR_IO_RANGE_TYPES = 3;

/** Frames of the resource. @spec xen:public/memory.h XENMEM_resource_ioreq_server_frame_* */
const FRAME_BUFIOREQ = 0;
const FRAME_IOREQ = 1;
const NR_FRAMES = 2;

/** A vCPU as this server sees it. */
export interface ServerVcpu {
  readonly port: number;
  /** Whether the vCPU waits for this server. */
  isPending: boolean;
  /** The last state seen of the request that the vCPU waits for: states only go forward. */
  lastState: number;
}

/** What belongs to the domain and not to one server. */
export interface ServerSurroundings {
  readonly domain: Domain;
  readonly gfns: IoreqGfns;
  readonly logDirty: LogDirty;
  /** A device model has notified the channel of a vCPU's synchronous requests. */
  readonly onNotify: (vcpuId: number) => void;
}

type PageKind = 'ioreq' | 'bufioreq';

export class IoreqServer {
  isEnabled = false;
  /** Claimed ports, addresses and PCI devices, by XEN_DMOP_IO_RANGE_*. */
  readonly ranges: readonly RangeSet[] = Array.from(
    { length: NR_IO_RANGE_TYPES },
    () => new RangeSet(MAX_NR_IO_RANGES),
  );
  readonly vcpus: (ServerVcpu | undefined)[] = [];
  /** 0 without buffered requests. */
  bufioreqPort = 0;
  ioreqPage: IoreqPage | undefined;
  bufioreqPage: IoreqPage | undefined;
  private extent: { readonly extent: Extent; readonly baseMfn: number } | undefined;
  private readonly loans = new Map<IoreqPage, IoreqGfn>();

  constructor(
    private readonly around: ServerSurroundings,
    readonly id: number,
    /** The domain of the device model: whoever created the server. */
    readonly emulator: Domain,
    private readonly bufioreqHandling: number,
  ) {}

  get handlesBufioreq(): boolean {
    return this.bufioreqHandling !== HVM_IOREQSRV_BUFIOREQ_OFF;
  }

  get isAtomic(): boolean {
    return this.bufioreqHandling === HVM_IOREQSRV_BUFIOREQ_ATOMIC;
  }

  /** Gives a vCPU its channel, and with vCPU 0 the buffered ring its own. @throws XenError ENOSPC, EINVAL */
  addVcpu(vcpuId: number): void {
    const { domain, onNotify } = this.around;
    if (vcpuId >= NR_IOREQ_SLOTS) throw new Error(`vCPU ${vcpuId} has no slot`);
    const port = domain.evtchn.allocUnboundXen(vcpuId, this.emulator.domid, onNotify);
    if (vcpuId === 0 && this.handlesBufioreq) {
      try {
        this.bufioreqPort = domain.evtchn.allocUnboundXen(0, this.emulator.domid, () => {});
      } catch (error) {
        domain.evtchn.freeXen(port);
        throw error;
      }
    }
    this.vcpus[vcpuId] = { port, isPending: false, lastState: 0 };
    if (this.isEnabled) this.ioreqPage?.setPort(vcpuId, port);
  }

  removeVcpu(vcpuId: number): void {
    const vcpu = this.vcpus[vcpuId];
    if (!vcpu) return;
    const { evtchn } = this.around.domain;
    this.vcpus[vcpuId] = undefined;
    evtchn.freeXen(vcpu.port);
    if (vcpuId === 0 && this.handlesBufioreq) {
      evtchn.freeXen(this.bufioreqPort);
      this.bufioreqPort = 0;
    }
  }

  /** Puts the pages into the guest's frames. @throws XenError EPERM, EINVAL, ENOMEM; nothing has changed then */
  mapGfns(): void {
    const before = this.ioreqPage;
    this.mapGfn('ioreq');
    if (!this.handlesBufioreq) return;
    try {
      this.mapGfn('bufioreq');
    } catch (error) {
      if (!before) this.unmapGfn('ioreq');
      throw error;
    }
  }

  /** Whether `resourceFrame` may be asked for. @throws XenError EPERM where the pages are in guest frames, ENOENT, EINVAL */
  checkResourceFrame(frame: number): void {
    if (this.ioreqPage?.gfn !== undefined) throw new XenError('EPERM', 'the pages are in guest frames');
    if (frame === FRAME_BUFIOREQ && !this.handlesBufioreq) throw new XenError('ENOENT', 'no buffered ioreq page');
    if (frame >= NR_FRAMES) throw new XenError('EINVAL', `an ioreq server has no frame ${frame}`);
  }

  /** mfn of a frame of the server's own extent, which is made when it is first asked for. @throws XenError ENOMEM */
  resourceFrame(frame: number): number {
    if (!this.extent) this.allocateExtent();
    return this.extent!.baseMfn + frame;
  }

  enable(): void {
    if (this.isEnabled) return;
    this.hide('ioreq');
    this.hide('bufioreq');
    this.isEnabled = true;
    if (this.ioreqPage) for (const [id, vcpu] of this.vcpus.entries()) if (vcpu) this.ioreqPage.setPort(id, vcpu.port);
  }

  disable(): void {
    if (!this.isEnabled) return;
    this.show('bufioreq');
    this.show('ioreq');
    this.isEnabled = false;
  }

  /** Gives back everything. The caller tells the vCPUs that still wait. */
  destroy(): void {
    this.disable();
    for (const id of this.vcpus.keys()) this.removeVcpu(id);
    this.unmapGfn('bufioreq');
    this.unmapGfn('ioreq');
    this.ioreqPage = undefined;
    this.bufioreqPage = undefined;
    if (this.extent) this.around.domain.machine.release(this.extent.extent);
    this.extent = undefined;
  }

  private allocateExtent(): void {
    const { machine } = this.around.domain;
    this.extent = machine.allocate(NR_FRAMES);
    this.ioreqPage = this.ownPage(FRAME_IOREQ);
    if (this.handlesBufioreq) this.bufioreqPage = this.ownPage(FRAME_BUFIOREQ);
  }

  private ownPage(frame: number): IoreqPage {
    const { extent, baseMfn } = this.extent!;
    const bytes = extent.bytes.subarray(frame * PAGE_SIZE, (frame + 1) * PAGE_SIZE);
    return new IoreqPage(bytes, baseMfn + frame, undefined);
  }

  private page(kind: PageKind): IoreqPage | undefined {
    return kind === 'ioreq' ? this.ioreqPage : this.bufioreqPage;
  }

  private setPage(kind: PageKind, page: IoreqPage | undefined): void {
    if (kind === 'ioreq') this.ioreqPage = page;
    else this.bufioreqPage = page;
  }

  private mapGfn(kind: PageKind): void {
    const { domain, gfns } = this.around;
    const page = this.page(kind);
    if (page) {
      if (page.gfn === undefined) throw new XenError('EPERM', 'the pages are mapped as a resource');
      return;
    }
    if (domain.isDying) throw new XenError('EINVAL', `domain ${domain.domid} is dying`);
    const loan = gfns.allocate();
    const gfn = Number(loan.gfn);
    const type = domain.p2m.type(gfn);
    const mfn = domain.p2m.mfn(gfn);
    if (mfn === P2M_INVALID || (type !== 'ram_rw' && type !== 'ram_logdirty')) {
      gfns.release(loan);
      throw new XenError('EINVAL', `gfn ${loan.gfn} for an ioreq server is not writable memory`);
    }
    const mapped = new IoreqPage(domain.machine.frame(mfn), mfn, loan.gfn);
    this.loans.set(mapped, loan);
    this.setPage(kind, mapped);
  }

  private unmapGfn(kind: PageKind): void {
    const page = this.page(kind);
    const loan = page && this.loans.get(page);
    if (!page || !loan) return;
    this.loans.delete(page);
    this.around.gfns.release(loan);
    this.setPage(kind, undefined);
  }

  /**
   * Takes a guest frame out of the guest's reach, for as long as the device model's words in it count. Where the guest
   * has moved or freed it meanwhile, the server has lost it.
   */
  private hide(kind: PageKind): void {
    const page = this.page(kind);
    if (!page || page.gfn === undefined) return;
    const { domain } = this.around;
    const gfn = Number(page.gfn);
    if (domain.p2m.mfn(gfn) === page.mfn) {
      domain.p2m.remove(gfn);
      page.isHidden = true;
      page.clear();
    } else {
      this.unmapGfn(kind);
      domain.shutdown(SHUTDOWN_crash);
    }
  }

  private show(kind: PageKind): void {
    const page = this.page(kind);
    if (!page?.isHidden) return;
    const gfn = Number(page.gfn);
    page.isHidden = false;
    page.clear();
    this.around.domain.p2m.set(gfn, page.mfn, 'ram_rw');
    this.around.logDirty.markDirty(gfn);
  }
}
