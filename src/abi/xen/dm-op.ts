/**
 * The DM op hypercall: its operations and their arguments, all twenty. Every struct is what follows the 8-byte header
 * (operation number, padding) at the start of the first buffer.
 * @spec xen:public/hvm/dm_op.h
 */
import { array, pointer, struct, u8, u16, u32, u64, union } from '../layout.js';

export const XEN_DMOP_create_ioreq_server = 1;
export const XEN_DMOP_get_ioreq_server_info = 2;
export const XEN_DMOP_map_io_range_to_ioreq_server = 3;
export const XEN_DMOP_unmap_io_range_from_ioreq_server = 4;
export const XEN_DMOP_set_ioreq_server_state = 5;
export const XEN_DMOP_destroy_ioreq_server = 6;
export const XEN_DMOP_track_dirty_vram = 7;
export const XEN_DMOP_set_pci_intx_level = 8;
export const XEN_DMOP_set_isa_irq_level = 9;
export const XEN_DMOP_set_pci_link_route = 10;
export const XEN_DMOP_modified_memory = 11;
export const XEN_DMOP_set_mem_type = 12;
export const XEN_DMOP_inject_event = 13;
export const XEN_DMOP_inject_msi = 14;
export const XEN_DMOP_map_mem_type_to_ioreq_server = 15;
export const XEN_DMOP_remote_shutdown = 16;
export const XEN_DMOP_relocate_memory = 17;
export const XEN_DMOP_pin_memory_cacheattr = 18;
export const XEN_DMOP_set_irq_level = 19;
export const XEN_DMOP_nr_vcpus = 20;

/** get_ioreq_server_info: don't make the pages available as guest frames. */
export const XEN_DMOP_no_gfns = 1 << 0;

/** Types of I/O ranges. */
export const XEN_DMOP_IO_RANGE_PORT = 0;
export const XEN_DMOP_IO_RANGE_MEMORY = 1;
export const XEN_DMOP_IO_RANGE_PCI = 2;

/** inject_event: type of event. */
export const XEN_DMOP_EVENT_ext_int = 0;
export const XEN_DMOP_EVENT_nmi = 2;
export const XEN_DMOP_EVENT_hw_exc = 3;
export const XEN_DMOP_EVENT_sw_int = 4;
export const XEN_DMOP_EVENT_pri_sw_exc = 5;
export const XEN_DMOP_EVENT_sw_exc = 6;

/** map_mem_type_to_ioreq_server: accesses to forward. */
export const XEN_DMOP_IOREQ_MEM_ACCESS_READ = 1 << 0;
export const XEN_DMOP_IOREQ_MEM_ACCESS_WRITE = 1 << 1;

/** pin_memory_cacheattr: the codes of MTRRs and PAT. */
export const XEN_DMOP_MEM_CACHEATTR_UC = 0;
export const XEN_DMOP_MEM_CACHEATTR_WC = 1;
export const XEN_DMOP_MEM_CACHEATTR_WT = 4;
export const XEN_DMOP_MEM_CACHEATTR_WP = 5;
export const XEN_DMOP_MEM_CACHEATTR_WB = 6;
export const XEN_DMOP_MEM_CACHEATTR_UCM = 7;
export const XEN_DMOP_DELETE_MEM_CACHEATTR = 0xffffffff;

/** create_ioreq_server: how the server wants buffered requests. @spec xen:public/hvm/hvm_op.h */
export const HVM_IOREQSRV_BUFIOREQ_OFF = 0;
export const HVM_IOREQSRV_BUFIOREQ_LEGACY = 1;
export const HVM_IOREQSRV_BUFIOREQ_ATOMIC = 2;

/** set_mem_type, map_mem_type_to_ioreq_server: types of memory. @spec xen:public/hvm/hvm_op.h hvmmem_type_t */
export const HVMMEM_ram_rw = 0;
export const HVMMEM_ram_ro = 1;
export const HVMMEM_mmio_dm = 2;
export const HVMMEM_unused = 3;
export const HVMMEM_ioreq_server = 4;

/** The address of a PCI device in a range: segment, bus, device, function. */
export function XEN_DMOP_PCI_SBDF(segment: number, bus: number, device: number, fn: number): number {
  return (((segment & 0xffff) << 16) | ((bus & 0xff) << 8) | ((device & 0x1f) << 3) | (fn & 0x07)) >>> 0;
}

const ioservid_t = u16;
const evtchn_port_t = u32;

export const xen_dm_op_create_ioreq_server = struct('xen_dm_op_create_ioreq_server', {
  handle_bufioreq: u8,
  pad: array(u8, 3),
  id: ioservid_t,
});

export const xen_dm_op_get_ioreq_server_info = struct('xen_dm_op_get_ioreq_server_info', {
  id: ioservid_t,
  flags: u16,
  bufioreq_port: evtchn_port_t,
  ioreq_gfn: u64,
  bufioreq_gfn: u64,
});

/** Both of map_io_range_to_ioreq_server and unmap_io_range_from_ioreq_server; `end` belongs to the range. */
export const xen_dm_op_ioreq_server_range = struct('xen_dm_op_ioreq_server_range', {
  id: ioservid_t,
  pad: u16,
  type: u32,
  start: u64,
  end: u64,
});

export const xen_dm_op_set_ioreq_server_state = struct('xen_dm_op_set_ioreq_server_state', {
  id: ioservid_t,
  enabled: u8,
  pad: u8,
});

export const xen_dm_op_destroy_ioreq_server = struct('xen_dm_op_destroy_ioreq_server', { id: ioservid_t, pad: u16 });

/** The bitmap is the second buffer. */
export const xen_dm_op_track_dirty_vram = struct('xen_dm_op_track_dirty_vram', { nr: u32, pad: u32, first_pfn: u64 });

export const xen_dm_op_set_pci_intx_level = struct('xen_dm_op_set_pci_intx_level', {
  domain: u16,
  bus: u8,
  device: u8,
  intx: u8,
  level: u8,
});

export const xen_dm_op_set_isa_irq_level = struct('xen_dm_op_set_isa_irq_level', { isa_irq: u8, level: u8 });

export const xen_dm_op_set_pci_link_route = struct('xen_dm_op_set_pci_link_route', { link: u8, isa_irq: u8 });

/** The extents are the second buffer. */
export const xen_dm_op_modified_memory = struct('xen_dm_op_modified_memory', { nr_extents: u32, opaque: u32 });

export const xen_dm_op_modified_memory_extent = struct('xen_dm_op_modified_memory_extent', {
  nr: u32,
  pad: u32,
  first_pfn: u64,
});

export const xen_dm_op_set_mem_type = struct('xen_dm_op_set_mem_type', {
  nr: u32,
  mem_type: u16,
  pad: u16,
  first_pfn: u64,
});

export const xen_dm_op_inject_event = struct('xen_dm_op_inject_event', {
  vcpuid: u32,
  vector: u8,
  type: u8,
  insn_len: u8,
  pad0: u8,
  error_code: u32,
  pad1: u32,
  cr2: u64,
});

export const xen_dm_op_inject_msi = struct('xen_dm_op_inject_msi', { data: u32, pad: u32, addr: u64 });

export const xen_dm_op_map_mem_type_to_ioreq_server = struct('xen_dm_op_map_mem_type_to_ioreq_server', {
  id: ioservid_t,
  type: u16,
  flags: u32,
  opaque: u64,
});

export const xen_dm_op_remote_shutdown = struct('xen_dm_op_remote_shutdown', { reason: u32 });

export const xen_dm_op_relocate_memory = struct('xen_dm_op_relocate_memory', {
  size: u32,
  pad: u32,
  src_gfn: u64,
  dst_gfn: u64,
});

export const xen_dm_op_pin_memory_cacheattr = struct('xen_dm_op_pin_memory_cacheattr', {
  start: u64,
  end: u64,
  type: u32,
  pad: u32,
});

export const xen_dm_op_set_irq_level = struct('xen_dm_op_set_irq_level', { irq: u32, level: u8, pad: array(u8, 3) });

export const xen_dm_op_nr_vcpus = struct('xen_dm_op_nr_vcpus', { vcpus: u32 });

const xen_dm_op_u = union('xen_dm_op.u', {
  create_ioreq_server: xen_dm_op_create_ioreq_server,
  get_ioreq_server_info: xen_dm_op_get_ioreq_server_info,
  map_io_range_to_ioreq_server: xen_dm_op_ioreq_server_range,
  unmap_io_range_from_ioreq_server: xen_dm_op_ioreq_server_range,
  set_ioreq_server_state: xen_dm_op_set_ioreq_server_state,
  destroy_ioreq_server: xen_dm_op_destroy_ioreq_server,
  track_dirty_vram: xen_dm_op_track_dirty_vram,
  set_pci_intx_level: xen_dm_op_set_pci_intx_level,
  set_isa_irq_level: xen_dm_op_set_isa_irq_level,
  set_irq_level: xen_dm_op_set_irq_level,
  set_pci_link_route: xen_dm_op_set_pci_link_route,
  modified_memory: xen_dm_op_modified_memory,
  set_mem_type: xen_dm_op_set_mem_type,
  inject_event: xen_dm_op_inject_event,
  inject_msi: xen_dm_op_inject_msi,
  map_mem_type_to_ioreq_server: xen_dm_op_map_mem_type_to_ioreq_server,
  remote_shutdown: xen_dm_op_remote_shutdown,
  relocate_memory: xen_dm_op_relocate_memory,
  pin_memory_cacheattr: xen_dm_op_pin_memory_cacheattr,
  nr_vcpus: xen_dm_op_nr_vcpus,
});

/** The first buffer: header, then the operation's own struct. */
export const xen_dm_op = struct('xen_dm_op', { op: u32, pad: u32, u: xen_dm_op_u });

/** One element of the hypercall's array of buffers: a guest handle and its size. */
export const xen_dm_op_buf = struct('xen_dm_op_buf', { h: pointer, size: u64 });
