/**
 * Three arguments: op, struct, and an array of ranges that privcmd fills in anew for every call from what the platform
 * says is valid for the caller. Where hypercalls name virtual memory that is one range, 0 to the end of user space; where
 * they name physical memory, it is every frame the process has.
 */

import type { ModelProcess } from '../model/process.js';
import type { World } from '../model/world.js';
import { execute } from '../operations.js';
import type { Proposal } from '../proposal.js';
import { RawBuffer } from './copying.js';
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
import { type AllowedRange, everything, RANGE_BYTES, requireAllowed, withRanges } from './ranges.js';

// kernel part: begin
class RestrictionArrayFile implements PointerFile {
  restrictedTo: number | undefined;

  constructor(private readonly world: World) {}

  dmOp(process: ModelProcess, domid: number, address: bigint): number {
    requireUser(this.world, address, 48);
    const ranges = everything(this.world, process.space);
    this.world.kernelAllocates(ranges.length * RANGE_BYTES);
    return hypercall(this.world, ranges, process, domid, address);
  }

  handleFor(process: ModelProcess, address: bigint, isHonest: boolean): bigint {
    return nameMemory(this.world, process.space, address, isHonest);
  }
}
// kernel part: end

// hypervisor part: begin
function hypercall(
  world: World,
  ranges: readonly AllowedRange[],
  process: ModelProcess,
  domid: number,
  address: bigint,
): number {
  const actor = actorOf(process);
  const struct = fetchStruct(world, process, address);
  const raw = (handle: bigint, size: number) => new RawBuffer(world, actor, process.space, handle, size);
  const checked = (handle: bigint, size: number) => {
    requireAllowed(world, ranges, handle, size);
    return raw(handle, size);
  };
  const block = (index: number, make: typeof raw) => {
    const found = handleOf(struct, index);
    return found && make(found.handle, found.size);
  };
  const get = (index: number) => block(index, checked);
  const result = execute(world, actor, domid, struct, { get, nested: checked, unchecked: (i) => block(i, raw) });
  returnStruct(world, process, address, struct);
  return result;
}
// hypervisor part: end

export const restrictionArray: Proposal = {
  id: 'restriction-array',
  name: 'Restriction array as a third argument',
  product: false,
  summary: 'privcmd adds to every call the ranges that are valid on the platform; the hypervisor keeps copies to them',
  open: (world, process) => new PointerSession(world, new RestrictionArrayFile(world), process),
  kernelCall: unauditedKernelCall,
  sources: withRanges('restriction-array'),
};
