/**
 * Moves pages to other guest frames, one after the other from the lowest; what was there is freed. The struct holds the
 * progress: what is left to move. What was moved before a failure stays moved. Counts are taken in 16 bits, as the
 * operation below it counts in Xen: of 0x10002 pages 2 are moved, and the call succeeds.
 * @spec xen:arch/x86/hvm/dm.c XEN_DMOP_relocate_memory, xen:common/memory.c xenmem_add_to_physmap
 */
import { xen_dm_op_relocate_memory as layout, XEN_DMOP_relocate_memory } from '../../../abi/xen/dm-op.js';
import { PREEMPTED } from '../../../boundary/operation.js';
import { XenError } from '../../../boundary/xen-error.js';
import { gfnOf, INVALID_GFN, movePage } from '../../physmap.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOperation } from './dm-operation.js';

const PREEMPT_INTERVAL = 16;

export const relocate_memory: DmOperation = {
  op: XEN_DMOP_relocate_memory,
  name: 'relocate_memory',
  layout,
  copyOut: 'progress',
  support: { status: 'supported' },
  run(call) {
    const { view, target } = call;
    const { size, pad, src_gfn, dst_gfn } = layout.read(view, PAYLOAD);
    if (pad !== 0) throw new XenError('EINVAL', 'padding is not zero');
    if (dst_gfn === INVALID_GFN) throw new XenError('EINVAL', 'the invalid frame');
    const count = size & 0xffff;
    const nr = BigInt(count);
    if (dst_gfn + nr > INVALID_GFN || src_gfn + nr > INVALID_GFN) throw new XenError('EOVERFLOW', 'the range wraps');
    for (let done = 0; done < count; ) {
      if (target.isDying) throw new XenError('EINVAL', `domain ${target.domid} is dying`);
      movePage(target, gfnOf(src_gfn + BigInt(done)), gfnOf(dst_gfn + BigInt(done)));
      done++;
      const pause = done === count ? count !== size : done % PREEMPT_INTERVAL === 0 && call.preemption.due();
      if (!pause) continue;
      layout.fields.size.set(view, PAYLOAD, size - done);
      layout.fields.src_gfn.set(view, PAYLOAD, src_gfn + BigInt(done));
      layout.fields.dst_gfn.set(view, PAYLOAD, dst_gfn + BigInt(done));
      return PREEMPTED;
    }
    return 0;
  },
};
