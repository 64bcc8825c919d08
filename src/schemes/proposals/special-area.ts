/**
 * One nominated area: the only operation known to point at further memory, track_dirty_vram, writes its bitmap to a
 * hypercall buffer that the kernel allocated, and ignores its pointer. Nothing else changes: the kernel checks where the
 * struct lies, and whatever pointer another operation has is followed.
 */
import { XEN_DMOP_track_dirty_vram } from '../../abi/xen/dm-op.js';
import { XenError } from '../../boundary/xen-error.js';
import type { Frame } from '../model/physical-memory.js';
import type { ModelProcess } from '../model/process.js';
import type { World } from '../model/world.js';
import { execute } from '../operations.js';
import { markedParts, type Proposal } from '../proposal.js';
import { FrameBuffer, RawBuffer } from './copying.js';
import { unauditedKernelCall } from './kernel-call.js';
import {
  actorOf,
  fetchStruct,
  handleOf,
  nameMemory,
  type PointerFile,
  PointerSession,
  requireUser,
  returnStruct,
} from './pointer-session.js';

const AREA_BYTES = 4096;

// kernel part: begin
class SpecialAreaFile implements PointerFile {
  restrictedTo: number | undefined;
  /** The file's own until it is closed. */
  private area: { readonly address: bigint; readonly frame: Frame } | undefined;

  constructor(private readonly world: World) {}

  /** Nominates the area; the first memory a program declares is the one it will use for the bitmap. */
  nominate(process: ModelProcess): bigint {
    if (!this.area) {
      const address = process.allocate(1, 'nominated area');
      this.area = { address, frame: process.space.walkUser(address)!.frame };
      this.area.frame.pins++;
    }
    return this.area.address;
  }

  dmOp(process: ModelProcess, domid: number, address: bigint): number {
    requireUser(this.world, address, 48);
    return hypercall(this.world, this.area?.frame, process, domid, address);
  }

  handleFor(process: ModelProcess, address: bigint, isHonest: boolean): bigint {
    return nameMemory(this.world, process.space, address, isHonest);
  }
}
// kernel part: end

// hypervisor part: begin
function hypercall(
  world: World,
  area: Frame | undefined,
  process: ModelProcess,
  domid: number,
  address: bigint,
): number {
  const actor = actorOf(process);
  const struct = fetchStruct(world, process, address);
  const op = new DataView(struct.buffer).getUint32(0, true);
  const raw = (handle: bigint, size: number) => new RawBuffer(world, actor, process.space, handle, size);
  const get = (index: number) => {
    const block = handleOf(struct, index);
    if (!block || op !== XEN_DMOP_track_dirty_vram) return block && raw(block.handle, block.size);
    if (!area || block.size > AREA_BYTES) throw new XenError('EINVAL', 'no nominated area that is big enough');
    return new FrameBuffer(world, actor, [area], 0, AREA_BYTES);
  };
  const result = execute(world, actor, domid, struct, { get, nested: raw, unchecked: get });
  returnStruct(world, process, address, struct);
  return result;
}
// hypervisor part: end

/** Every block of memory that a program asks for is the area: it can have no other. */
class SpecialAreaSession extends PointerSession {
  constructor(
    world: World,
    private readonly special: SpecialAreaFile,
    process: ModelProcess,
  ) {
    super(world, special, process);
  }

  override memory(nrPages: number): bigint {
    const area = this.special.nominate(this.process);
    return nrPages === 1 ? area : super.memory(nrPages);
  }
}

export const specialArea: Proposal = {
  id: 'special-area',
  name: 'One nominated area for dirty VRAM',
  product: false,
  summary:
    'the bitmap of track_dirty_vram goes to a hypercall buffer that was nominated before; nothing else is special',
  open: (world, process) => new SpecialAreaSession(world, new SpecialAreaFile(world), process),
  kernelCall: unauditedKernelCall,
  sources: markedParts('special-area'),
};
