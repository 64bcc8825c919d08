/**
 * Claims a range of ports, addresses or PCI devices for a server; one that overlaps a claim of its own is refused.
 * @spec xen:common/ioreq.c ioreq_server_map_io_range
 */
import {
  xen_dm_op_ioreq_server_range as layout,
  XEN_DMOP_map_io_range_to_ioreq_server,
} from '../../../abi/xen/dm-op.js';
import { XenError } from '../../../boundary/xen-error.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOperation } from './dm-operation.js';

export const map_io_range_to_ioreq_server: DmOperation = {
  op: XEN_DMOP_map_io_range_to_ioreq_server,
  name: 'map_io_range_to_ioreq_server',
  layout,
  copyOut: 'never',
  support: { status: 'supported' },
  run({ view, hvm, caller }) {
    const { id, pad, type, start, end } = layout.read(view, PAYLOAD);
    if (pad !== 0) throw new XenError('EINVAL', 'padding is not zero');
    hvm.ioreq.mapRange(caller, id, type, start, end);
    return 0;
  },
};
