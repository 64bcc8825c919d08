/**
 * Raises or lowers an interrupt line of an Arm domain.
 * @spec xen:arch/arm/dm.c
 */
import { xen_dm_op_set_irq_level as layout, XEN_DMOP_set_irq_level } from '../../../abi/xen/dm-op.js';
import { XenError } from '../../../boundary/xen-error.js';
import type { DmOperation } from './dm-operation.js';

export const set_irq_level: DmOperation = {
  op: XEN_DMOP_set_irq_level,
  name: 'set_irq_level',
  layout,
  copyOut: 'never',
  support: { status: 'refused', errno: 'EOPNOTSUPP', note: 'Arm only' },
  run() {
    throw new XenError('EOPNOTSUPP', 'set_irq_level is for Arm domains');
  },
};
