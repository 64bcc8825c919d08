/** Memory of the caller's by what a handle says, with the kernel's rights: no check but those that the caller has made. */
import type { GuestBuffer } from '../../boundary/guest-buffer.js';
import { XenError } from '../../boundary/xen-error.js';
import type { AddressSpace } from '../model/address-space.js';
import type { Frame } from '../model/physical-memory.js';
import type { Actor, Direction, World } from '../model/world.js';

/** Whatever a handle names, the way the platform's hypercalls name memory. */
export class RawBuffer implements GuestBuffer {
  readonly size: number;

  constructor(
    private readonly world: World,
    private readonly actor: Actor,
    private readonly space: AddressSpace,
    private readonly handle: bigint,
    size: number,
  ) {
    this.size = size;
  }

  copyFrom(offset: number, into: Uint8Array): void {
    this.copy(offset, into, 'read');
  }

  copyTo(offset: number, from: Uint8Array): void {
    this.copy(offset, from, 'write');
  }

  private copy(offset: number, bytes: Uint8Array, direction: Direction): void {
    const { world, actor, space } = this;
    const at = BigInt.asUintN(64, this.handle + BigInt(offset));
    if (world.platform.addressing === 'physical') world.copyPhysical(actor, at, bytes, direction);
    else world.copyVirtual(actor, space, at, bytes, direction);
  }
}

/** A range of virtual memory that the kernel has checked, and pinned where hypercalls name physical memory. */
export class AuditedBuffer implements GuestBuffer {
  constructor(
    private readonly world: World,
    private readonly actor: Actor,
    private readonly space: AddressSpace,
    private readonly address: bigint,
    readonly size: number,
  ) {}

  copyFrom(offset: number, into: Uint8Array): void {
    this.check(offset, into.length);
    this.world.copyVirtual(this.actor, this.space, this.address + BigInt(offset), into, 'read');
  }

  copyTo(offset: number, from: Uint8Array): void {
    this.check(offset, from.length);
    this.world.copyVirtual(this.actor, this.space, this.address + BigInt(offset), from, 'write');
  }

  /** For the deliberately broken forms: the same memory on somebody else's behalf. */
  on(actor: Actor): GuestBuffer {
    return new AuditedBuffer(this.world, actor, this.space, this.address, this.size);
  }

  /** For the deliberately broken forms: copies are not kept to the size. */
  withoutSize(): GuestBuffer {
    return new AuditedBuffer(this.world, this.actor, this.space, this.address, Number.MAX_SAFE_INTEGER);
  }

  private check(offset: number, length: number): void {
    if (offset + length > this.size) throw new XenError('EFAULT', 'copy leaves the buffer');
  }
}

/** Frames that were looked up once: they are gone on using, whoever they belong to by now. */
export class FrameBuffer implements GuestBuffer {
  constructor(
    private readonly world: World,
    private readonly actor: Actor,
    private readonly frames: readonly Frame[],
    private readonly base: number,
    readonly size: number,
  ) {}

  copyFrom(offset: number, into: Uint8Array): void {
    this.world.copyFrames(this.actor, this.frames, this.base + offset, into, 'read');
  }

  copyTo(offset: number, from: Uint8Array): void {
    this.world.copyFrames(this.actor, this.frames, this.base + offset, from, 'write');
  }
}
