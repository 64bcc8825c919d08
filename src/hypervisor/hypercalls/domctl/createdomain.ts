/** XEN_DOMCTL_createdomain. @spec xen:common/domctl.c do_domctl */
import { xen_domctl_createdomain } from '../../../abi/xen/domctl.js';
import type { Call } from '../call.js';
import type { Implemented } from '../operation-table.js';
import type { DomctlArgument } from './domctl-argument.js';

export const createdomain: Implemented<(call: Call, argument: DomctlArgument) => number> = {
  name: 'createdomain',
  status: 'partial',
  note: 'no IOMMU, shadow paging, vPMU or tracing',
  run(call, argument) {
    const domain = call.hypervisor.createDomain(argument.domid, argument.read(xen_domctl_createdomain));
    argument.domid = domain.domid;
    argument.copyBack();
    return 0;
  },
};
