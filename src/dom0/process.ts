/**
 * The calling process as a kernel sees it. Everything here is hostile; a driver copies what it needs once, and decides
 * on the copy.
 */
import type { Mapping } from '../boundary/extent.js';
import type { GuestMemory } from '../boundary/guest-buffer.js';

/** User memory by address. Addresses are doubles: exact wherever `accessOk` lets them through. */
export interface UserMemory {
  /** copy_from_user. @throws XenError EFAULT */
  copyIn(address: number, into: Uint8Array): void;
  /** copy_to_user. @throws XenError EFAULT */
  copyOut(address: number, from: Uint8Array): void;
  /** Pins pages for writing, as get_user_pages(FOLL_WRITE) does. @throws XenError EFAULT */
  pinForWrite(address: number, size: number): void;
}

/** What a process's address space has at some place, for mapping foreign frames there. */
export type AreaState =
  /** not (wholly) an mmap of privcmd */
  | 'none'
  /** an mmap of privcmd nothing was mapped into yet, asked for as a whole */
  | 'fresh'
  /** the same, but only a part from its start was asked for */
  | 'fresh-part'
  /** the same, but from elsewhere than its start */
  | 'fresh-inside'
  /** unmapped pages of an area that was mapped before */
  | 'hole'
  /** pages that are mapped already */
  | 'mapped';

export interface AddressSpace {
  area(address: number, nrPages: number): AreaState;
  /**
   * Maps frames over an area's pages, with the protection the area was mmapped with, once the call succeeds. Takes the
   * mapping over: it is released when the process has unmapped it, or at once where this or the call fails.
   */
  mapFrames(address: number, mapping: Mapping): void;
}

export interface Process {
  readonly pid: number;
  readonly memory: UserMemory;
  readonly addressSpace: AddressSpace;
  /** Memory that hypercall arguments may point to. */
  readonly hypercallMemory: GuestMemory;
}

/** Where user space ends, which is all that the audit needs to know of a platform. */
export interface Platform {
  /** True where the whole range lies in user space. @spec linux:access_ok */
  accessOk(address: number, size: number): boolean;
}

/** x86-64, 4-level paging. @spec linux:TASK_SIZE_MAX */
const TASK_SIZE_MAX = 0x7fff_ffff_f000;

export const X86_64: Platform = {
  accessOk: (address, size) => size <= TASK_SIZE_MAX && address <= TASK_SIZE_MAX - size,
};
