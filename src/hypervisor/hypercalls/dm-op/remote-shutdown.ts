/**
 * Declares the domain shut down, for a reason of which the low byte counts. The first reason stays.
 * @spec xen:arch/x86/hvm/dm.c XEN_DMOP_remote_shutdown, xen:common/domain.c domain_shutdown
 */
import { xen_dm_op_remote_shutdown as layout, XEN_DMOP_remote_shutdown } from '../../../abi/xen/dm-op.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOperation } from './dm-operation.js';

export const remote_shutdown: DmOperation = {
  op: XEN_DMOP_remote_shutdown,
  name: 'remote_shutdown',
  layout,
  copyOut: 'never',
  support: { status: 'supported' },
  run({ view, target }) {
    target.shutdown(layout.fields.reason.get(view, PAYLOAD) & 0xff);
    return 0;
  },
};
