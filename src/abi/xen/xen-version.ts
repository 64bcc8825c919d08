/**
 * The version hypercall.
 * @spec xen:public/version.h, xen:public/features.h
 */
import { bytes, struct, u32, u64 } from '../layout.js';

export const XENVER = {
  version: 0,
  extraversion: 1,
  compile_info: 2,
  capabilities: 3,
  changeset: 4,
  platform_parameters: 5,
  get_features: 6,
  pagesize: 7,
  guest_handle: 8,
  commandline: 9,
  build_id: 10,
} as const;

export const XEN_EXTRAVERSION_LEN = 16;
export const XEN_CAPABILITIES_INFO_LEN = 1024;
export const XEN_CHANGESET_INFO_LEN = 64;
export const XEN_COMMANDLINE_LEN = 1024;

export const xen_compile_info = struct('xen_compile_info', {
  compiler: bytes(64),
  compile_by: bytes(16),
  compile_domain: bytes(32),
  compile_date: bytes(32),
});
export const xen_platform_parameters = struct('xen_platform_parameters', { virt_start: u64 });
export const xen_feature_info = struct('xen_feature_info', { submap_idx: u32, submap: u32 });

/** Bits of feature submap 0. */
export const XENFEAT = {
  writable_page_tables: 0,
  auto_translated_physmap: 2,
  pae_pgdir_above_4gb: 4,
  mmu_pt_update_preserve_ad: 5,
  highmem_assist: 6,
  gnttab_map_avail_bits: 7,
  hvm_callback_vector: 8,
  hvm_safe_pvclock: 9,
  hvm_pirqs: 10,
  dom0: 11,
  memory_op_vnode_supported: 13,
  not_direct_mapped: 16,
  direct_mapped: 17,
} as const;
