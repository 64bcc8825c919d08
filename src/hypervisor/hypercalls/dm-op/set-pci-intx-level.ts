/**
 * Raises or lowers an interrupt pin of a PCI device on bus 0.
 * @spec xen:arch/x86/hvm/dm.c set_pci_intx_level
 */
import { xen_dm_op_set_pci_intx_level as layout, XEN_DMOP_set_pci_intx_level } from '../../../abi/xen/dm-op.js';
import { XenError } from '../../../boundary/xen-error.js';
import { NR_PCI_DEVICES, NR_PCI_PINS } from '../../interrupts/interrupt-lines.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOperation } from './dm-operation.js';

export const set_pci_intx_level: DmOperation = {
  op: XEN_DMOP_set_pci_intx_level,
  name: 'set_pci_intx_level',
  layout,
  copyOut: 'never',
  support: { status: 'supported' },
  run({ view, hvm }) {
    const { domain, bus, device, intx, level } = layout.read(view, PAYLOAD);
    if (domain !== 0 || bus !== 0 || device >= NR_PCI_DEVICES || intx >= NR_PCI_PINS) {
      throw new XenError('EINVAL', `no interrupt pin ${domain}:${bus}:${device} ${intx}`);
    }
    if (level > 1) throw new XenError('EINVAL', `level ${level}`);
    hvm.interrupts.setPciIntx(device, intx, level === 1);
    return 0;
  },
};
