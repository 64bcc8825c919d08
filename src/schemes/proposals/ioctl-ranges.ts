/**
 * Ranges set ahead by an ioctl, before the device model drops its privileges, for the whole domain; a stable bit of the
 * call says whether they apply. The bit is privcmd's to set, in a register, and calls of the kernel's own don't have it.
 * As the minutes have it, all device models of a domain are taken to have the same layout: the last to set ranges wins.
 */
import { XenError } from '../../boundary/xen-error.js';
import type { ModelProcess } from '../model/process.js';
import type { World } from '../model/world.js';
import { execute } from '../operations.js';
import { attempt, type DmCall, type Proposal, type Result } from '../proposal.js';
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
import { type AllowedRange, everything, requireAllowed, withRanges } from './ranges.js';

/** The domain's ranges, as the hypervisor keeps them. */
interface DomainRanges {
  allowed: readonly AllowedRange[];
}

// kernel part: begin
class IoctlRangesFile implements PointerFile {
  restrictedTo: number | undefined;

  constructor(
    private readonly world: World,
    private readonly ranges: DomainRanges,
  ) {}

  /** The ioctl: only before privileges are dropped. What the program has by then is what calls may use. */
  declare(process: ModelProcess): number {
    if (this.restrictedTo !== undefined) throw new XenError('EPERM', 'privileges have been dropped');
    this.ranges.allowed = everything(this.world, process.space);
    return 0;
  }

  dmOp(process: ModelProcess, domid: number, address: bigint): number {
    requireUser(this.world, address, 48);
    const apply = this.restrictedTo !== undefined;
    return hypercall(this.world, apply ? this.ranges.allowed : undefined, process, domid, address);
  }

  handleFor(process: ModelProcess, address: bigint, isHonest: boolean): bigint {
    return nameMemory(this.world, process.space, address, isHonest);
  }
}
// kernel part: end

// hypervisor part: begin
function hypercall(
  world: World,
  allowed: readonly AllowedRange[] | undefined,
  process: ModelProcess,
  domid: number,
  address: bigint,
): number {
  const actor = actorOf(process);
  const struct = fetchStruct(world, process, address);
  const raw = (handle: bigint, size: number) => new RawBuffer(world, actor, process.space, handle, size);
  const checked = (handle: bigint, size: number) => {
    if (allowed) requireAllowed(world, allowed, handle, size);
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

const domains = new WeakMap<World, DomainRanges>();

function rangesOfDomain(world: World): DomainRanges {
  const ranges = domains.get(world) ?? { allowed: [] };
  domains.set(world, ranges);
  return ranges;
}

export const ioctlRanges: Proposal = {
  id: 'ioctl-ranges',
  name: 'Ranges set by an ioctl before privileges are dropped',
  product: false,
  summary:
    'ranges are set once for the domain; a stable bit of the call says that they apply; the kernel’s calls are exempt',
  open: (world, process) => new PointerSession(world, new IoctlRangesFile(world, rangesOfDomain(world)), process),
  kernelCall: unauditedKernelCall,
  sources: withRanges('ioctl-ranges'),
};

/** Without the bit, the ranges apply to every call of the domain, the kernel's too. */
export const ioctlRangesWithoutBit: Proposal = {
  ...ioctlRanges,
  id: 'ioctl-ranges/no-bit',
  name: 'Ranges by ioctl, and no bit to exempt the kernel',
  brokenFormOf: 'ioctl-ranges',
  kernelCall(world: World, call: DmCall): Result {
    const { allowed } = rangesOfDomain(world);
    const checked = attempt(() => {
      for (const { address, size } of call.blocks ?? []) requireAllowed(world, allowed, address, Number(size));
      return 0;
    });
    return checked.errno ? checked : unauditedKernelCall(world, call);
  },
};
