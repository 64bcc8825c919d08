/**
 * The HVM hypercall: operations, and the argument of those that get and set a parameter.
 * @spec xen:public/hvm/hvm_op.h
 */
import { array, struct, u16, u32, u64 } from '../layout.js';

export const HVMOP = {
  set_param: 0,
  get_param: 1,
  set_pci_intx_level: 2,
  set_isa_irq_level: 3,
  set_pci_link_route: 4,
  flush_tlbs: 5,
  pagetable_dying: 9,
  get_time: 10,
  xentrace: 11,
  set_mem_access: 12,
  get_mem_access: 13,
  get_mem_type: 15,
  set_evtchn_upcall_vector: 23,
  guest_request_vm_event: 24,
  altp2m: 25,
} as const;

export const xen_hvm_param = struct('xen_hvm_param', { domid: u16, pad: u16, index: u32, value: u64 });

export const xen_hvm_get_mem_type = struct('xen_hvm_get_mem_type', {
  domid: u16,
  mem_type: u16,
  pad: array(u16, 2),
  pfn: u64,
});
