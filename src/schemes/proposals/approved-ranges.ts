/**
 * Pre-approved memory: through a channel of its own the kernel tells the hypervisor which user memory DM ops may use, and
 * a flag at a fixed place in the op says that this one is to keep to it. The program sets the flag; privcmd, which knows
 * that one place and nothing else of the struct, sees to it that it is set. The hypervisor keeps one list for dom0.
 */
import { XenError } from '../../boundary/xen-error.js';
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
import { type AllowedRange, RANGE_BYTES, rangesOf, requireAllowed, withRanges } from './ranges.js';

const FLAG_RESTRICTED = 1;

// kernel part: begin
class ApprovedRangesFile implements PointerFile {
  readonly flagInStruct = FLAG_RESTRICTED;
  restrictedTo: number | undefined;

  constructor(
    private readonly world: World,
    private readonly list: AllowedRange[],
  ) {}

  declare(process: ModelProcess, address: bigint, size: number): number {
    requireUser(this.world, address, size);
    approve(this.world, this.list, rangesOf(this.world, process.space, address, size));
    return 0;
  }

  dmOp(process: ModelProcess, domid: number, address: bigint): number {
    const { world } = this;
    requireUser(world, address, 48);
    if (this.restrictedTo !== undefined) this.requireFlag(process, address);
    return hypercall(world, this.list, process, domid, address);
  }

  handleFor(process: ModelProcess, address: bigint, isHonest: boolean): bigint {
    return nameMemory(this.world, process.space, address, isHonest);
  }

  private requireFlag(process: ModelProcess, address: bigint): void {
    const word = new Uint8Array(4);
    this.world.copyVirtual(actorOf(process), process.space, address + 4n, word, 'read');
    if (((word[0] as number) & FLAG_RESTRICTED) === 0) throw new XenError('EPERM', 'the op does not say "restricted"');
  }
}
// kernel part: end

// hypervisor part: begin
/** The other channel. Nothing was said of taking approvals back, or of how many there may be. */
function approve(world: World, list: AllowedRange[], ranges: readonly AllowedRange[]): void {
  world.kernelAllocates(ranges.length * RANGE_BYTES);
  list.push(...ranges);
}

function hypercall(
  world: World,
  list: readonly AllowedRange[],
  process: ModelProcess,
  domid: number,
  address: bigint,
): number {
  const actor = actorOf(process);
  const struct = fetchStruct(world, process, address, true);
  const isRestricted = ((struct[4] as number) & FLAG_RESTRICTED) !== 0;
  struct.fill(0, 4, 8);
  const raw = (handle: bigint, size: number) => new RawBuffer(world, actor, process.space, handle, size);
  const checked = (handle: bigint, size: number) => {
    if (isRestricted) requireAllowed(world, list, handle, size);
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

const lists = new WeakMap<World, AllowedRange[]>();

export const approvedRanges: Proposal = {
  id: 'approved-ranges',
  name: 'Pre-approved ranges and a flag',
  product: false,
  summary: 'the hypervisor is told the allowed ranges through another channel; a flag in the op says to keep to them',
  open(world, process) {
    const list = lists.get(world) ?? [];
    lists.set(world, list);
    return new PointerSession(world, new ApprovedRangesFile(world, list), process);
  },
  kernelCall: unauditedKernelCall,
  sources: withRanges('approved-ranges'),
};
