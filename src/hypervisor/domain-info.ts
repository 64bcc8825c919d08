/**
 * What Xen tells of a domain. @spec xen:common/domctl.c getdomaininfo
 */
import type { TypeOf } from '../abi/layout.js';
import {
  XEN_DOMINF_blocked,
  XEN_DOMINF_dying,
  XEN_DOMINF_hap,
  XEN_DOMINF_hvm_guest,
  XEN_DOMINF_paused,
  XEN_DOMINF_running,
  XEN_DOMINF_shutdown,
  XEN_DOMINF_shutdownshift,
  XEN_DOMINF_xs_domain,
  XEN_INVALID_MAX_VCPU_ID,
  type xen_domctl_getdomaininfo,
} from '../abi/xen/domctl.js';
import type { Domain } from './domain.js';
import { P2M_INVALID } from './p2m.js';

export type DomainInfo = TypeOf<typeof xen_domctl_getdomaininfo>;

/** Guest-physical address bits of nested paging. */
const GPADDR_BITS = 40;
const INVALID_FRAME = (1n << 64n) - 1n;

export function domainInfo(domain: Domain): DomainInfo {
  return {
    domain: domain.domid,
    pad1: 0,
    flags: infoFlags(domain),
    tot_pages: BigInt(domain.memory.totPages),
    max_pages: BigInt(domain.memory.maxPages),
    outstanding_pages: 0n,
    shr_pages: 0n,
    paged_pages: 0n,
    shared_info_frame: domain.sharedInfoGfn === P2M_INVALID ? INVALID_FRAME : BigInt(domain.sharedInfoGfn),
    cpu_time: 0n,
    nr_online_vcpus: domain.nrOnlineVcpus,
    max_vcpu_id: domain.nrVcpus > 0 ? domain.nrVcpus - 1 : XEN_INVALID_MAX_VCPU_ID,
    ssidref: domain.ssidref,
    handle: domain.handle,
    cpupool: 0,
    gpaddr_bits: GPADDR_BITS,
    pad2: Array(7).fill(0),
    arch_config: { emulation_flags: domain.emulationFlags, misc_flags: 0 },
  };
}

function infoFlags(domain: Domain): number {
  let flags = 0;
  if (domain.nrOnlineVcpus > 0) flags |= domain.isRunnable ? XEN_DOMINF_running : XEN_DOMINF_blocked;
  if (domain.life === 'dead') flags |= XEN_DOMINF_dying;
  if (domain.isShutDown) flags |= XEN_DOMINF_shutdown;
  if (domain.controllerPauseCount > 0) flags |= XEN_DOMINF_paused;
  if (domain.isXenstore) flags |= XEN_DOMINF_xs_domain;
  if (domain.kind === 'hvm') flags |= XEN_DOMINF_hvm_guest | XEN_DOMINF_hap;
  return (flags | (domain.shutdownCode << XEN_DOMINF_shutdownshift)) >>> 0;
}
