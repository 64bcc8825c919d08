/**
 * The memory hypercall: commands and their arguments.
 * @spec xen:public/memory.h
 */
import { pointer, struct, u16, u32, u64, union } from '../layout.js';

export const XENMEM = {
  increase_reservation: 0,
  decrease_reservation: 1,
  maximum_ram_page: 2,
  current_reservation: 3,
  maximum_reservation: 4,
  machphys_mfn_list: 5,
  populate_physmap: 6,
  add_to_physmap: 7,
  memory_map: 9,
  machine_memory_map: 10,
  exchange: 11,
  machphys_mapping: 12,
  set_memory_map: 13,
  maximum_gpfn: 14,
  remove_from_physmap: 15,
  set_pod_target: 16,
  get_pod_target: 17,
  get_sharing_freed_pages: 18,
  get_sharing_shared_pages: 19,
  paging_op: 20,
  access_op: 21,
  sharing_op: 22,
  add_to_physmap_batch: 23,
  claim_pages: 24,
  machphys_compat_mfn_list: 25,
  get_vnumainfo: 26,
  reserved_device_memory_map: 27,
  acquire_resource: 28,
} as const;

/** The command is in the low bits of the first argument, progress in those above: where to go on. */
export const MEMOP_EXTENT_SHIFT = 6;
export const MEMOP_CMD_MASK = (1 << MEMOP_EXTENT_SHIFT) - 1;

/** Flags of a reservation: address bits, then the node + 1, then these. */
export const XENMEMF_address_bits_mask = 0xff;
export const XENMEMF_populate_on_demand = 1 << 16;
export const XENMEMF_exact_node_request = 1 << 17;
export const XENMEMF_vnode = 1 << 18;

export const XENMAPSPACE_shared_info = 0;
export const XENMAPSPACE_grant_table = 1;
export const XENMAPSPACE_gmfn = 2;
export const XENMAPSPACE_gmfn_range = 3;
export const XENMAPSPACE_gmfn_foreign = 4;
export const XENMAPSPACE_dev_mmio = 5;

export const XENMEM_resource_ioreq_server = 0;
export const XENMEM_resource_grant_table = 1;
export const XENMEM_resource_vmtrace_buf = 2;

export const xen_memory_reservation = struct('xen_memory_reservation', {
  extent_start: pointer,
  nr_extents: u64,
  extent_order: u32,
  mem_flags: u32,
  domid: u16,
});

export const xen_memory_domain = struct('xen_memory_domain', { domid: u16 });

export const xen_add_to_physmap = struct('xen_add_to_physmap', {
  domid: u16,
  size: u16,
  space: u32,
  idx: u64,
  gpfn: u64,
});

export const xen_add_to_physmap_batch = struct('xen_add_to_physmap_batch', {
  domid: u16,
  space: u16,
  size: u16,
  u: union('xen_add_to_physmap_batch_extra', { foreign_domid: u16, res0: u16 }),
  idxs: pointer,
  gpfns: pointer,
  errs: pointer,
});

export const xen_remove_from_physmap = struct('xen_remove_from_physmap', { domid: u16, gpfn: u64 });

export const xen_mem_acquire_resource = struct('xen_mem_acquire_resource', {
  domid: u16,
  type: u16,
  id: u32,
  nr_frames: u32,
  pad: u32,
  frame: u64,
  frame_list: pointer,
});
