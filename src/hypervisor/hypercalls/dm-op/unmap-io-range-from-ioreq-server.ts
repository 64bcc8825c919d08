/**
 * Gives up a claim or part of one; all of the range must be claimed.
 * @spec xen:common/ioreq.c ioreq_server_unmap_io_range
 */
import {
  xen_dm_op_ioreq_server_range as layout,
  XEN_DMOP_unmap_io_range_from_ioreq_server,
} from '../../../abi/xen/dm-op.js';
import { XenError } from '../../../boundary/xen-error.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOperation } from './dm-operation.js';

export const unmap_io_range_from_ioreq_server: DmOperation = {
  op: XEN_DMOP_unmap_io_range_from_ioreq_server,
  name: 'unmap_io_range_from_ioreq_server',
  layout,
  copyOut: 'never',
  support: { status: 'supported' },
  run({ view, hvm, caller }) {
    const { id, pad, type, start, end } = layout.read(view, PAYLOAD);
    if (pad !== 0) throw new XenError('EINVAL', 'padding is not zero');
    hvm.ioreq.unmapRange(caller, id, type, start, end);
    return 0;
  },
};
