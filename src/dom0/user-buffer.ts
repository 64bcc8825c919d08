/** A range of a process's memory as a guest handle: what privcmd passes on after its audit. */
import type { GuestBuffer } from '../boundary/guest-buffer.js';
import { XenError } from '../boundary/xen-error.js';
import type { UserMemory } from './process.js';

export class UserBuffer implements GuestBuffer {
  constructor(
    private readonly memory: UserMemory,
    readonly address: number,
    readonly size: number,
  ) {}

  copyFrom(offset: number, into: Uint8Array): void {
    this.check(offset, into.length);
    this.memory.copyIn(this.address + offset, into);
  }

  copyTo(offset: number, from: Uint8Array): void {
    this.check(offset, from.length);
    this.memory.copyOut(this.address + offset, from);
  }

  private check(offset: number, length: number): void {
    if (offset + length > this.size) throw new XenError('EFAULT', 'copy leaves the audited buffer');
  }
}
