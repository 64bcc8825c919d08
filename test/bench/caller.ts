/** A calling process in this one: memory of its own behind addresses, and DM ops put together in it as libraries do. */
import { encode, type Layout } from '../../dist/abi/layout.js';
import { privcmd_dm_op, privcmd_dm_op_buf } from '../../dist/abi/linux/privcmd.js';
import { xen_dm_op } from '../../dist/abi/xen/dm-op.js';
import type { Extent } from '../../dist/boundary/extent.js';
import { XenError } from '../../dist/boundary/xen-error.js';
import type { AddressSpace, Process, UserMemory } from '../../dist/dom0/process.js';
import { createHvmDomain } from '../../dist/hypervisor/build-domain.js';
import { Hypervisor } from '../../dist/hypervisor/hypervisor.js';

const BASE = 0x7ffc_0000_0000;
const SIZE = 1 << 16;

class FlatMemory implements UserMemory {
  private readonly bytes = new Uint8Array(SIZE);
  private used = 0;

  /** @returns the address */
  put(bytes: Uint8Array): number {
    const at = this.used;
    this.bytes.set(bytes, at);
    this.used += (bytes.length + 15) & ~15;
    return BASE + at;
  }

  copyIn(address: number, into: Uint8Array): void {
    const at = this.offset(address, into.length);
    for (let i = 0; i < into.length; i++) into[i] = this.bytes[at + i] as number;
  }

  copyOut(address: number, from: Uint8Array): void {
    const at = this.offset(address, from.length);
    for (let i = 0; i < from.length; i++) this.bytes[at + i] = from[i] as number;
  }

  pinForWrite(address: number, size: number): void {
    this.offset(address, size);
  }

  private offset(address: number, length: number): number {
    const at = address - BASE;
    if (at < 0 || at + length > SIZE) throw new XenError('EFAULT', 'outside the memory');
    return at;
  }
}

const NO_MAPPINGS: AddressSpace = {
  area: () => 'none',
  mapFrames: () => {
    throw new XenError('EINVAL', 'nothing is mapped here');
  },
};

export class BenchCaller implements Process {
  readonly pid = 1;
  readonly memory = new FlatMemory();
  readonly addressSpace = NO_MAPPINGS;

  get hypercallMemory(): never {
    throw new XenError('EFAULT', 'no hypercall memory');
  }

  /** Puts a call into memory: its struct, its buffer list, its buffers. @returns the ioctl's argument */
  dmOp(domid: number, op: number, layout: Layout<never>, args: object, ...further: Uint8Array[]): number {
    const first = new Uint8Array(xen_dm_op.size);
    new DataView(first.buffer).setUint32(0, op, true);
    const zeros = layout.read(new DataView(new ArrayBuffer(layout.size)), 0) as object;
    first.set(encode(layout, { ...zeros, ...args } as never), xen_dm_op.fields.u.offset);
    const buffers = [first, ...further].map((bytes) => ({ uptr: this.memory.put(bytes), size: bytes.length }));
    const list = new Uint8Array(buffers.length * privcmd_dm_op_buf.size);
    for (const [i, buffer] of buffers.entries())
      list.set(encode(privcmd_dm_op_buf, buffer), i * privcmd_dm_op_buf.size);
    return this.memory.put(encode(privcmd_dm_op, { dom: domid, num: buffers.length, ubufs: this.memory.put(list) }));
  }
}

function plainExtent(nrFrames: number): Extent {
  return { nrFrames, bytes: new Uint8Array(nrFrames * 4096), release() {} };
}

/** A hypervisor with HVM domains 1 to n of 1 MiB. */
export function hypervisorWith(nrDomains: number): Hypervisor {
  const hypervisor = new Hypervisor({ extents: { allocate: plainExtent } });
  for (let i = 0; i < nrDomains; i++) createHvmDomain(hypervisor, { memoryMiB: 1, vcpus: 1 });
  return hypervisor;
}
