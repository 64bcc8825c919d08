/** XEN_SYSCTL_getdomaininfolist: domains from a domid on. @spec xen:common/sysctl.c do_sysctl */
import { xen_domctl_getdomaininfo } from '../../../abi/xen/domctl.js';
import { xen_sysctl, xen_sysctl_getdomaininfolist } from '../../../abi/xen/sysctl.js';
import { domainInfo } from '../../domain-info.js';
import type { Call, Steps } from '../call.js';
import { writeGuest, writeGuestField } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { SysctlOperation } from './sysctl-operation.js';

const PREEMPT_INTERVAL = 16;

export const getdomaininfolist: Implemented<SysctlOperation> = {
  name: 'getdomaininfolist',
  status: 'partial',
  note: 'no CPU times',
  run: (call, address, op) => list(call, address + BigInt(xen_sysctl.fields.u.offset), op.u.getdomaininfolist),
};

function* list(
  call: Call,
  address: bigint,
  { first_domain, max_domains, buffer }: { first_domain: number; max_domains: number; buffer: bigint },
): Steps {
  let count = 0;
  for (let domid = first_domain; count < max_domains; count++) {
    const domain = call.hypervisor.domains.next(domid);
    if (!domain) break;
    const at = buffer + BigInt(count * xen_domctl_getdomaininfo.size);
    writeGuest(call.memory, BigInt.asUintN(64, at), xen_domctl_getdomaininfo, domainInfo(domain));
    domid = domain.domid + 1;
    if (count % PREEMPT_INTERVAL === PREEMPT_INTERVAL - 1 && call.preemption.due()) yield;
  }
  writeGuestField(call.memory, address, xen_sysctl_getdomaininfolist.fields.num_domains, count);
  return 0;
}
