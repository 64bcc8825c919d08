/**
 * Memory that a process has mapped from /dev/xen/hypercall: shared with the host, so that the pointers in hypercall
 * arguments can be followed. The process can change it at any time; it is only ever copied. A pointer to anywhere else
 * is EFAULT.
 */
import { PAGE_SIZE } from '../abi/ids.js';
import type { GuestMemory } from '../boundary/guest-buffer.js';
import { XenError } from '../boundary/xen-error.js';
import { createMemoryFile, mapShared } from './libc.js';
import { fromSystem } from './memory-files.js';

/** The most pages one process may have mapped, 64 MiB: libxencall's biggest arrays are a few. */
const MAX_PAGES = 16384;
const MAX_AREAS = 1024;

interface Area {
  readonly start: number;
  readonly end: number;
  readonly bytes: Uint8Array;
  readonly unmap: () => void;
}

export class HypercallMemory implements GuestMemory {
  private areas: Area[] = [];
  private nrPages = 0;

  /**
   * Shares new memory that the process maps at `address`. Whatever was known at those addresses is gone, as a mapping
   * over it would have it.
   * @returns the memory file's descriptor, the caller's to close
   */
  map(address: number, nrPages: number): number {
    this.unmap(address, nrPages);
    if (nrPages <= 0 || this.nrPages + nrPages > MAX_PAGES || this.areas.length >= MAX_AREAS) {
      throw new XenError('ENOMEM', `${this.nrPages} pages of hypercall memory are mapped, ${nrPages} more asked for`);
    }
    const size = nrPages * PAGE_SIZE;
    const fd = fromSystem(() => createMemoryFile('postern-hypercall', size));
    const { bytes, unmap } = fromSystem(() => mapShared(fd, size));
    this.areas.push({ start: address, end: address + size, bytes, unmap });
    this.nrPages += nrPages;
    return fd;
  }

  unmap(address: number, nrPages: number): void {
    const end = address + nrPages * PAGE_SIZE;
    this.areas = this.areas.filter((area) => {
      if (area.start >= end || area.end <= address) return true;
      this.nrPages -= area.bytes.length / PAGE_SIZE;
      area.unmap();
      return false;
    });
  }

  release(): void {
    for (const area of this.areas) area.unmap();
    this.areas = [];
    this.nrPages = 0;
  }

  copyFrom(address: bigint, into: Uint8Array): void {
    if (into.length > 0) into.set(this.find(address, into.length));
  }

  copyTo(address: bigint, from: Uint8Array): void {
    if (from.length > 0) this.find(address, from.length).set(from);
  }

  private find(address: bigint, length: number): Uint8Array {
    const start = Number(address);
    for (const area of this.areas) {
      if (start < area.start || start + length > area.end) continue;
      return area.bytes.subarray(start - area.start, start - area.start + length);
    }
    throw new XenError('EFAULT', `0x${address.toString(16)} is not in memory mapped from /dev/xen/hypercall`);
  }
}
