/**
 * Physically addressed hypercall buffers: privcmd allocates memory, maps it into the program, and fills in its frames
 * with every call; the program only ever names offsets in it. The frames are the file's until it is closed.
 */
import { XenError } from '../../boundary/xen-error.js';
import type { Frame } from '../model/physical-memory.js';
import type { ModelProcess } from '../model/process.js';
import type { World } from '../model/world.js';
import { execute, OLD_STRUCT_SIZE, PAYLOAD, STRUCT_SIZE } from '../operations.js';
import { markedParts, type Proposal } from '../proposal.js';
import { FrameBuffer, RawBuffer } from './copying.js';
import { unauditedKernelCall } from './kernel-call.js';
import { actorOf, handleOf, type PointerFile, PointerSession } from './pointer-session.js';

const MAX_PAGES = 64;

// kernel part: begin
class PhysicalBuffersFile implements PointerFile {
  restrictedTo: number | undefined;
  private readonly frames: Frame[] = [];
  private base: bigint | undefined;

  constructor(private readonly world: World) {}

  /** mmap: more pages at the buffer's end. */
  allocate(process: ModelProcess, nrPages: number): bigint {
    if (this.frames.length + nrPages > MAX_PAGES)
      throw new XenError('ENOMEM', `more than ${MAX_PAGES} pages of buffer`);
    this.base ??= process.allocate(0, '') + 0x100_0000n;
    const address = this.base + BigInt(this.frames.length) * 4096n;
    for (let i = 0; i < nrPages; i++) {
      const frame = process.mapFresh(address + BigInt(i) * 4096n, 'hypercall buffer');
      frame.pins++;
      this.frames.push(frame);
    }
    return address;
  }

  dmOp(process: ModelProcess, domid: number, offset: bigint): number {
    return hypercall(this.world, this.frames, process, domid, offset);
  }

  handleFor(_process: ModelProcess, address: bigint): bigint {
    return BigInt.asUintN(64, address - (this.base ?? 0n));
  }
}
// kernel part: end

// hypervisor part: begin
function hypercall(
  world: World,
  frames: readonly Frame[],
  process: ModelProcess,
  domid: number,
  offset: bigint,
): number {
  const actor = actorOf(process);
  const inBuffer = (at: bigint, size: number) => {
    world.scheduler.point('hypervisor checks an offset');
    if (at + BigInt(size) > BigInt(frames.length) * 4096n) {
      throw new XenError('EFAULT', `${size} bytes at offset 0x${at.toString(16)} leave the buffer`);
    }
    return new FrameBuffer(world, actor, frames, Number(at), size);
  };
  const struct = new Uint8Array(OLD_STRUCT_SIZE);
  const home = inBuffer(offset, OLD_STRUCT_SIZE);
  home.copyFrom(0, struct);
  const block = (index: number, make: (at: bigint, size: number) => FrameBuffer | RawBuffer) => {
    const found = handleOf(struct, index);
    return found && make(found.handle, found.size);
  };
  const raw = (handle: bigint, size: number) => new RawBuffer(world, actor, process.space, handle, size);
  const blocks = { get: (i: number) => block(i, inBuffer), nested: inBuffer, unchecked: (i: number) => block(i, raw) };
  const result = execute(world, actor, domid, struct, blocks);
  home.copyTo(PAYLOAD, struct.subarray(PAYLOAD, STRUCT_SIZE));
  return result;
}
// hypervisor part: end

export const physicalBuffers: Proposal = {
  id: 'physical-buffers',
  name: 'Physically addressed hypercall buffers',
  product: false,
  summary: 'calls name offsets in a buffer that privcmd allocated and whose frames it fills in',
  open: (world, process) => new PointerSession(world, new PhysicalBuffersFile(world), process),
  kernelCall: unauditedKernelCall,
  sources: markedParts('physical-buffers'),
};
