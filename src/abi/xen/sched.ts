/**
 * The scheduler hypercall, as far as a toolstack uses it.
 * @spec xen:public/sched.h
 */
import { struct, u16, u32 } from '../layout.js';

export const SCHEDOP = {
  yield: 0,
  block: 1,
  shutdown: 2,
  poll: 3,
  remote_shutdown: 4,
  shutdown_code: 5,
  watchdog: 6,
  pin_override: 7,
} as const;

export const sched_remote_shutdown = struct('sched_remote_shutdown', { domain_id: u16, reason: u32 });
