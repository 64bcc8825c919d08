/** A toolstack in dom0: hypercalls with structs in memory of its own, as the C libraries make them. */
import { encode, type Layout } from '../../dist/abi/layout.js';
import * as D from '../../dist/abi/xen/domctl.js';
import * as E from '../../dist/abi/xen/event-channel.js';
import { HVMOP, xen_hvm_param } from '../../dist/abi/xen/hvm-op.js';
import * as M from '../../dist/abi/xen/memory.js';
import { HYPERVISOR } from '../../dist/abi/xen/xen.js';
import type { Extent } from '../../dist/boundary/extent.js';
import type { GuestMemory } from '../../dist/boundary/guest-buffer.js';
import { NEVER_PREEMPT, type Operation, PREEMPTED, type Preemption } from '../../dist/boundary/operation.js';
import { XenError } from '../../dist/boundary/xen-error.js';
import type { Domain } from '../../dist/hypervisor/domain.js';
import { Call, HypercallOperation } from '../../dist/hypervisor/hypercalls/call.js';
import { startHypercall } from '../../dist/hypervisor/hypercalls/table.js';
import { Hypervisor } from '../../dist/hypervisor/hypervisor.js';

/** What a call came to: its return value, or the name of its errno. */
export type Result = number | string;

/** Extents in plain memory that know how many of them are alive. */
export class PlainExtents {
  live = 0;
  /** Extents that may still be allocated. */
  left = Infinity;

  allocate(nrFrames: number): Extent {
    if (this.left-- <= 0) throw new XenError('ENOMEM', 'the test machine is full');
    this.live++;
    return { nrFrames, bytes: new Uint8Array(nrFrames * 4096), release: () => void this.live-- };
  }
}

/** One region of a caller's address space; everything outside faults. */
export class TestMemory implements GuestMemory {
  static readonly BASE = 0x10000n;
  readonly bytes: Uint8Array;
  private next = 0;

  constructor(size = 1 << 20) {
    this.bytes = new Uint8Array(size);
  }

  /** Puts bytes somewhere. @returns their address */
  put(bytes: Uint8Array): bigint {
    const at = this.next;
    if (at + bytes.length > this.bytes.length) throw new Error('the test memory is full');
    this.bytes.set(bytes, at);
    this.next = (at + bytes.length + 7) & ~7;
    return TestMemory.BASE + BigInt(at);
  }

  read<T>(address: bigint, layout: Layout<T>): T {
    return layout.read(new DataView(this.bytes.buffer), Number(address - TestMemory.BASE));
  }

  copyFrom(address: bigint, into: Uint8Array): void {
    into.set(this.range(address, into.length));
  }

  copyTo(address: bigint, from: Uint8Array): void {
    this.range(address, from.length).set(from);
  }

  private range(address: bigint, length: number): Uint8Array {
    const offset = address - TestMemory.BASE;
    if (offset < 0n || offset + BigInt(length) > BigInt(this.bytes.length)) throw new XenError('EFAULT', 'test memory');
    return this.bytes.subarray(Number(offset), Number(offset) + length);
  }
}

/** Due every time it is asked; counts. */
export class AlwaysPreempt implements Preemption {
  asked = 0;
  due(): boolean {
    this.asked++;
    return true;
  }
}

/** Runs an operation to its end. */
export function runToEnd(operation: Operation, preemption: Preemption = NEVER_PREEMPT): Result {
  try {
    for (;;) {
      const result = operation.run(preemption);
      if (result !== PREEMPTED) return result;
    }
  } catch (error) {
    if (error instanceof XenError) return error.code;
    throw error;
  }
}

export function u64List(values: readonly (bigint | number)[]): Uint8Array {
  return new Uint8Array(new BigUint64Array(values.map(BigInt)).buffer);
}

/** A createdomain argument as the programs that were put to real Xen made it. */
export function hvmConfig(change: object = {}): object {
  return {
    flags: D.XEN_DOMCTL_CDF_hvm | D.XEN_DOMCTL_CDF_hap,
    max_vcpus: 1,
    max_evtchn_port: 0xffffffff,
    max_grant_frames: 4,
    max_maptrack_frames: 4,
    grant_opts: 2,
    arch: { emulation_flags: D.XEN_X86_EMU_ALL & ~D.XEN_X86_EMU_VPCI, misc_flags: 0 },
    ...change,
  };
}

/** A value of the layout with every field that isn't given 0. */
export function fill<T>(layout: Layout<T>, value: object = {}): T {
  const zeros = layout.read(new DataView(new ArrayBuffer(layout.size)), 0);
  return { ...zeros, ...value };
}

export class Toolstack {
  readonly extents = new PlainExtents();
  readonly hypervisor: Hypervisor;
  preemption: Preemption = NEVER_PREEMPT;
  caller: Domain;

  constructor(options: { kernelPorts?: number } = {}) {
    this.hypervisor = new Hypervisor({ extents: this.extents, ...options });
    this.caller = this.hypervisor.dom0;
  }

  domain(domid: number): Domain {
    return this.hypervisor.domains.get(domid);
  }

  begin(op: number, args: readonly bigint[], memory: GuestMemory): Operation {
    const call = new Call(this.hypervisor, this.caller, memory);
    return new HypercallOperation(call, () => startHypercall(call, op, args));
  }

  hypercall(op: number, args: readonly (bigint | number)[], memory: GuestMemory = new TestMemory(4096)): Result {
    return runToEnd(this.begin(op, args.map(BigInt), memory), this.preemption);
  }

  /** One call whose argument is a struct. @returns its result, and the struct as it is afterwards */
  withStruct<T>(
    op: number,
    before: readonly number[],
    layout: Layout<T>,
    value: object,
    memory = new TestMemory(),
  ): { result: Result; out: T } {
    const address = memory.put(encode(layout, fill(layout, value)));
    const result = this.hypercall(op, [...before, address], memory);
    return { result, out: memory.read(address, layout) };
  }

  domctl<T>(cmd: number, domid: number, layout?: Layout<T>, value: object = {}, memory = new TestMemory()) {
    const bytes = new Uint8Array(D.xen_domctl.size);
    const view = new DataView(bytes.buffer);
    D.xen_domctl.fields.cmd.set(view, 0, cmd);
    D.xen_domctl.fields.interface_version.set(view, 0, D.XEN_DOMCTL_INTERFACE_VERSION);
    D.xen_domctl.fields.domain.set(view, 0, domid);
    const at = D.xen_domctl.fields.u.offset;
    if (layout) bytes.set(encode(layout, fill(layout, value)), at);
    const address = memory.put(bytes);
    const result = this.hypercall(HYPERVISOR.domctl, [address], memory);
    const out = layout ? memory.read(address + BigInt(at), layout) : undefined;
    return { result, domid: memory.read(address, D.xen_domctl).domain, out: out as T };
  }

  create(change: object = {}, domid = 0): { result: Result; domid: number } {
    return this.domctl(D.XEN_DOMCTL.createdomain, domid, D.xen_domctl_createdomain, hvmConfig(change));
  }

  maxVcpus(domid: number, max: number): Result {
    return this.domctl(D.XEN_DOMCTL.max_vcpus, domid, D.xen_domctl_max_vcpus, { max }).result;
  }

  setMaxMem(domid: number, kib: number): Result {
    return this.domctl(D.XEN_DOMCTL.max_mem, domid, D.xen_domctl_max_mem, { max_memkb: BigInt(kib) }).result;
  }

  pause(domid: number): Result {
    return this.domctl(D.XEN_DOMCTL.pausedomain, domid).result;
  }

  unpause(domid: number): Result {
    return this.domctl(D.XEN_DOMCTL.unpausedomain, domid).result;
  }

  destroy(domid: number): Result {
    return this.domctl(D.XEN_DOMCTL.destroydomain, domid).result;
  }

  info(domid: number) {
    const { result, out } = this.domctl(D.XEN_DOMCTL.getdomaininfo, domid, D.xen_domctl_getdomaininfo);
    return { result, ...out };
  }

  /** populate_physmap or decrease_reservation of `count` extents from a frame on. */
  reservation(cmd: number, domid: number, first: bigint | number, count: number, order = 0, flags = 0): Result {
    const memory = new TestMemory(Math.max(4096, count * 8 + 4096));
    const frames = Array.from({ length: count }, (_, i) => BigInt(first) + (BigInt(i) << BigInt(order)));
    const extent_start = memory.put(u64List(frames));
    const value = { extent_start, nr_extents: BigInt(count), extent_order: order, mem_flags: flags, domid };
    return this.withStruct(HYPERVISOR.memory_op, [cmd], M.xen_memory_reservation, value, memory).result;
  }

  populate(domid: number, first: bigint | number, count: number, order = 0, flags = 0): Result {
    return this.reservation(M.XENMEM.populate_physmap, domid, first, count, order, flags);
  }

  decrease(domid: number, first: bigint | number, count: number, order = 0): Result {
    return this.reservation(M.XENMEM.decrease_reservation, domid, first, count, order);
  }

  addToPhysmap(domid: number, space: number, idx: bigint | number, gpfn: bigint | number, size = 0): Result {
    const value = { domid, space, size, idx: BigInt(idx), gpfn: BigInt(gpfn) };
    return this.withStruct(HYPERVISOR.memory_op, [M.XENMEM.add_to_physmap], M.xen_add_to_physmap, value).result;
  }

  setParam(domid: number, index: number, value: bigint | number): Result {
    const args = { domid, index, value: BigInt(value) };
    return this.withStruct(HYPERVISOR.hvm_op, [HVMOP.set_param], xen_hvm_param, args).result;
  }

  getParam(domid: number, index: number): Result | bigint {
    const { result, out } = this.withStruct(HYPERVISOR.hvm_op, [HVMOP.get_param], xen_hvm_param, { domid, index });
    return result === 0 ? out.value : result;
  }

  evtchn<T>(cmd: number, layout: Layout<T>, value: object) {
    return this.withStruct(HYPERVISOR.event_channel_op, [cmd], layout, value);
  }

  /** The port, or an errno's name. */
  allocUnbound(dom: number, remote_dom: number): Result {
    const { result, out } = this.evtchn(E.EVTCHNOP.alloc_unbound, E.evtchn_alloc_unbound, { dom, remote_dom });
    return result === 0 ? out.port : result;
  }

  bindInterdomain(remote_dom: number, remote_port: number): Result {
    const args = { remote_dom, remote_port };
    const { result, out } = this.evtchn(E.EVTCHNOP.bind_interdomain, E.evtchn_bind_interdomain, args);
    return result === 0 ? out.local_port : result;
  }

  /** An HVM domain with vCPUs and a limit of 4 MiB, without pages. @returns its domid */
  hvm(change: object = {}): number {
    const { result, domid } = this.create(change);
    if (result !== 0) throw new Error(`createdomain: ${result}`);
    this.maxVcpus(domid, this.domain(domid).maxVcpus);
    this.setMaxMem(domid, 4096);
    return domid;
  }
}
