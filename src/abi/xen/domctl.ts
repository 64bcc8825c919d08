/**
 * The domain control hypercall: commands and the arguments that are handled here.
 * @spec xen:public/domctl.h, xen:public/arch-x86/xen.h struct xen_arch_domainconfig
 */
import { array, bytes, pointer, s32, struct, u8, u16, u32, u64, union } from '../layout.js';

export const XEN_DOMCTL_INTERFACE_VERSION = 0x15;

export const XEN_DOMCTL = {
  createdomain: 1,
  destroydomain: 2,
  pausedomain: 3,
  unpausedomain: 4,
  getdomaininfo: 5,
  setvcpuaffinity: 9,
  shadow_op: 10,
  max_mem: 11,
  setvcpucontext: 12,
  getvcpucontext: 13,
  getvcpuinfo: 14,
  max_vcpus: 15,
  scheduler_op: 16,
  setdomainhandle: 17,
  setdebugging: 18,
  irq_permission: 19,
  iomem_permission: 20,
  ioport_permission: 21,
  hypercall_init: 22,
  settimeoffset: 24,
  getvcpuaffinity: 25,
  resumedomain: 27,
  sendtrigger: 28,
  subscribe: 29,
  gethvmcontext: 33,
  sethvmcontext: 34,
  set_address_size: 35,
  get_address_size: 36,
  assign_device: 37,
  bind_pt_irq: 38,
  memory_mapping: 39,
  ioport_mapping: 40,
  set_ext_vcpucontext: 42,
  get_ext_vcpucontext: 43,
  test_assign_device: 45,
  set_target: 46,
  deassign_device: 47,
  unbind_pt_irq: 48,
  get_device_group: 50,
  debug_op: 54,
  gethvmcontext_partial: 55,
  vm_event_op: 56,
  mem_sharing_op: 57,
  gettscinfo: 59,
  settscinfo: 60,
  getpageframeinfo3: 61,
  setvcpuextstate: 62,
  getvcpuextstate: 63,
  set_access_required: 64,
  audit_p2m: 65,
  set_virq_handler: 66,
  set_broken_page_p2m: 67,
  setnodeaffinity: 68,
  getnodeaffinity: 69,
  cacheflush: 71,
  get_vcpu_msrs: 72,
  set_vcpu_msrs: 73,
  setvnumainfo: 74,
  psr_cmt_op: 75,
  monitor_op: 77,
  psr_alloc: 78,
  soft_reset: 79,
  vuart_op: 81,
  get_cpu_policy: 82,
  set_cpu_policy: 83,
  vmtrace_op: 84,
  get_paging_mempool_size: 85,
  set_paging_mempool_size: 86,
  gdbsx_guestmemio: 1000,
  gdbsx_pausevcpu: 1001,
  gdbsx_unpausevcpu: 1002,
  gdbsx_domstatus: 1003,
} as const;

export const XEN_DOMCTL_CDF_hvm = 1 << 0;
export const XEN_DOMCTL_CDF_hap = 1 << 1;
export const XEN_DOMCTL_CDF_s3_integrity = 1 << 2;
export const XEN_DOMCTL_CDF_oos_off = 1 << 3;
export const XEN_DOMCTL_CDF_xs_domain = 1 << 4;
export const XEN_DOMCTL_CDF_iommu = 1 << 5;
export const XEN_DOMCTL_CDF_nested_virt = 1 << 6;
export const XEN_DOMCTL_CDF_vpmu = 1 << 7;

export const XEN_DOMCTL_GRANT_version_mask = 0xf;

export const XEN_X86_EMU_LAPIC = 1 << 0;
export const XEN_X86_EMU_PIT = 1 << 8;
export const XEN_X86_EMU_VPCI = 1 << 10;
/** Every emulated platform device. */
export const XEN_X86_EMU_ALL = (1 << 11) - 1;
export const XEN_X86_MSR_RELAXED = 1 << 0;

export const XEN_DOMINF_dying = 1 << 0;
export const XEN_DOMINF_hvm_guest = 1 << 1;
export const XEN_DOMINF_shutdown = 1 << 2;
export const XEN_DOMINF_paused = 1 << 3;
export const XEN_DOMINF_blocked = 1 << 4;
export const XEN_DOMINF_running = 1 << 5;
export const XEN_DOMINF_debugged = 1 << 6;
export const XEN_DOMINF_xs_domain = 1 << 7;
export const XEN_DOMINF_hap = 1 << 8;
export const XEN_DOMINF_shutdownshift = 16;
/** getdomaininfo's max_vcpu_id of a domain without vCPUs. */
export const XEN_INVALID_MAX_VCPU_ID = 0xffffffff;

export const XEN_DOMCTL_SHADOW_OP_OFF = 0;
export const XEN_DOMCTL_SHADOW_OP_ENABLE_TEST = 1;
export const XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY = 2;
export const XEN_DOMCTL_SHADOW_OP_CLEAN = 11;
export const XEN_DOMCTL_SHADOW_OP_PEEK = 12;
export const XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION = 30;
export const XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION = 31;
export const XEN_DOMCTL_SHADOW_OP_ENABLE = 32;
export const XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY = 1 << 2;
export const XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL = 1 << 0;

export const xen_arch_domainconfig = struct('xen_arch_domainconfig', { emulation_flags: u32, misc_flags: u32 });

export const xen_domctl_createdomain = struct('xen_domctl_createdomain', {
  ssidref: u32,
  handle: bytes(16),
  flags: u32,
  iommu_opts: u32,
  max_vcpus: u32,
  max_evtchn_port: u32,
  max_grant_frames: s32,
  max_maptrack_frames: s32,
  grant_opts: u32,
  vmtrace_size: u32,
  cpupool_id: u32,
  arch: xen_arch_domainconfig,
});

export const xen_domctl_getdomaininfo = struct('xen_domctl_getdomaininfo', {
  domain: u16,
  pad1: u16,
  flags: u32,
  tot_pages: u64,
  max_pages: u64,
  outstanding_pages: u64,
  shr_pages: u64,
  paged_pages: u64,
  shared_info_frame: u64,
  cpu_time: u64,
  nr_online_vcpus: u32,
  max_vcpu_id: u32,
  ssidref: u32,
  handle: bytes(16),
  cpupool: u32,
  gpaddr_bits: u8,
  pad2: array(u8, 7),
  arch_config: xen_arch_domainconfig,
});

export const xen_domctl_shadow_op_stats = struct('xen_domctl_shadow_op_stats', { fault_count: u32, dirty_count: u32 });
export const xen_domctl_shadow_op = struct('xen_domctl_shadow_op', {
  op: u32,
  mode: u32,
  mb: u32,
  dirty_bitmap: pointer,
  pages: u64,
  stats: xen_domctl_shadow_op_stats,
});

export const xen_domctl_max_mem = struct('xen_domctl_max_mem', { max_memkb: u64 });
export const xen_domctl_max_vcpus = struct('xen_domctl_max_vcpus', { max: u32 });
export const xen_domctl_getvcpuinfo = struct('xen_domctl_getvcpuinfo', {
  vcpu: u32,
  online: u8,
  blocked: u8,
  running: u8,
  cpu_time: u64,
  cpu: u32,
});
export const xen_domctl_setdomainhandle = struct('xen_domctl_setdomainhandle', { handle: bytes(16) });
export const xen_domctl_subscribe = struct('xen_domctl_subscribe', { port: u32 });
export const xen_domctl_set_virq_handler = struct('xen_domctl_set_virq_handler', { virq: u32 });
export const xen_domctl_address_size = struct('xen_domctl_address_size', { size: u32 });
export const xen_domctl_paging_mempool = struct('xen_domctl_paging_mempool', { size: u64 });

const xen_domctl_u = union('xen_domctl.u', {
  createdomain: xen_domctl_createdomain,
  getdomaininfo: xen_domctl_getdomaininfo,
  shadow_op: xen_domctl_shadow_op,
  max_mem: xen_domctl_max_mem,
  getvcpuinfo: xen_domctl_getvcpuinfo,
  max_vcpus: xen_domctl_max_vcpus,
  setdomainhandle: xen_domctl_setdomainhandle,
  subscribe: xen_domctl_subscribe,
  set_virq_handler: xen_domctl_set_virq_handler,
  address_size: xen_domctl_address_size,
  paging_mempool: xen_domctl_paging_mempool,
  pad: bytes(128),
});

export const xen_domctl = struct('xen_domctl', {
  cmd: u32,
  interface_version: u32,
  domain: u16,
  _pad: array(u16, 3),
  u: xen_domctl_u,
});
