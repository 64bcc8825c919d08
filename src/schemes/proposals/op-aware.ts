/**
 * The kernel knows each operation: which fields are pointers, how big what they point to is. It copies the struct,
 * checks its pointers, pins what they name, and hands its own copy on, so that the struct can't change afterwards.
 * What it can't copy is what lies behind a pointer: a handle in there is checked, and read again by the hypervisor.
 */
import type { GuestBuffer } from '../../boundary/guest-buffer.js';
import { XenError } from '../../boundary/xen-error.js';
import { MAX_OP } from '../../hypervisor/hypercalls/dm-op/table.js';
import type { ModelProcess } from '../model/process.js';
import type { World } from '../model/world.js';
import { blockSizes, execute, OP_careless, OP_grown, OP_scatter_status } from '../operations.js';
import { markedParts, type Proposal } from '../proposal.js';
import { AuditedBuffer, RawBuffer } from './copying.js';
import { unauditedKernelCall } from './kernel-call.js';
import {
  actorOf,
  fetchStruct,
  handleOf,
  type PointerFile,
  PointerSession,
  requireUser,
  returnStruct,
} from './pointer-session.js';

// kernel part: begin
/** Operations this kernel was built to know, beside Xen's own. It knew OP_grown before that had a handle. */
const KNOWN_NEW = new Set([OP_scatter_status, OP_grown, OP_careless]);

class OpAwareFile implements PointerFile {
  restrictedTo: number | undefined;

  constructor(
    private readonly world: World,
    private readonly known: ReadonlySet<number>,
  ) {}

  dmOp(process: ModelProcess, domid: number, address: bigint): number {
    const { world } = this;
    requireUser(world, address, 48);
    const struct = fetchStruct(world, process, address);
    const op = new DataView(struct.buffer).getUint32(0, true);
    if (op > MAX_OP && !this.known.has(op)) throw new XenError('EOPNOTSUPP', `this kernel knows no operation ${op}`);
    const audited: AuditedBuffer[] = [];
    const sizes = op === OP_grown ? [] : blockSizes(op, struct);
    sizes.forEach((size, i) => {
      audited.push(this.auditHandle(process, handleOf(struct, i + 1)!.handle, size));
    });
    if (op === OP_scatter_status && audited[0]) this.auditNested(audited[0], struct);
    try {
      const result = hypercall(world, process, domid, struct, audited);
      returnStruct(world, process, address, struct);
      return result;
    } finally {
      process.space.unpinAll();
    }
  }

  private auditHandle(process: ModelProcess, address: bigint, size: number): AuditedBuffer {
    requireUser(this.world, address, size);
    pin(this.world, process, address, size);
    return new AuditedBuffer(this.world, actorOf(process), process.space, address, size);
  }

  private auditNested(list: GuestBuffer, struct: Uint8Array): void {
    const nr = new DataView(struct.buffer).getUint32(8, true);
    if (nr > 64) throw new XenError('E2BIG', `${nr} handles at once`);
    for (let i = 0; i < nr; i++) {
      const entry = new Uint8Array(16);
      list.copyFrom(i * 16, entry);
      const view = new DataView(entry.buffer);
      const size = Number(view.getBigUint64(8, true) & 0xffffn);
      requireUser(this.world, view.getBigUint64(0, true), size);
    }
  }
}

function pin(world: World, process: ModelProcess, address: bigint, size: number): void {
  if (world.platform.addressing === 'virtual') return;
  const end = address + BigInt(size);
  for (let page = address - (address % 4096n); page < end; page += 4096n) {
    if (!process.space.pin(page)) throw new XenError('EFAULT', `nothing writable at 0x${page.toString(16)}`);
  }
}
// kernel part: end

// hypervisor part: begin
function hypercall(
  world: World,
  process: ModelProcess,
  domid: number,
  struct: Uint8Array,
  audited: readonly GuestBuffer[],
): number {
  const actor = actorOf(process);
  const raw = (handle: bigint, size: number) => {
    // Physical memory has to be named as such, which a nested handle that nobody translated isn't.
    const named = world.platform.addressing === 'physical' ? world.physicalOf(process.space, handle) : handle;
    return new RawBuffer(world, actor, process.space, named, size);
  };
  const get = (index: number) => {
    const block = handleOf(struct, index);
    return audited[index - 1] ?? (block && raw(block.handle, block.size));
  };
  return execute(world, actor, domid, struct, { get, nested: raw, unchecked: get });
}
// hypervisor part: end

const sources = markedParts('op-aware');

/** @param known operations beside Xen's own that the kernel was taught */
export function opAwareKnowing(known: ReadonlySet<number>): Proposal {
  return {
    id: 'op-aware',
    name: 'Operation-aware privcmd',
    product: false,
    summary: 'the kernel knows every operation’s struct and checks the pointers in its own copy of it',
    open: (world, process) => new PointerSession(world, new OpAwareFile(world, known), process),
    kernelCall: unauditedKernelCall,
    sources,
  };
}

export const opAware = opAwareKnowing(KNOWN_NEW);
