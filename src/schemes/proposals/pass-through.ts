/** Today's (2016): privcmd passes whatever it is given, and the hypervisor follows every pointer with the kernel's rights. */

import type { ModelProcess } from '../model/process.js';
import type { World } from '../model/world.js';
import { execute } from '../operations.js';
import { markedParts, type Proposal } from '../proposal.js';
import { RawBuffer } from './copying.js';
import { unauditedKernelCall } from './kernel-call.js';
import {
  actorOf,
  fetchStruct,
  handleOf,
  nameMemory,
  type PointerFile,
  PointerSession,
  returnStruct,
} from './pointer-session.js';

// kernel part: begin
class PassThroughFile implements PointerFile {
  readonly isUnrestrictable = true;
  restrictedTo: number | undefined;

  constructor(private readonly world: World) {}

  dmOp(process: ModelProcess, domid: number, address: bigint): number {
    return hypercall(this.world, process, domid, address);
  }

  handleFor(process: ModelProcess, address: bigint, isHonest: boolean): bigint {
    return nameMemory(this.world, process.space, address, isHonest);
  }
}
// kernel part: end

// hypervisor part: begin
function hypercall(world: World, process: ModelProcess, domid: number, address: bigint): number {
  const actor = actorOf(process);
  const struct = fetchStruct(world, process, address);
  const raw = (handle: bigint, size: number) => new RawBuffer(world, actor, process.space, handle, size);
  const get = (index: number) => {
    const block = handleOf(struct, index);
    return block && raw(block.handle, block.size);
  };
  const result = execute(world, actor, domid, struct, { get, nested: raw, unchecked: get });
  returnStruct(world, process, address, struct);
  return result;
}
// hypervisor part: end

export const passThrough: Proposal = {
  id: 'pass-through',
  name: 'Unaudited pass-through',
  product: false,
  summary: 'privcmd passes every hypercall on as it is; pointers are followed with the kernel’s rights',
  open: (world, process) => new PointerSession(world, new PassThroughFile(world), process),
  kernelCall: unauditedKernelCall,
  sources: markedParts('pass-through'),
};
