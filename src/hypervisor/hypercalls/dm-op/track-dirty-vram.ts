/**
 * Which pages of a display's memory the guest has written since the last call, as a bitmap in the second buffer. The
 * first call on a range says all; 0 pages end the tracking.
 * @spec xen:arch/x86/hvm/dm.c track_dirty_vram, xen:arch/x86/mm/hap/hap.c hap_track_dirty_vram
 */
import { xen_dm_op_track_dirty_vram as layout, XEN_DMOP_track_dirty_vram } from '../../../abi/xen/dm-op.js';
import { PREEMPTED } from '../../../boundary/operation.js';
import { XenError } from '../../../boundary/xen-error.js';
import type { VramScan } from '../../log-dirty.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOperation } from './dm-operation.js';

/** 1 GiB. */
const MAX_FRAMES = 0x40000;
const BITMAP_BUFFER = 1;

export const track_dirty_vram: DmOperation = {
  op: XEN_DMOP_track_dirty_vram,
  name: 'track_dirty_vram',
  layout,
  copyOut: 'never',
  support: { status: 'supported' },
  run(call) {
    const { nr, pad, first_pfn } = layout.read(call.view, PAYLOAD);
    const out = call.buffers.get(BITMAP_BUFFER);
    if (pad !== 0) throw new XenError('EINVAL', 'padding is not zero');
    if (!out) throw new XenError('EINVAL', 'no buffer for the bitmap');
    if (nr > MAX_FRAMES) throw new XenError('EINVAL', `${nr} frames to track`);
    if (call.target.isDying) throw new XenError('ESRCH', `domain ${call.target.domid} is dying`);
    if (call.target.nrVcpus === 0) throw new XenError('EINVAL', 'the domain has no vCPU yet');
    if (Math.ceil(nr / 8) > out.size) throw new XenError('EINVAL', 'the buffer is too small for the bitmap');
    call.progress ??= call.hvm.logDirty.trackVram(first_pfn, nr);
    const scan = call.progress as VramScan;
    if (!scan.step(call.preemption)) return PREEMPTED;
    if (nr > 0) out.copyTo(0, scan.bitmap);
    return 0;
  },
};
