/**
 * The DM op hypercall as dom0's kernel, or an unrestricted process, makes it: buffers named by address and size. What a
 * restricted process passes reaches the operations as buffers that its kernel has audited.
 * @spec xen:common/dm.c do_dm_op
 */
import { xen_dm_op_buf } from '../../abi/xen/dm-op.js';
import type { GuestBuffer, GuestMemory } from '../../boundary/guest-buffer.js';
import { PREEMPTED } from '../../boundary/operation.js';
import { XenError } from '../../boundary/xen-error.js';
import type { Call, Steps } from './call.js';
import { beginDmOp } from './dm-op/dm-op.js';
import { MAX_BUFFERS } from './dm-op/dm-op-buffers.js';
import { argument, readGuest, u32Argument } from './guest-struct.js';

export function dm_op(call: Call, args: readonly bigint[]): Steps {
  const domid = u32Argument(args, 0) & 0xffff;
  const nrBuffers = u32Argument(args, 1);
  if (nrBuffers > MAX_BUFFERS) throw new XenError('E2BIG', `${nrBuffers} buffers`);
  const list = argument(args, 2);
  const buffers: GuestBuffer[] = [];
  for (let i = 0; i < nrBuffers; i++) {
    const { h, size } = readGuest(call.memory, list + BigInt(i * xen_dm_op_buf.size), xen_dm_op_buf);
    buffers.push(new AddressedBuffer(call.memory, h, size));
  }
  return runToEnd(call, domid, buffers);
}

function* runToEnd(call: Call, domid: number, buffers: readonly GuestBuffer[]): Steps {
  const operation = beginDmOp(call.hypervisor, call.caller, domid, buffers);
  for (;;) {
    const result = operation.run(call.preemption);
    call.name = `dm_op/${operation.name ?? 'none'}`;
    if (result !== PREEMPTED) return result;
    yield;
  }
}

class AddressedBuffer implements GuestBuffer {
  readonly size: number;

  constructor(
    private readonly memory: GuestMemory,
    private readonly address: bigint,
    size: bigint,
  ) {
    this.size = Number(size);
  }

  copyFrom(offset: number, into: Uint8Array): void {
    this.memory.copyFrom(this.at(offset, into.length), into);
  }

  copyTo(offset: number, from: Uint8Array): void {
    this.memory.copyTo(this.at(offset, from.length), from);
  }

  private at(offset: number, length: number): bigint {
    const address = this.address + BigInt(offset);
    if (offset + length > this.size || address + BigInt(length) > 1n << 64n) {
      throw new XenError('EFAULT', 'access beyond a buffer');
    }
    return address;
  }
}
