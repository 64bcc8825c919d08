/**
 * How many vCPUs the domain can have: a number fixed at its creation.
 * @spec xen:arch/x86/hvm/dm.c XEN_DMOP_nr_vcpus
 */
import { xen_dm_op_nr_vcpus as layout, XEN_DMOP_nr_vcpus } from '../../../abi/xen/dm-op.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOperation } from './dm-operation.js';

export const nr_vcpus: DmOperation = {
  op: XEN_DMOP_nr_vcpus,
  name: 'nr_vcpus',
  layout,
  copyOut: 'result',
  support: { status: 'supported' },
  run({ view, target }) {
    layout.fields.vcpus.set(view, PAYLOAD, target.maxVcpus);
    return 0;
  },
};
