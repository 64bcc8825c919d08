/**
 * The operations of the model, as the 2016 interface would have passed them: one struct, with pointers to further memory
 * inside it. The first twenty are the project's own, run by its own hypervisor code; the others don't exist in Xen and
 * stand for what may come.
 *
 *     0 op   4 flags   8 payload (24 bytes)   32 handle   40 handle
 *
 * In the guest-handle array the handles are not in the struct: block i of an operation is element i of the array.
 */

import { XEN_DMOP_modified_memory, XEN_DMOP_track_dirty_vram } from '../abi/xen/dm-op.js';
import type { GuestBuffer } from '../boundary/guest-buffer.js';
import { XenError } from '../boundary/xen-error.js';
import type { Domain } from '../hypervisor/domain.js';
import type { Actor, World } from './model/world.js';

/** Header and payload: what every interface shares. */
export const STRUCT_SIZE = 32;
export const PAYLOAD = 8;
export const MAX_HANDLES = 2;
/** With its handles, where they are in the struct. */
export const OLD_STRUCT_SIZE = STRUCT_SIZE + MAX_HANDLES * 8;

/** Of operations that are made up: the first is the one that a new release brings. */
export const OP_exchange_memory = 21;
/** Handles inside a block that a handle names. */
export const OP_scatter_status = 22;
/** Had no handle when the kernel was built; the hypervisor's newer version of it has one. */
export const OP_grown = 23;
/** Its author used the copy helper that looks at nothing. */
export const OP_careless = 24;

export const NEW_OPERATIONS = [OP_exchange_memory, OP_scatter_status, OP_grown, OP_careless] as const;

/** How big each block is, which in this interface the operation alone knows. */
const BLOCK_SIZES = new Map<number, (payload: DataView) => number[]>([
  [XEN_DMOP_track_dirty_vram, (v) => [Math.ceil(v.getUint32(0, true) / 8)]],
  [XEN_DMOP_modified_memory, (v) => [v.getUint32(0, true) * 16]],
  [OP_exchange_memory, (v) => [v.getUint32(0, true), v.getUint32(0, true)]],
  [OP_scatter_status, (v) => [v.getUint32(0, true) * 16]],
  [OP_grown, () => [8]],
  [OP_careless, (v) => [v.getUint32(0, true)]],
]);

export function blockSizes(op: number, struct: Uint8Array): number[] {
  return BLOCK_SIZES.get(op)?.(new DataView(struct.buffer, struct.byteOffset + PAYLOAD, 24)) ?? [];
}

/** How an operation's code reaches the caller's memory: this is what the proposals differ in. */
export interface Blocks {
  /** Block `index` (1, 2) of the operation. */
  get(index: number): GuestBuffer | undefined;
  /** What a handle inside a block names. */
  nested(handle: bigint, size: number): GuestBuffer | undefined;
  /** Block `index` by the helper that checks nothing, where there is such a helper. */
  unchecked(index: number): GuestBuffer | undefined;
}

/**
 * Runs an operation on a copy of its struct.
 * @param struct the hypervisor's copy; results are in it afterwards
 * @param isPreemptible false for the variant whose operations never look for other work
 */
export function execute(
  world: World,
  actor: Actor,
  domid: number,
  struct: Uint8Array,
  blocks: Blocks,
  isPreemptible = true,
): number {
  const op = new DataView(struct.buffer, struct.byteOffset).getUint32(0, true);
  if (op >= OP_exchange_memory && op <= OP_careless) return runNew(world, actor, op, domid, struct, blocks);
  const buffers: GuestBuffer[] = [new KernelBuffer(struct)];
  const second = BLOCK_SIZES.has(op) ? blocks.get(1) : undefined;
  if (second) buffers.push(second);
  return world.runToEnd(world.hypervisor.callsOfDom0().dmOp(domid, buffers), isPreemptible);
}

/** The operations that Xen doesn't have, for any interface. */
export function runNew(
  world: World,
  _actor: Actor,
  op: number,
  domid: number,
  struct: Uint8Array,
  blocks: Blocks,
): number {
  const target = world.hypervisor.domains.getRemote(domid, world.hypervisor.dom0);
  const payload = new DataView(struct.buffer, struct.byteOffset + PAYLOAD, 24);
  const nr = payload.getUint32(0, true);
  switch (op) {
    case OP_exchange_memory:
      return exchange(world, target, payload, blocks);
    case OP_scatter_status:
      return scatter(blocks, nr);
    case OP_grown:
      needed(blocks.get(1)).copyTo(0, new Uint8Array(8).fill(1));
      return 0;
    case OP_careless:
      if (nr > 4096) throw new XenError('E2BIG', `${nr} bytes at once`);
      needed(blocks.unchecked(1)).copyTo(0, new Uint8Array(nr));
      return 0;
    default:
      throw new Error(`operation ${op} is not one of the new ones`);
  }
}

/** Writes block 1 to guest memory, and what was there to block 2. */
function exchange(world: World, target: Domain, payload: DataView, blocks: Blocks): number {
  const nr = payload.getUint32(0, true);
  if (nr > 4096) throw new XenError('E2BIG', `${nr} bytes at once`);
  const from = needed(blocks.get(1));
  const to = needed(blocks.get(2));
  const mfn = target.p2m.mfn(Number(payload.getBigUint64(8, true) & 0xffff_ffffn));
  if (mfn < 0) throw new XenError('EINVAL', 'no memory there');
  const incoming = new Uint8Array(nr);
  from.copyFrom(0, incoming);
  const page = world.hypervisor.machine.frame(mfn);
  to.copyTo(0, page.slice(0, nr));
  page.set(incoming);
  return 0;
}

/** Block 1 is an array of (handle, size): a word of status goes to each. */
function scatter(blocks: Blocks, nr: number): number {
  if (nr > 64) throw new XenError('E2BIG', `${nr} handles at once`);
  const list = needed(blocks.get(1));
  for (let i = 0; i < nr; i++) {
    const entry = new Uint8Array(16);
    list.copyFrom(i * 16, entry);
    const view = new DataView(entry.buffer);
    const size = Number(view.getBigUint64(8, true) & 0xffffn);
    needed(blocks.nested(view.getBigUint64(0, true), size)).copyTo(0, new Uint8Array(Math.min(size, 8)).fill(2));
  }
  return 0;
}

function needed(buffer: GuestBuffer | undefined): GuestBuffer {
  if (!buffer) throw new XenError('EINVAL', 'a block is missing');
  return buffer;
}

/** Memory of the kernel's or the hypervisor's own, such as its copy of a struct. */
export class KernelBuffer implements GuestBuffer {
  constructor(private readonly bytes: Uint8Array) {}

  get size(): number {
    return this.bytes.length;
  }

  copyFrom(offset: number, into: Uint8Array): void {
    if (offset + into.length > this.size) throw new XenError('EFAULT', 'copy leaves the buffer');
    into.set(this.bytes.subarray(offset, offset + into.length));
  }

  copyTo(offset: number, from: Uint8Array): void {
    if (offset + from.length > this.size) throw new XenError('EFAULT', 'copy leaves the buffer');
    this.bytes.set(from, offset);
  }
}
