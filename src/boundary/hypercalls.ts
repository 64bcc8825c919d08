/**
 * What dom0's kernel asks of the hypervisor: the whole of it, so that the drivers can be read, tested and attacked
 * without a hypervisor, and cannot reach past it. Failures are XenErrors.
 */
import type { Mapping } from './extent.js';
import type { GuestBuffer, GuestMemory } from './guest-buffer.js';
import type { Operation } from './operation.js';

export interface EventChannelCalls {
  /** @returns dom0's new local port */
  bindInterdomain(remoteDomid: number, remotePort: number): number;
  /** Allocates a port of dom0 that `remoteDomid` may bind. @param atPort one that the kernel has set aside for itself */
  allocUnbound(remoteDomid: number, atPort?: number): number;
  bindVirq(virq: number): number;
  close(port: number): void;
  send(port: number): void;
  /** Takes a pending event: clears it and masks the port, so that the next one waits. */
  acknowledge(port: number): void;
  /** Lets the port's events through again; one that waited comes at once. New ports start masked. */
  unmask(port: number): void;
}

export interface Hypercalls {
  /** The DM op hypercall: audited buffers, whose content nobody has looked at yet. */
  dmOp(domid: number, buffers: readonly GuestBuffer[]): Operation;
  /** Any hypercall, with addresses of the caller's memory as arguments. */
  hypercall(op: number, args: readonly bigint[], memory: GuestMemory): Operation;
  /** Frames of another domain for mapping, the caller's to release. @throws XenError ESRCH */
  foreignFrames(domid: number, gfns: readonly bigint[]): Mapping;
  /** XENMEM_acquire_resource's size query, in frames. */
  resourceSize(domid: number, type: number, id: number): number;
  /** XENMEM_acquire_resource, all frames or none, the caller's to release. */
  resourceFrames(domid: number, type: number, id: number, frame: bigint, nrFrames: number): Mapping;
  readonly events: EventChannelCalls;
}
