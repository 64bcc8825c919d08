/**
 * Delivers an emulated device's MSI to the local APICs that its address names.
 * @spec xen:arch/x86/hvm/irq.c hvm_inject_msi
 */
import { xen_dm_op_inject_msi as layout, XEN_DMOP_inject_msi } from '../../../abi/xen/dm-op.js';
import { XenError } from '../../../boundary/xen-error.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOperation } from './dm-operation.js';

export const inject_msi: DmOperation = {
  op: XEN_DMOP_inject_msi,
  name: 'inject_msi',
  layout,
  copyOut: 'never',
  support: {
    status: 'partial',
    note: 'an MSI with vector 0 is accepted as in Xen, but no guest can have bound its pirq to an event channel',
  },
  run({ view, hvm }) {
    const { data, pad, addr } = layout.read(view, PAYLOAD);
    if (pad !== 0) throw new XenError('EINVAL', 'padding is not zero');
    hvm.interrupts.injectMsi(addr, data);
    return 0;
  },
};
