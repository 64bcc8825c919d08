/**
 * Pages that the device model has written through its own mappings, as extents in the second buffer; they count where the
 * domain's writes are being logged. The struct holds the progress: extents are done from the last to the first,
 * `nr_extents` says how many are left and `opaque` how many pages of the last of them are done.
 *
 * An extent is copied in for every 256 pages of it and checked as a whole each time.
 *
 * @spec xen:arch/x86/hvm/dm.c modified_memory: the domain's highest page can't be named
 */
import { decode } from '../../../abi/layout.js';
import {
  xen_dm_op_modified_memory_extent as extentLayout,
  xen_dm_op_modified_memory as layout,
  XEN_DMOP_modified_memory,
} from '../../../abi/xen/dm-op.js';
import type { GuestBuffer } from '../../../boundary/guest-buffer.js';
import { PREEMPTED } from '../../../boundary/operation.js';
import { XenError } from '../../../boundary/xen-error.js';
import { P2M_INVALID } from '../../p2m.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOpCall } from './dm-op-call.js';
import type { DmOperation } from './dm-operation.js';

const EXTENTS_BUFFER = 1;
const BATCH = 256;

export const modified_memory: DmOperation = {
  op: XEN_DMOP_modified_memory,
  name: 'modified_memory',
  layout,
  copyOut: 'progress',
  support: { status: 'supported' },
  run(call) {
    const { view, hvm } = call;
    const extents = call.buffers.get(EXTENTS_BUFFER);
    if (!extents) throw new XenError('EINVAL', 'no buffer with extents');
    if (!hvm.logDirty.isEnabled) return 0;
    let { nr_extents: left, opaque: done } = layout.read(view, PAYLOAD);
    if (Math.floor(extents.size / extentLayout.size) < left) throw new XenError('EINVAL', 'fewer extents than said');
    let room = BATCH;
    while (left > 0) {
      const { first, nr } = extentAt(call, extents, left - 1);
      if (done >= nr) throw new XenError('EINVAL', 'more pages done than there are');
      const count = Math.min(nr - done, room);
      markWritten(call, first + done, count);
      room -= count;
      done += count;
      if (done === nr) {
        left--;
        done = 0;
      }
      if (room > 0) continue;
      room = BATCH;
      if (left === 0 || !call.preemption.due()) continue;
      layout.fields.nr_extents.set(view, PAYLOAD, left);
      layout.fields.opaque.set(view, PAYLOAD, done);
      return PREEMPTED;
    }
    return 0;
  },
};

/** @throws XenError EFAULT, EINVAL */
function extentAt(call: DmOpCall, extents: GuestBuffer, index: number): { first: number; nr: number } {
  const bytes = new Uint8Array(extentLayout.size);
  extents.copyFrom(index * extentLayout.size, bytes);
  const { nr, pad, first_pfn } = decode(extentLayout, bytes);
  if (pad !== 0) throw new XenError('EINVAL', 'padding is not zero');
  if (nr === 0 || first_pfn + BigInt(nr) > BigInt(Math.max(call.target.p2m.maxMappedGfn, 0))) {
    throw new XenError('EINVAL', `no memory at extent ${index}`);
  }
  return { first: Number(first_pfn), nr };
}

function markWritten(call: DmOpCall, first: number, count: number): void {
  const { p2m } = call.target;
  for (let gfn = first; gfn < first + count; gfn++) {
    if (p2m.mfn(gfn) !== P2M_INVALID) call.hvm.logDirty.markDirty(gfn);
  }
}
