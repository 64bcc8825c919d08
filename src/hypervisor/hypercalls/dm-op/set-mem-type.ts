/**
 * Has a region treated as ordinary memory, read-only memory, device memory, or memory whose writes go to the server that
 * has claimed them. The struct holds the progress: what is left of the region.
 *
 * A page that becomes device memory is no longer reachable and stays the domain's until its end.
 *
 * @spec xen:arch/x86/hvm/dm.c set_mem_type, allow_p2m_type_change
 */
import {
  HVMMEM_ioreq_server,
  HVMMEM_mmio_dm,
  HVMMEM_ram_ro,
  HVMMEM_ram_rw,
  xen_dm_op_set_mem_type as layout,
  XEN_DMOP_set_mem_type,
} from '../../../abi/xen/dm-op.js';
import { PREEMPTED } from '../../../boundary/operation.js';
import { XenError } from '../../../boundary/xen-error.js';
import { P2M_INVALID, type P2mType } from '../../p2m.js';
import { PAYLOAD } from './dm-op-buffers.js';
import type { DmOpCall } from './dm-op-call.js';
import type { DmOperation } from './dm-operation.js';

const TYPES = new Map<number, P2mType>([
  [HVMMEM_ram_rw, 'ram_rw'],
  [HVMMEM_ram_ro, 'ram_ro'],
  [HVMMEM_mmio_dm, 'mmio_dm'],
  [HVMMEM_ioreq_server, 'ioreq_server'],
]);

const PREEMPT_INTERVAL = 256;

export const set_mem_type: DmOperation = {
  op: XEN_DMOP_set_mem_type,
  name: 'set_mem_type',
  layout,
  copyOut: 'result',
  support: { status: 'supported' },
  run(call) {
    const { view } = call;
    const { nr, mem_type, pad, first_pfn } = layout.read(view, PAYLOAD);
    if (pad !== 0) throw new XenError('EINVAL', 'padding is not zero');
    if (nr === 0 || first_pfn + BigInt(nr) - 1n > BigInt(Math.max(call.target.p2m.maxMappedGfn, 0))) {
      throw new XenError('EINVAL', 'no such region');
    }
    const type = TYPES.get(mem_type);
    if (!type) throw new XenError('EINVAL', `no memory type ${mem_type}`);
    if (type === 'ioreq_server' && !call.hvm.ioreq.memType.server) {
      throw new XenError('EINVAL', 'no ioreq server has claimed the memory type');
    }
    const first = Number(first_pfn);
    for (let done = 0; done < nr; ) {
      changeType(call, first + done, type);
      done++;
      if (done % PREEMPT_INTERVAL !== 0 || done === nr || !call.preemption.due()) continue;
      layout.fields.first_pfn.set(view, PAYLOAD, BigInt(first + done));
      layout.fields.nr.set(view, PAYLOAD, nr - done);
      return PREEMPTED;
    }
    return 0;
  },
};

/** @throws XenError EINVAL */
function changeType(call: DmOpCall, gfn: number, to: P2mType): void {
  const { p2m } = call.target;
  const isHole = p2m.mfn(gfn) === P2M_INVALID;
  const from = p2m.type(gfn);
  if (!isAllowed(isHole, from, to)) throw new XenError('EINVAL', `${from} cannot become ${to} at gfn ${gfn}`);
  if (isHole || from === to) return;
  if (to === 'mmio_dm') unhook(call, gfn);
  else p2m.changeType(gfn, from, to);
  if (to === 'ioreq_server') call.hvm.ioreq.memType.addPage(gfn);
}

function unhook({ target }: DmOpCall, gfn: number): void {
  target.p2m.remove(gfn);
  if (target.sharedInfoGfn === gfn) target.sharedInfoGfn = P2M_INVALID;
}

function isAllowed(isHole: boolean, from: P2mType, to: P2mType): boolean {
  if (isHole) return to === 'mmio_dm';
  if (to === 'ioreq_server') return from === 'ram_rw';
  if (from === 'ioreq_server') return to === 'ram_rw';
  return true;
}
