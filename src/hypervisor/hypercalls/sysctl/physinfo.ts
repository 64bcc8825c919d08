/**
 * XEN_SYSCTL_physinfo: what the machine has. The embedded machine is one CPU and one node; its memory is the host
 * process's, so no figure for it would mean anything.
 * @spec xen:common/sysctl.c do_sysctl
 */
import {
  XEN_SYSCTL_PHYSCAP_hap,
  XEN_SYSCTL_PHYSCAP_hvm,
  XEN_SYSCTL_PHYSCAP_pv,
  xen_sysctl,
  xen_sysctl_physinfo,
} from '../../../abi/xen/sysctl.js';
import { writeGuest } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { SysctlOperation } from './sysctl-operation.js';

export const physinfo: Implemented<SysctlOperation> = {
  name: 'physinfo',
  status: 'partial',
  note: 'one CPU, one node; memory figures and CPU features are 0',
  run: (call, address) => {
    writeGuest(call.memory, address + BigInt(xen_sysctl.fields.u.offset), xen_sysctl_physinfo, {
      threads_per_core: 1,
      cores_per_socket: 1,
      nr_cpus: 1,
      max_cpu_id: 0,
      nr_nodes: 1,
      max_node_id: 0,
      cpu_khz: 0,
      capabilities: XEN_SYSCTL_PHYSCAP_hvm | XEN_SYSCTL_PHYSCAP_pv | XEN_SYSCTL_PHYSCAP_hap,
      arch_capabilities: 0,
      pad: 0,
      total_pages: 0n,
      free_pages: 0n,
      scrub_pages: 0n,
      outstanding_pages: 0n,
      max_mfn: 0n,
      hw_cap: Array<number>(8).fill(0),
    });
    return 0;
  },
};
