/**
 * The system control hypercall, as far as telling about the machine and its domains needs it.
 * @spec xen:public/sysctl.h
 */
import { array, bytes, pointer, struct, u16, u32, u64, union } from '../layout.js';

export const XEN_SYSCTL_INTERFACE_VERSION = 0x15;

export const XEN_SYSCTL = {
  readconsole: 1,
  tbuf_op: 2,
  physinfo: 3,
  sched_id: 4,
  perfc_op: 5,
  getdomaininfolist: 6,
  debug_keys: 7,
  getcpuinfo: 8,
  availheap: 9,
  get_pmstat: 10,
  cpu_hotplug: 11,
  pm_op: 12,
  page_offline_op: 14,
  lockprof_op: 15,
  cputopoinfo: 16,
  numainfo: 17,
  cpupool_op: 18,
  scheduler_op: 19,
  coverage_op: 20,
  psr_cmt_op: 21,
  pcitopoinfo: 22,
  psr_alloc: 23,
  get_cpu_levelling_caps: 25,
  get_cpu_featureset: 26,
  livepatch_op: 27,
  get_cpu_policy: 29,
} as const;

export const xen_sysctl_getdomaininfolist = struct('xen_sysctl_getdomaininfolist', {
  first_domain: u16,
  max_domains: u32,
  buffer: pointer,
  num_domains: u32,
});

export const xen_sysctl_physinfo = struct('xen_sysctl_physinfo', {
  threads_per_core: u32,
  cores_per_socket: u32,
  nr_cpus: u32,
  max_cpu_id: u32,
  nr_nodes: u32,
  max_node_id: u32,
  cpu_khz: u32,
  capabilities: u32,
  arch_capabilities: u32,
  pad: u32,
  total_pages: u64,
  free_pages: u64,
  scrub_pages: u64,
  outstanding_pages: u64,
  max_mfn: u64,
  hw_cap: array(u32, 8),
});

export const XEN_SYSCTL_PHYSCAP_hvm = 1;
export const XEN_SYSCTL_PHYSCAP_pv = 2;
export const XEN_SYSCTL_PHYSCAP_hap = 8;

const xen_sysctl_u = union('xen_sysctl.u', {
  physinfo: xen_sysctl_physinfo,
  getdomaininfolist: xen_sysctl_getdomaininfolist,
  pad: bytes(128),
});

export const xen_sysctl = struct('xen_sysctl', { cmd: u32, interface_version: u32, u: xen_sysctl_u });
