/** Lists of ranges that a hypervisor is told: of virtual addresses, or of frames where hypercalls name physical memory. */
import { XenError } from '../../boundary/xen-error.js';
import type { AddressSpace } from '../model/address-space.js';
import type { World } from '../model/world.js';
import { markedParts, type Proposal } from '../proposal.js';

export interface AllowedRange {
  readonly start: bigint;
  readonly end: bigint;
}

/** What an entry costs the one who keeps the list. */
export const RANGE_BYTES = 16;

// both parts share these: begin
export function isAllowed(ranges: readonly AllowedRange[], start: bigint, size: number): boolean {
  const end = start + BigInt(size);
  return ranges.some((range) => start >= range.start && end <= range.end);
}

export function requireAllowed(world: World, ranges: readonly AllowedRange[], start: bigint, size: number): void {
  world.scheduler.point('hypervisor compares a range with those it was told');
  if (!isAllowed(ranges, start, size)) {
    throw new XenError('EFAULT', `${size} bytes at 0x${start.toString(16)} are in no allowed range`);
  }
}

/** A range of virtual memory as the platform's hypercalls name it: itself, or the frames it has at this moment. */
export function rangesOf(world: World, space: AddressSpace, address: bigint, size: number): AllowedRange[] {
  return told(world, listRanges(world, space, address, size));
}

function told(world: World, ranges: AllowedRange[]): AllowedRange[] {
  world.meter.ranges += ranges.length;
  return ranges;
}

function listRanges(world: World, space: AddressSpace, address: bigint, size: number): AllowedRange[] {
  if (world.platform.addressing === 'virtual') return [{ start: address, end: address + BigInt(size) }];
  const ranges: AllowedRange[] = [];
  const end = address + BigInt(size);
  for (let at = address; at < end; at += 4096n - (at % 4096n)) {
    const mapping = space.walkUser(at);
    if (!mapping) throw new XenError('EFAULT', `nothing is mapped at 0x${at.toString(16)}`);
    const start = world.physicalOf(space, at);
    const length = 4096n - (at % 4096n) < end - at ? 4096n - (at % 4096n) : end - at;
    ranges.push({ start, end: start + length });
  }
  return ranges;
}

/** All that a process may name: user space, or every frame it has. */
export function everything(world: World, space: AddressSpace): AllowedRange[] {
  if (world.platform.addressing === 'virtual') return told(world, [{ start: 0n, end: world.platform.userEnd }]);
  const frames = space.userFrames();
  return told(
    world,
    frames.map(({ pfn }) => ({ start: BigInt(pfn) * 4096n, end: BigInt(pfn + 1) * 4096n })),
  );
}
// both parts share these: end

/** The parts of a proposal that keeps or fills in lists of ranges: the list's own code counts as the hypervisor's. */
export function withRanges(name: string): Proposal['sources'] {
  const { kernel, hypervisor } = markedParts(name);
  const shared = {
    file: 'src/schemes/proposals/ranges.ts',
    from: '// both parts share these: begin',
    to: '// both parts share these: end',
  };
  return { kernel, hypervisor: [...hypervisor, shared] };
}
