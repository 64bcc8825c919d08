/**
 * Has writes to memory of type ioreq_server go to a server, or (flags 0) no longer: then its pages become ordinary memory
 * again. `opaque` is progress: with anything but 0 in it only that last part is done.
 *
 * @spec xen:arch/x86/hvm/dm.c XEN_DMOP_map_mem_type_to_ioreq_server, xen:common/ioreq.c ioreq_server_map_mem_type
 * @deviates `opaque` counts slices where Xen's holds the next frame to look at; its value means nothing to a caller
 */
import {
  HVMMEM_ioreq_server,
  xen_dm_op_map_mem_type_to_ioreq_server as layout,
  XEN_DMOP_IOREQ_MEM_ACCESS_WRITE,
  XEN_DMOP_map_mem_type_to_ioreq_server,
} from '../../../abi/xen/dm-op.js';
import { PREEMPTED } from '../../../boundary/operation.js';
import { XenError } from '../../../boundary/xen-error.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOperation } from './dm-operation.js';

export const map_mem_type_to_ioreq_server: DmOperation = {
  op: XEN_DMOP_map_mem_type_to_ioreq_server,
  name: 'map_mem_type_to_ioreq_server',
  layout,
  copyOut: 'result',
  support: { status: 'supported' },
  run(call) {
    const { view, hvm } = call;
    const { id, type, flags, opaque } = layout.read(view, PAYLOAD);
    const isFirstRun = call.progress === undefined;
    const firstGfn = isFirstRun ? opaque : (call.progress as bigint);
    call.progress = firstGfn;
    if (isFirstRun && opaque === 0n) {
      if (type !== HVMMEM_ioreq_server) throw new XenError('EINVAL', `memory type ${type} cannot be claimed`);
      if (flags & ~XEN_DMOP_IOREQ_MEM_ACCESS_WRITE) throw new XenError('EINVAL', 'only writes can be forwarded');
      hvm.ioreq.mapMemType(call.caller, id, flags !== 0);
    }
    if (flags !== 0) return 0;
    if (hvm.ioreq.memType.resetPages(firstGfn, call.preemption)) return 0;
    layout.fields.opaque.set(view, PAYLOAD, opaque + 1n);
    return PREEMPTED;
  },
};
