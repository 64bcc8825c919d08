/**
 * Domctls that set one thing of a domain: its handle, the port told of a suspend, the handler of a global virtual
 * interrupt.
 * @spec xen:common/domctl.c do_domctl, xen:common/event_channel.c set_global_virq_handler
 * @deviates a dying domain cannot become a handler
 */
import {
  xen_domctl_set_virq_handler,
  xen_domctl_setdomainhandle,
  xen_domctl_subscribe,
} from '../../../abi/xen/domctl.js';
import { NR_VIRQS } from '../../../abi/xen/xen.js';
import { XenError } from '../../../boundary/xen-error.js';
import { virqIsGlobal } from '../../virqs.js';
import type { Implemented } from '../operation-table.js';
import type { DomctlOperation } from './domctl-operation.js';

export const setdomainhandle: Implemented<DomctlOperation> = {
  name: 'setdomainhandle',
  status: 'supported',
  run(_call, argument, domain) {
    domain.handle = argument.read(xen_domctl_setdomainhandle).handle;
    return 0;
  },
};

export const subscribe: Implemented<DomctlOperation> = {
  name: 'subscribe',
  status: 'supported',
  run(_call, argument, domain) {
    domain.suspendPort = argument.read(xen_domctl_subscribe).port;
    return 0;
  },
};

export const set_virq_handler: Implemented<DomctlOperation> = {
  name: 'set_virq_handler',
  status: 'supported',
  run(call, argument, domain) {
    const { virq } = argument.read(xen_domctl_set_virq_handler);
    if (virq >= NR_VIRQS || !virqIsGlobal(virq)) throw new XenError('EINVAL', `${virq} is no global virtual interrupt`);
    call.hypervisor.setGlobalVirqHandler(virq, domain);
    return 0;
  },
};
