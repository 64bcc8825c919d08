/**
 * The machine's memory as memory files: sealed against resizing, so that no client can make the host fault, and one file
 * an extent, so that a client that maps one of its frames gets at nothing but that extent.
 */
import { PAGE_SIZE } from '../abi/ids.js';
import type { Extent } from '../boundary/extent.js';
import { XenError } from '../boundary/xen-error.js';
import { createMemoryFile, libc, mapShared, SystemError } from './libc.js';

export class MemoryFileExtent implements Extent {
  readonly fd: number;
  readonly bytes: Uint8Array;
  private readonly mapping: ReturnType<typeof mapShared>;

  constructor(readonly nrFrames: number) {
    this.fd = createMemoryFile('postern-guest', nrFrames * PAGE_SIZE);
    try {
      this.mapping = mapShared(this.fd, nrFrames * PAGE_SIZE);
    } catch (error) {
      libc.close(this.fd);
      throw error;
    }
    this.bytes = this.mapping.bytes;
  }

  release(): void {
    this.mapping.unmap();
    libc.close(this.fd);
  }
}

/**
 * Makes something that takes memory, descriptors or address space of this process.
 * @throws XenError ENOMEM where the system has none left: a client can bring that about, and it is no fault of ours
 */
export function fromSystem<T>(make: () => T): T {
  try {
    return make();
  } catch (error) {
    if (error instanceof SystemError) throw new XenError('ENOMEM', error.message);
    throw error;
  }
}

export const memoryFiles = {
  allocate: (nrFrames: number): MemoryFileExtent => fromSystem(() => new MemoryFileExtent(nrFrames)),
};
