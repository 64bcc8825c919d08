/**
 * Injects an event (an interrupt or exception) into a vCPU, which takes it when it next runs.
 * @spec xen:arch/x86/hvm/dm.c inject_event: the type of event isn't checked
 */
import { xen_dm_op_inject_event as layout, XEN_DMOP_inject_event } from '../../../abi/xen/dm-op.js';
import { XenError } from '../../../boundary/xen-error.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOperation } from './dm-operation.js';

export const inject_event: DmOperation = {
  op: XEN_DMOP_inject_event,
  name: 'inject_event',
  layout,
  copyOut: 'never',
  support: { status: 'supported' },
  run({ view, hvm, target }) {
    const args = layout.read(view, PAYLOAD);
    if (args.pad0 !== 0 || args.pad1 !== 0) throw new XenError('EINVAL', 'padding is not zero');
    if (args.vcpuid >= target.nrVcpus) throw new XenError('EINVAL', `no vCPU ${args.vcpuid}`);
    hvm.interrupts.injectEvent(args.vcpuid, {
      vector: args.vector,
      type: args.type,
      insnLen: args.insn_len,
      errorCode: args.error_code,
      cr2: args.cr2,
    });
    return 0;
  },
};
