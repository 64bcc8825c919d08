/**
 * Hypercalls by number: those that lead to operations of their own, and those that are refused as a whole.
 * @spec xen:public/xen.h __HYPERVISOR_*
 */
import { HYPERVISOR } from '../../abi/xen/xen.js';
import type { Call, Outcome } from './call.js';
import { dmOpSupportRows } from './dm-op/table.js';
import { dm_op } from './dm-op-by-address.js';
import { domctl, domctlOperations } from './domctl/table.js';
import { event_channel_op, eventChannelOperations } from './event-channel-op/table.js';
import { hvm_op, hvmOperations } from './hvm-op/table.js';
import { memory_op, memoryOperations } from './memory-op/table.js';
import { multicall } from './multicall.js';
import { type Implemented, implementation, operationTable, type SupportRow, supportRows } from './operation-table.js';
import { sched_op, schedOperations } from './sched-op/table.js';
import { sysctl, sysctlOperations } from './sysctl/table.js';
import { versionOperations, xen_version } from './xen-version/table.js';

type Hypercall = (call: Call, args: readonly bigint[]) => Outcome;

const GUEST_KERNEL = { errno: 'ENOSYS', note: 'for the kernel of a PV guest, which nothing here runs' } as const;

function supported(name: string, run: Hypercall): Implemented<Hypercall> {
  return { name, status: 'supported', run };
}

const hypercalls = operationTable<Hypercall>(
  HYPERVISOR,
  [
    { name: 'memory_op', status: 'partial', note: 'see its operations', run: memory_op },
    { name: 'event_channel_op', status: 'partial', note: 'see its operations', run: event_channel_op },
    { name: 'hvm_op', status: 'partial', note: 'see its operations', run: hvm_op },
    { name: 'domctl', status: 'partial', note: 'see its operations', run: domctl },
    { name: 'sysctl', status: 'partial', note: 'see its operations', run: sysctl },
    { name: 'sched_op', status: 'partial', note: 'see its operations', run: sched_op },
    { name: 'xen_version', status: 'partial', note: 'see its operations', run: xen_version },
    supported('dm_op', dm_op),
    supported('multicall', multicall),
  ],
  GUEST_KERNEL,
  {
    grant_table_op: { errno: 'ENOSYS', note: 'no grant tables yet' },
    physdev_op: { errno: 'ENOSYS', note: 'there are no physical devices' },
    platform_op: { errno: 'ENOSYS', note: 'there is no platform to manage' },
    console_io: { errno: 'ENOSYS', note: 'the host has no console of its own' },
    xsm_op: { errno: 'ENOSYS', note: 'the default policy only' },
    kexec_op: { errno: 'ENOSYS', note: 'nothing to start anew' },
    hypfs_op: { errno: 'ENOSYS', note: 'no hypervisor file system' },
    argo_op: { errno: 'ENOSYS', note: 'no Argo' },
    tmem_op: { errno: 'ENOSYS', note: 'removed from Xen' },
  },
);

/** The support matrix: the hypercalls, then the operations of each. */
export function supportMatrix(): Readonly<Record<string, SupportRow[]>> {
  return {
    hypercalls: supportRows(hypercalls),
    dm_op: dmOpSupportRows(),
    memory_op: supportRows(memoryOperations),
    event_channel_op: supportRows(eventChannelOperations),
    hvm_op: supportRows(hvmOperations),
    domctl: supportRows(domctlOperations),
    sysctl: supportRows(sysctlOperations),
    sched_op: supportRows(schedOperations),
    xen_version: supportRows(versionOperations),
  };
}

/** @throws XenError ENOSYS, or whatever the hypercall throws */
export function startHypercall(call: Call, number: number, args: readonly bigint[]): Outcome {
  const hypercall = implementation(hypercalls, number, 'hypercall', 'ENOSYS');
  call.name = hypercall.name;
  return hypercall.run(call, args);
}
