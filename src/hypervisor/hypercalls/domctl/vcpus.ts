/**
 * XEN_DOMCTL_max_vcpus, which creates all the vCPUs that createdomain announced, and XEN_DOMCTL_getvcpuinfo.
 * @spec xen:common/domctl.c do_domctl
 */
import { xen_domctl_getvcpuinfo, xen_domctl_max_vcpus } from '../../../abi/xen/domctl.js';
import { XenError } from '../../../boundary/xen-error.js';
import type { Implemented } from '../operation-table.js';
import type { DomctlOperation } from './domctl-operation.js';

export const max_vcpus: Implemented<DomctlOperation> = {
  name: 'max_vcpus',
  status: 'supported',
  run(call, argument, domain) {
    const { max } = argument.read(xen_domctl_max_vcpus);
    if (domain === call.caller || max !== domain.maxVcpus) {
      throw new XenError('EINVAL', `domain ${domain.domid} was created for ${domain.maxVcpus} vCPUs`);
    }
    domain.createVcpus();
    return 0;
  },
};

export const getvcpuinfo: Implemented<DomctlOperation> = {
  name: 'getvcpuinfo',
  status: 'partial',
  note: 'no CPU times',
  run(_call, argument, domain) {
    const { vcpu } = argument.read(xen_domctl_getvcpuinfo);
    if (vcpu >= domain.maxVcpus) throw new XenError('EINVAL', `no vCPU ${vcpu}`);
    if (vcpu >= domain.nrVcpus) throw new XenError('ESRCH', `vCPU ${vcpu} has not been created`);
    const online = vcpu < domain.nrOnlineVcpus;
    const running = online && domain.isRunnable ? 1 : 0;
    argument.write(xen_domctl_getvcpuinfo, { vcpu, online: online ? 1 : 0, blocked: 0, running, cpu_time: 0n, cpu: 0 });
    argument.copyBack();
    return 0;
  },
};
