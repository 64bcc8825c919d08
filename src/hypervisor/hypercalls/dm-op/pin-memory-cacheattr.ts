/**
 * Pins the cacheability of a range of guest memory, or unpins exactly that range.
 * @spec xen:arch/x86/hvm/mtrr.c hvm_set_mem_pinned_cacheattr
 */
import { xen_dm_op_pin_memory_cacheattr as layout, XEN_DMOP_pin_memory_cacheattr } from '../../../abi/xen/dm-op.js';
import { XenError } from '../../../boundary/xen-error.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOperation } from './dm-operation.js';

export const pin_memory_cacheattr: DmOperation = {
  op: XEN_DMOP_pin_memory_cacheattr,
  name: 'pin_memory_cacheattr',
  layout,
  copyOut: 'never',
  support: { status: 'supported' },
  run({ view, hvm }) {
    const { start, end, type, pad } = layout.read(view, PAYLOAD);
    if (pad !== 0) throw new XenError('EINVAL', 'padding is not zero');
    hvm.cacheAttr.set(start, end, type);
    return 0;
  },
};
