/**
 * How to reach an ioreq server's pages and buffered channel. Unless the caller says no_gfns the pages are made available
 * in guest frames, which excludes mapping them as a resource.
 * @spec xen:common/ioreq.c ioreq_server_get_info: fields that don't apply stay as the caller gave them
 */
import {
  xen_dm_op_get_ioreq_server_info as layout,
  XEN_DMOP_get_ioreq_server_info,
  XEN_DMOP_no_gfns,
} from '../../../abi/xen/dm-op.js';
import { XenError } from '../../../boundary/xen-error.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOperation } from './dm-operation.js';

export const get_ioreq_server_info: DmOperation = {
  op: XEN_DMOP_get_ioreq_server_info,
  name: 'get_ioreq_server_info',
  layout,
  copyOut: 'result',
  support: { status: 'supported' },
  run({ view, hvm, caller }) {
    const args = layout.read(view, PAYLOAD);
    if (args.flags & ~XEN_DMOP_no_gfns) throw new XenError('EINVAL', `unknown flags 0x${args.flags.toString(16)}`);
    const info = hvm.ioreq.info(caller, args.id, (args.flags & XEN_DMOP_no_gfns) === 0);
    if (info.bufioreqPort !== undefined) layout.fields.bufioreq_port.set(view, PAYLOAD, info.bufioreqPort);
    if (info.ioreqGfn !== undefined) layout.fields.ioreq_gfn.set(view, PAYLOAD, info.ioreqGfn);
    if (info.bufioreqGfn !== undefined) layout.fields.bufioreq_gfn.set(view, PAYLOAD, info.bufioreqGfn);
    return 0;
  },
};
