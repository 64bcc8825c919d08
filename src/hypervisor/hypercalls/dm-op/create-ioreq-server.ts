/**
 * A new ioreq server, with its event channels; disabled, without pages.
 * @spec xen:common/ioreq.c ioreq_server_create
 */
import { xen_dm_op_create_ioreq_server as layout, XEN_DMOP_create_ioreq_server } from '../../../abi/xen/dm-op.js';
import { XenError } from '../../../boundary/xen-error.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOperation } from './dm-operation.js';

export const create_ioreq_server: DmOperation = {
  op: XEN_DMOP_create_ioreq_server,
  name: 'create_ioreq_server',
  layout,
  copyOut: 'result',
  support: { status: 'supported' },
  run({ view, hvm, caller }) {
    const args = layout.read(view, PAYLOAD);
    if (args.pad.some((byte) => byte !== 0)) throw new XenError('EINVAL', 'padding is not zero');
    layout.fields.id.set(view, PAYLOAD, hvm.ioreq.create(caller, args.handle_bufioreq));
    return 0;
  },
};
