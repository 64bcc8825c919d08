/**
 * Enables or disables a server. Enabling shows the device model its event channels and takes pages that are guest frames
 * out of the guest's reach.
 * @spec xen:common/ioreq.c ioreq_server_set_state: any value but 0 enables
 */
import { xen_dm_op_set_ioreq_server_state as layout, XEN_DMOP_set_ioreq_server_state } from '../../../abi/xen/dm-op.js';
import { XenError } from '../../../boundary/xen-error.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOperation } from './dm-operation.js';

export const set_ioreq_server_state: DmOperation = {
  op: XEN_DMOP_set_ioreq_server_state,
  name: 'set_ioreq_server_state',
  layout,
  copyOut: 'never',
  support: { status: 'supported' },
  run({ view, hvm, caller }) {
    const { id, enabled, pad } = layout.read(view, PAYLOAD);
    if (pad !== 0) throw new XenError('EINVAL', 'padding is not zero');
    hvm.ioreq.setState(caller, id, enabled !== 0);
    return 0;
  },
};
