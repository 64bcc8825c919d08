/**
 * Raises or lowers an ISA interrupt line.
 * @spec xen:arch/x86/hvm/dm.c set_isa_irq_level
 */
import { xen_dm_op_set_isa_irq_level as layout, XEN_DMOP_set_isa_irq_level } from '../../../abi/xen/dm-op.js';
import { XenError } from '../../../boundary/xen-error.js';
import { NR_ISA_IRQS } from '../../interrupts/interrupt-lines.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOperation } from './dm-operation.js';

export const set_isa_irq_level: DmOperation = {
  op: XEN_DMOP_set_isa_irq_level,
  name: 'set_isa_irq_level',
  layout,
  copyOut: 'never',
  support: { status: 'supported' },
  run({ view, hvm }) {
    const { isa_irq, level } = layout.read(view, PAYLOAD);
    if (isa_irq >= NR_ISA_IRQS) throw new XenError('EINVAL', `no ISA line ${isa_irq}`);
    if (level > 1) throw new XenError('EINVAL', `level ${level}`);
    hvm.interrupts.setIsaIrq(isa_irq, level === 1);
    return 0;
  },
};
