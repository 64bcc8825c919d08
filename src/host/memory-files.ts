/**
 * The machine's memory as memory files: sealed against resizing, so that no client can make the host fault, and one file
 * an extent, so that a client that maps one of its frames gets at nothing but that extent.
 */
import { PAGE_SIZE } from '../abi/ids.js';
import type { Extent } from '../boundary/extent.js';
import { createMemoryFile, libc, mapShared } from './libc.js';

export class MemoryFileExtent implements Extent {
  readonly fd: number;
  readonly bytes: Uint8Array;
  private readonly mapping: ReturnType<typeof mapShared>;

  constructor(readonly nrFrames: number) {
    this.fd = createMemoryFile('postern-guest', nrFrames * PAGE_SIZE);
    this.mapping = mapShared(this.fd, nrFrames * PAGE_SIZE);
    this.bytes = this.mapping.bytes;
  }

  release(): void {
    this.mapping.unmap();
    libc.close(this.fd);
  }
}

export const memoryFiles = { allocate: (nrFrames: number): MemoryFileExtent => new MemoryFileExtent(nrFrames) };
