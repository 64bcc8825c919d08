/** One process's page tables: a user half of its own, a kernel half that all share. */
import { PAGE_SIZE } from '../../abi/ids.js';
import type { Frame, PhysicalMemory } from './physical-memory.js';
import type { ModelPlatform } from './platform.js';

const PAGE = BigInt(PAGE_SIZE);

export interface Mapping {
  readonly frame: Frame;
  readonly writable: boolean;
}

/** What privcmd pinned for one call: translations that stay as they were. */
type Pins = Map<bigint, Mapping>;

export class AddressSpace {
  private readonly user = new Map<bigint, Mapping>();
  private pins: Pins = new Map();

  constructor(
    readonly platform: ModelPlatform,
    private readonly kernel: Map<bigint, Mapping>,
    private readonly memory: PhysicalMemory,
  ) {}

  map(address: bigint, frame: Frame, writable = true): void {
    this.user.set(address / PAGE, { frame, writable });
  }

  unmap(address: bigint): Frame | undefined {
    const mapping = this.user.get(address / PAGE);
    this.user.delete(address / PAGE);
    return mapping?.frame;
  }

  /** As the hardware walks the tables in kernel mode: either half. */
  walk(address: bigint): Mapping | undefined {
    const page = address / PAGE;
    return this.user.get(page) ?? this.kernel.get(page);
  }

  walkUser(address: bigint): Mapping | undefined {
    return this.user.get(address / PAGE);
  }

  pin(address: bigint): boolean {
    const mapping = this.user.get(address / PAGE);
    if (!mapping?.writable) return false;
    if (!this.pins.has(address / PAGE)) {
      this.pins.set(address / PAGE, mapping);
      mapping.frame.pins++;
    }
    return true;
  }

  pinned(address: bigint): Mapping | undefined {
    return this.pins.get(address / PAGE);
  }

  unpinAll(): void {
    const { pins } = this;
    this.pins = new Map();
    for (const { frame } of pins.values()) this.memory.unpin(frame);
  }

  /** Frames of the user half, for whoever lists a process's memory. */
  userFrames(): Frame[] {
    return [...this.user.values()].map(({ frame }) => frame);
  }
}
