/** A program in dom0 and its memory. What it writes itself goes through its own, user, rights. */
import { PAGE_SIZE } from '../../abi/ids.js';
import type { AddressSpace } from './address-space.js';
import type { Frame, Owner, PhysicalMemory } from './physical-memory.js';

const PAGE = BigInt(PAGE_SIZE);

export class ModelProcess {
  private next: bigint;

  constructor(
    readonly pid: number,
    /** Whose frames these are; also on whose behalf the kernel and the hypervisor act. */
    readonly owner: Owner,
    readonly space: AddressSpace,
    private readonly memory: PhysicalMemory,
  ) {
    this.next = space.platform.userBase;
  }

  /** Maps fresh pages. @returns their address */
  allocate(nrPages: number, label: string): bigint {
    const address = this.next;
    for (let i = 0; i < nrPages; i++) this.mapFresh(address + BigInt(i) * PAGE, label);
    this.next = address + BigInt(nrPages + 1) * PAGE;
    return address;
  }

  mapFresh(address: bigint, label: string): Frame {
    const frame = this.memory.allocate(this.owner, label);
    this.space.map(address, frame);
    return frame;
  }

  /** munmap of one page: its frame is free for anybody. */
  unmap(address: bigint): Frame | undefined {
    const frame = this.space.unmap(address);
    if (frame) this.memory.free(frame);
    return frame;
  }

  write(address: bigint, bytes: Uint8Array): void {
    this.each(address, bytes.length, (frame, offset, at, length) => {
      frame.bytes.set(bytes.subarray(at, at + length), offset);
    });
  }

  read(address: bigint, size: number): Uint8Array {
    const out = new Uint8Array(size);
    this.each(address, size, (frame, offset, at, length) => {
      out.set(frame.bytes.subarray(offset, offset + length), at);
    });
    return out;
  }

  writeU64(address: bigint, value: bigint): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setBigUint64(0, BigInt.asUintN(64, value), true);
    this.write(address, bytes);
  }

  private each(address: bigint, size: number, visit: (f: Frame, offset: number, at: number, n: number) => void): void {
    for (let at = 0; at < size; ) {
      const va = address + BigInt(at);
      const offset = Number(va % PAGE);
      const length = Math.min(size - at, PAGE_SIZE - offset);
      const mapping = this.space.walkUser(va);
      if (!mapping) throw new Error(`the program has nothing at 0x${va.toString(16)}: the attack is wrong`);
      visit(mapping.frame, offset, at, length);
      at += length;
    }
  }
}
