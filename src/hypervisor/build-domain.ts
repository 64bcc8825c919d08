/**
 * Domains laid out as a toolstack does: for hosts, tests and the command line, so that a program finds the same domain
 * here as on real Xen. An HVM domain has zeroed RAM from pfn 0 (what doesn't fit below the hole for devices goes above
 * 4 GiB), 16 special pages at the end of the hole, eight of them for ioreq servers, every emulated platform device, and
 * is paused.
 */
import { XEN_DOMCTL_CDF_hap, XEN_DOMCTL_CDF_hvm, XEN_X86_EMU_ALL, XEN_X86_EMU_VPCI } from '../abi/xen/domctl.js';
import {
  HVM_PARAM_IOREQ_SERVER_PFN,
  HVM_PARAM_NR_IOREQ_SERVER_PAGES,
  HVM_PARAM_STORE_EVTCHN,
  HVM_PARAM_STORE_PFN,
} from '../abi/xen/hvm-params.js';
import { NEVER_PREEMPT, type Operation, PREEMPTED, type Preemption } from '../boundary/operation.js';
import type { Domain } from './domain.js';
import type { CreateDomainConfig } from './domain-creation.js';
import { setParam } from './hypercalls/hvm-op/params.js';
import type { Hypervisor } from './hypervisor.js';

export interface BuildOptions {
  readonly memoryMiB?: number;
  readonly vcpus?: number;
  /** Room for memory that its device model will populate, such as video memory. */
  readonly deviceMiB?: number;
  /** A certain domid instead of the next free one. */
  readonly domid?: number;
  /** The domain's UUID. */
  readonly handle?: Uint8Array;
}

const DEFAULT_MEMORY_MIB = 64;
const PAGES_PER_MIB = 256;
/** Room beside RAM, for special pages and a device model's own. */
const SLACK_MIB = 2;
const PAGING_POOL_BYTES = 4 << 20;

const HOLE_FIRST_PFN = 0xf0000;
const HIGH_FIRST_PFN = 0x100000;
const SPECIAL_FIRST_PFN = 0xfeff0;
const NR_SPECIAL_PAGES = 16;
const NR_IOREQ_SERVER_PAGES = 8;
/** @spec xen:tools/libs/guest/xg_dom_x86.c SPECIALPAGE_XENSTORE, behind the pages for ioreq servers */
const STORE_PFN = SPECIAL_FIRST_PFN + NR_IOREQ_SERVER_PAGES + 4;

const PREEMPT_INTERVAL = 256;

/** A domain that exists, and the operation that gives it its memory. */
export interface DomainBuild {
  readonly domain: Domain;
  readonly layOut: Operation;
}

/**
 * Begins to build an HVM domain: it exists at once, with its memory reserved and its parameters set; its pages come as
 * `layOut` is run, which cannot fail.
 * @throws XenError whatever createdomain refuses, ENOMEM; there is no domain then
 */
export function beginHvmDomain(hypervisor: Hypervisor, options: BuildOptions = {}): DomainBuild {
  const memoryMiB = options.memoryMiB ?? DEFAULT_MEMORY_MIB;
  const domain = hypervisor.createDomain(options.domid ?? 0, {
    ...baseConfig(options),
    flags: XEN_DOMCTL_CDF_hvm | XEN_DOMCTL_CDF_hap,
    arch: { emulation_flags: XEN_X86_EMU_ALL & ~XEN_X86_EMU_VPCI, misc_flags: 0 },
  });
  try {
    domain.createVcpus();
    domain.memory.maxPages = (memoryMiB + (options.deviceMiB ?? 0) + SLACK_MIB) * PAGES_PER_MIB;
    domain.pagingPoolBytes = PAGING_POOL_BYTES;
    const layOut = new LayOut(domain, memoryMiB * PAGES_PER_MIB);
    setIoreqParams(domain);
    return { domain, layOut };
  } catch (error) {
    domain.kill(NEVER_PREEMPT);
    throw error;
  }
}

function setIoreqParams({ domid, hvm }: Domain): void {
  if (!hvm) throw new Error(`domain ${domid} is not HVM`);
  setParam(hvm, HVM_PARAM_IOREQ_SERVER_PFN, BigInt(SPECIAL_FIRST_PFN));
  setParam(hvm, HVM_PARAM_NR_IOREQ_SERVER_PAGES, BigInt(NR_IOREQ_SERVER_PAGES));
}

/** What a domain needs for its ring to XenStore. */
export interface StoreRingOfDomain {
  readonly gfn: number;
  /** The domain's end of the channel, for dom0 to bind. */
  readonly port: number;
}

/** Tells an HVM domain where its ring to XenStore is, as a toolstack does. @throws XenError ENOSPC */
export function giveStoreRing({ domid, hvm, evtchn }: Domain): StoreRingOfDomain {
  if (!hvm) throw new Error(`domain ${domid} is not HVM`);
  const port = evtchn.allocUnbound(0);
  setParam(hvm, HVM_PARAM_STORE_PFN, BigInt(STORE_PFN));
  setParam(hvm, HVM_PARAM_STORE_EVTCHN, BigInt(port));
  return { gfn: STORE_PFN, port };
}

/** An HVM domain, ready. @throws XenError likewise */
export function createHvmDomain(hypervisor: Hypervisor, options: BuildOptions = {}): Domain {
  const { domain, layOut } = beginHvmDomain(hypervisor, options);
  layOut.run(NEVER_PREEMPT);
  return domain;
}

/** A PV domain: it has no memory until somebody gives it some. @throws XenError whatever createdomain refuses */
export function createPvDomain(hypervisor: Hypervisor, options: BuildOptions = {}): Domain {
  const domain = hypervisor.createDomain(options.domid ?? 0, baseConfig(options));
  domain.createVcpus();
  domain.memory.maxPages = ((options.memoryMiB ?? DEFAULT_MEMORY_MIB) + SLACK_MIB) * PAGES_PER_MIB;
  return domain;
}

function baseConfig(options: BuildOptions): CreateDomainConfig {
  return {
    ssidref: 0,
    handle: options.handle ?? new Uint8Array(16),
    flags: 0,
    iommu_opts: 0,
    max_vcpus: options.vcpus ?? 1,
    max_evtchn_port: 0xffffffff,
    max_grant_frames: 4,
    max_maptrack_frames: 4,
    grant_opts: 2,
    vmtrace_size: 0,
    cpupool_id: 0,
    arch: { emulation_flags: 0, misc_flags: 0 },
  };
}

/** Gives the domain its pages, in steps. */
class LayOut implements Operation {
  readonly name = 'lay out domain';
  private done = 0;

  constructor(
    private readonly domain: Domain,
    private readonly nrRamPages: number,
  ) {
    domain.memory.reserve(nrRamPages + NR_SPECIAL_PAGES);
  }

  run(preemption: Preemption): number | typeof PREEMPTED {
    const { domain } = this;
    while (this.done < this.nrRamPages + NR_SPECIAL_PAGES) {
      if (domain.isDying) return 0; // destroyed meanwhile, and its reservation with it
      domain.p2m.set(this.pfn(this.done), domain.memory.take(), 'ram_rw');
      this.done++;
      if (this.done % PREEMPT_INTERVAL === 0 && preemption.due()) return PREEMPTED;
    }
    return 0;
  }

  private pfn(index: number): number {
    if (index >= this.nrRamPages) return SPECIAL_FIRST_PFN + index - this.nrRamPages;
    return index < HOLE_FIRST_PFN ? index : HIGH_FIRST_PFN + index - HOLE_FIRST_PFN;
  }
}
