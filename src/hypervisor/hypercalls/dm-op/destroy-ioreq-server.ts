/**
 * Ends a server: its claims, channels and pages. vCPUs that wait for it go on without an answer.
 * @spec xen:common/ioreq.c ioreq_server_destroy
 */
import { xen_dm_op_destroy_ioreq_server as layout, XEN_DMOP_destroy_ioreq_server } from '../../../abi/xen/dm-op.js';
import { XenError } from '../../../boundary/xen-error.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOperation } from './dm-operation.js';

export const destroy_ioreq_server: DmOperation = {
  op: XEN_DMOP_destroy_ioreq_server,
  name: 'destroy_ioreq_server',
  layout,
  copyOut: 'never',
  support: { status: 'supported' },
  run({ view, hvm, caller }) {
    const { id, pad } = layout.read(view, PAYLOAD);
    if (pad !== 0) throw new XenError('EINVAL', 'padding is not zero');
    hvm.ioreq.destroy(caller, id);
    return 0;
  },
};
