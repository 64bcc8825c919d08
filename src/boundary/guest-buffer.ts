/**
 * Guest handles: memory of the caller of a hypercall, reached only by copying, never as a live view. The caller can
 * change it at any time, so whatever an operation decides on must come from one copy.
 */

/** One guest handle with its size, as the kernel below has audited it. Offsets and sizes are in bytes. */
export interface GuestBuffer {
  readonly size: number;
  /**
   * Copies `into.length` bytes starting at `offset` of the buffer.
   * @throws XenError EFAULT where the range leaves the buffer or the memory cannot be read
   */
  copyFrom(offset: number, into: Uint8Array): void;
  /** Copies `from` to `offset` of the buffer. @throws XenError EFAULT likewise */
  copyTo(offset: number, from: Uint8Array): void;
}

/** The caller's address space, for hypercalls whose arguments are addresses (never reachable by a restricted caller). */
export interface GuestMemory {
  /** @throws XenError EFAULT */
  copyFrom(address: bigint, into: Uint8Array): void;
  /** @throws XenError EFAULT */
  copyTo(address: bigint, from: Uint8Array): void;
}
