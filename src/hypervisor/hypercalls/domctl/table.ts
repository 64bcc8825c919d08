/** The domain control hypercall's operations. @spec xen:common/domctl.c do_domctl */
import { XEN_DOMCTL, XEN_DOMCTL_INTERFACE_VERSION } from '../../../abi/xen/domctl.js';
import { XenError } from '../../../boundary/xen-error.js';
import { requireControl } from '../../access.js';
import type { Domain } from '../../domain.js';
import type { Call, Outcome } from '../call.js';
import { argument } from '../guest-struct.js';
import { implementation, operationTable } from '../operation-table.js';
import { createdomain } from './createdomain.js';
import { destroydomain } from './destroydomain.js';
import { set_virq_handler, setdomainhandle, subscribe } from './domain-settings.js';
import { DomctlArgument } from './domctl-argument.js';
import type { DomctlOperation } from './domctl-operation.js';
import { getdomaininfo } from './getdomaininfo.js';
import { max_mem } from './max-mem.js';
import { get_paging_mempool_size, set_paging_mempool_size } from './paging-mempool.js';
import { pausedomain, resumedomain, unpausedomain } from './pausing.js';
import { shadow_op } from './shadow-op.js';
import { getvcpuinfo, max_vcpus } from './vcpus.js';

const NO_DEVICES = { errno: 'ENODEV', note: 'there are no physical devices to assign' } as const;
const NO_CONTEXT = { errno: 'EOPNOTSUPP', note: 'vCPU state belongs to the engine that runs it' } as const;

export const domctlOperations = operationTable<DomctlOperation>(
  XEN_DOMCTL,
  [
    createdomain,
    destroydomain,
    get_paging_mempool_size,
    getdomaininfo,
    getvcpuinfo,
    max_mem,
    max_vcpus,
    pausedomain,
    resumedomain,
    set_paging_mempool_size,
    set_virq_handler,
    setdomainhandle,
    shadow_op,
    subscribe,
    unpausedomain,
  ],
  { errno: 'ENOSYS', note: 'not needed to build or control an HVM domain for a device model' },
  {
    assign_device: NO_DEVICES,
    deassign_device: NO_DEVICES,
    test_assign_device: NO_DEVICES,
    get_device_group: NO_DEVICES,
    gethvmcontext: NO_CONTEXT,
    gethvmcontext_partial: NO_CONTEXT,
    sethvmcontext: NO_CONTEXT,
    getvcpucontext: NO_CONTEXT,
    setvcpucontext: NO_CONTEXT,
  },
);

export function domctl(call: Call, args: readonly bigint[]): Outcome {
  const domctl = new DomctlArgument(call.memory, argument(args, 0));
  if (domctl.interfaceVersion !== XEN_DOMCTL_INTERFACE_VERSION) {
    throw new XenError('EACCES', `domctl interface version 0x${domctl.interfaceVersion.toString(16)}`);
  }
  call.name = `domctl/${domctlOperations.get(domctl.cmd)?.name ?? domctl.cmd}`;
  const domain = domainOf(call, domctl);
  requireControl(call.caller);
  const operation = implementation(domctlOperations, domctl.cmd, 'domctl', 'ENOSYS');
  return operation.run(call, domctl, domain);
}

/** The two that find their own domain get the caller in its place. */
function domainOf(call: Call, { cmd, domid }: DomctlArgument): Domain {
  if (cmd === XEN_DOMCTL.createdomain || cmd === XEN_DOMCTL.getdomaininfo) return call.caller;
  return call.hypervisor.domains.get(domid);
}
