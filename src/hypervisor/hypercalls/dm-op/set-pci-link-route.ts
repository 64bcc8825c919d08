/**
 * Leads a PCI interrupt link to an ISA line, 0 to none.
 * @spec xen:arch/x86/hvm/irq.c hvm_set_pci_link_route
 */
import { xen_dm_op_set_pci_link_route as layout, XEN_DMOP_set_pci_link_route } from '../../../abi/xen/dm-op.js';
import { XenError } from '../../../boundary/xen-error.js';
import { NR_ISA_IRQS, NR_PCI_LINKS } from '../../interrupts/interrupt-lines.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOperation } from './dm-operation.js';

export const set_pci_link_route: DmOperation = {
  op: XEN_DMOP_set_pci_link_route,
  name: 'set_pci_link_route',
  layout,
  copyOut: 'never',
  support: { status: 'supported' },
  run({ view, hvm }) {
    const { link, isa_irq } = layout.read(view, PAYLOAD);
    if (link >= NR_PCI_LINKS || isa_irq >= NR_ISA_IRQS) {
      throw new XenError('EINVAL', `no route from link ${link} to ISA line ${isa_irq}`);
    }
    hvm.interrupts.setPciLinkRoute(link, isa_irq);
    return 0;
  },
};
