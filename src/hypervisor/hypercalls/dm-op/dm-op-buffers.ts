/**
 * The buffers of one DM operation. The first is copied in once, into zeroed memory of the largest operation's size, and
 * only that copy is ever looked at; further ones are fetched by index, and one that isn't there is `undefined`, which an
 * operation has to do something about (XSA-506).
 *
 *     first buffer   0 op   4 pad   8 payload ………… 32
 *
 * Everything in the buffers is the caller's, who may change the original at any time.
 *
 * @spec xen:arch/x86/hvm/dm.c dm_op, _raw_copy_from_guest_buf_offset
 * @deviates from the minutes, as shipped Xen does: more than two buffers are refused and not ignored, and a first buffer
 * shorter than its operation's struct is refused and not read as if it went on with zeros
 */
import { xen_dm_op } from '../../../abi/xen/dm-op.js';
import type { GuestBuffer } from '../../../boundary/guest-buffer.js';
import { XenError } from '../../../boundary/xen-error.js';

/** Where an operation's own struct begins. */
export const PAYLOAD = xen_dm_op.fields.u.offset;

export const MAX_BUFFERS = 2;

/** The copy, and views of its parts: kept and used again, because making views costs more than most operations. */
class WorkingCopy {
  readonly bytes = new Uint8Array(xen_dm_op.size);
  readonly view = new DataView(this.bytes.buffer);
  private readonly prefixes: Uint8Array[] = [];
  private readonly payloads: Uint8Array[] = [];

  constructor() {
    for (let size = 0; size <= this.bytes.length; size++) this.prefixes.push(this.bytes.subarray(0, size));
    for (let size = 0; size <= this.bytes.length - PAYLOAD; size++) {
      this.payloads.push(this.bytes.subarray(PAYLOAD, PAYLOAD + size));
    }
  }

  prefix(size: number): Uint8Array {
    return this.prefixes[size]!;
  }

  payload(size: number): Uint8Array {
    return this.payloads[size]!;
  }
}

/** Copies that no call uses. One a call in progress at most are ever made. */
const idle: WorkingCopy[] = [];

export class DmOpBuffers {
  private copy: WorkingCopy | undefined;

  constructor(private readonly buffers: readonly GuestBuffer[]) {}

  /** Copies the first buffer in. @throws XenError EFAULT */
  open(): void {
    const first = this.buffers[0];
    if (!first || first.size < PAYLOAD) throw new XenError('EFAULT', 'the first buffer is shorter than a header');
    const copy = idle.pop() ?? new WorkingCopy();
    this.copy = copy;
    const given = Math.min(first.size, copy.bytes.length);
    // Zeroed memory with the caller's bytes at its start: only what they leave has to be zeroed.
    if (given < copy.bytes.length) copy.bytes.fill(0, given);
    first.copyFrom(0, copy.prefix(given));
  }

  /** Lets go of the copy. The buffers can't be used after it. */
  close(): void {
    if (this.copy) idle.push(this.copy);
    this.copy = undefined;
  }

  get count(): number {
    return this.buffers.length;
  }

  /** The working copy of the first buffer, header included. */
  get view(): DataView {
    return this.copy!.view;
  }

  /** How much of a payload the caller has given. */
  get payloadSize(): number {
    return this.buffers[0]!.size - PAYLOAD;
  }

  /** A further buffer, if the caller has given one. */
  get(index: number): GuestBuffer | undefined {
    return this.buffers[index];
  }

  /** Copies the first `size` bytes of the payload back. @throws XenError EFAULT */
  copyPayloadOut(size: number): void {
    this.buffers[0]!.copyTo(PAYLOAD, this.copy!.payload(size));
  }
}
