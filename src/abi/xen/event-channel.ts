/**
 * The event channel hypercall: operations and their arguments.
 * @spec xen:public/event_channel.h
 */
import { array, struct, u8, u16, u32, u64, union } from '../layout.js';

export const EVTCHNOP = {
  bind_interdomain: 0,
  bind_virq: 1,
  bind_pirq: 2,
  close: 3,
  send: 4,
  status: 5,
  alloc_unbound: 6,
  bind_ipi: 7,
  bind_vcpu: 8,
  unmask: 9,
  reset: 10,
  init_control: 11,
  expand_array: 12,
  set_priority: 13,
  reset_cont: 14,
} as const;

export const EVTCHNSTAT_closed = 0;
export const EVTCHNSTAT_unbound = 1;
export const EVTCHNSTAT_interdomain = 2;
export const EVTCHNSTAT_pirq = 3;
export const EVTCHNSTAT_virq = 4;
export const EVTCHNSTAT_ipi = 5;

/** Ports of the two-level ABI on a 64-bit guest, and of the FIFO ABI. */
export const EVTCHN_2L_NR_CHANNELS = 4096;
export const EVTCHN_FIFO_NR_CHANNELS = 1 << 17;

export const evtchn_alloc_unbound = struct('evtchn_alloc_unbound', { dom: u16, remote_dom: u16, port: u32 });
export const evtchn_bind_interdomain = struct('evtchn_bind_interdomain', {
  remote_dom: u16,
  remote_port: u32,
  local_port: u32,
});
export const evtchn_bind_virq = struct('evtchn_bind_virq', { virq: u32, vcpu: u32, port: u32 });
export const evtchn_bind_pirq = struct('evtchn_bind_pirq', { pirq: u32, flags: u32, port: u32 });
export const evtchn_bind_ipi = struct('evtchn_bind_ipi', { vcpu: u32, port: u32 });
export const evtchn_close = struct('evtchn_close', { port: u32 });
export const evtchn_send = struct('evtchn_send', { port: u32 });

const evtchn_status_interdomain = struct('evtchn_status.u.interdomain', { dom: u16, port: u32 });
const evtchn_status_u = union('evtchn_status.u', {
  unbound: struct('evtchn_status.u.unbound', { dom: u16 }),
  interdomain: evtchn_status_interdomain,
  pirq: u32,
  virq: u32,
});
export const evtchn_status = struct('evtchn_status', {
  dom: u16,
  port: u32,
  status: u32,
  vcpu: u32,
  u: evtchn_status_u,
});

export const evtchn_bind_vcpu = struct('evtchn_bind_vcpu', { port: u32, vcpu: u32 });
export const evtchn_unmask = struct('evtchn_unmask', { port: u32 });
export const evtchn_reset = struct('evtchn_reset', { dom: u16 });
export const evtchn_init_control = struct('evtchn_init_control', {
  control_gfn: u64,
  offset: u32,
  vcpu: u32,
  link_bits: u8,
  _pad: array(u8, 7),
});
export const evtchn_expand_array = struct('evtchn_expand_array', { array_gfn: u64 });
export const evtchn_set_priority = struct('evtchn_set_priority', { port: u32, priority: u32 });
