/**
 * XEN_DOMCTL_getdomaininfo: of the domain asked for, or the next one after it.
 * @spec xen:common/domctl.c do_domctl
 */
import { xen_domctl_getdomaininfo } from '../../../abi/xen/domctl.js';
import { DOMID_FIRST_RESERVED } from '../../../abi/xen/xen.js';
import { XenError } from '../../../boundary/xen-error.js';
import { domainInfo } from '../../domain-info.js';
import type { Call } from '../call.js';
import type { Implemented } from '../operation-table.js';
import type { DomctlArgument } from './domctl-argument.js';

export const getdomaininfo: Implemented<(call: Call, argument: DomctlArgument) => number> = {
  name: 'getdomaininfo',
  status: 'partial',
  note: 'no CPU times',
  run(call, argument) {
    const { domid } = argument;
    if (domid >= DOMID_FIRST_RESERVED) throw new XenError('EINVAL', `no domain can be ${domid}`);
    const domain = call.hypervisor.domains.next(domid);
    if (!domain) throw new XenError('ESRCH', `no domain from ${domid} on`);
    argument.domid = domain.domid;
    argument.write(xen_domctl_getdomaininfo, domainInfo(domain));
    argument.copyBack();
    return 0;
  },
};
