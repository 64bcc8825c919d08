/**
 * XEN_DOMCTL_shadow_op: log-dirty mode, for migration, and the older way to size the paging pool.
 * @spec xen:arch/x86/mm/paging.c paging_domctl, paging_log_dirty_op, xen:arch/x86/mm/hap/hap.c hap_domctl
 */
import type { TypeOf } from '../../../abi/layout.js';
import {
  XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY,
  XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL,
  XEN_DOMCTL_SHADOW_OP_CLEAN,
  XEN_DOMCTL_SHADOW_OP_ENABLE,
  XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY,
  XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION,
  XEN_DOMCTL_SHADOW_OP_OFF,
  XEN_DOMCTL_SHADOW_OP_PEEK,
  XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION,
  xen_domctl_shadow_op,
} from '../../../abi/xen/domctl.js';
import { XenError } from '../../../boundary/xen-error.js';
import type { Domain, HvmState } from '../../domain.js';
import { P2M_GFN_LIMIT } from '../../p2m.js';
import type { Call, Outcome, Steps } from '../call.js';
import type { Implemented } from '../operation-table.js';
import type { DomctlArgument } from './domctl-argument.js';
import type { DomctlOperation } from './domctl-operation.js';

const MIB = 1 << 20;
/** Dirty bits are copied out a page at a time. */
const CHUNK_BYTES = 4096;
const CHUNK_PAGES = CHUNK_BYTES * 8;

type ShadowOp = TypeOf<typeof xen_domctl_shadow_op>;

export const shadow_op: Implemented<DomctlOperation> = {
  name: 'shadow_op',
  status: 'partial',
  note: 'log-dirty and the paging pool; no shadow paging',
  run(call, argument, domain) {
    if (domain === call.caller) throw new XenError('EINVAL', 'a domain cannot log its own writes');
    if (domain.isDying) return 0;
    if (domain.nrVcpus === 0) throw new XenError('EINVAL', `domain ${domain.domid} has no vCPUs`);
    const op = argument.read(xen_domctl_shadow_op);
    const { hvm } = domain;
    if (!hvm) throw new XenError('EINVAL', 'paging operations on a domain that is not HVM');
    return operate(call, argument, domain, hvm, op);
  },
};

function operate(call: Call, argument: DomctlArgument, domain: Domain, hvm: HvmState, op: ShadowOp): Outcome {
  switch (op.op) {
    case XEN_DOMCTL_SHADOW_OP_ENABLE:
    case XEN_DOMCTL_SHADOW_OP_ENABLE_LOGDIRTY:
      if (op.op === XEN_DOMCTL_SHADOW_OP_ENABLE && !(op.mode & XEN_DOMCTL_SHADOW_ENABLE_LOG_DIRTY)) break;
      hvm.logDirty.enable(hvm.ioreq.memType.isOutstanding);
      return 0;
    case XEN_DOMCTL_SHADOW_OP_OFF:
      hvm.logDirty.disable();
      return 0;
    case XEN_DOMCTL_SHADOW_OP_CLEAN:
    case XEN_DOMCTL_SHADOW_OP_PEEK:
      if (op.mode & ~XEN_DOMCTL_SHADOW_LOGDIRTY_FINAL) throw new XenError('EINVAL', 'unknown log-dirty mode');
      return collect(call, argument, hvm, op);
    case XEN_DOMCTL_SHADOW_OP_GET_ALLOCATION:
    case XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION:
      if (op.op === XEN_DOMCTL_SHADOW_OP_SET_ALLOCATION) domain.pagingPoolBytes = op.mb * MIB;
      op.mb = Math.ceil(domain.pagingPoolBytes / MIB);
      argument.write(xen_domctl_shadow_op, op);
      argument.copyBack();
      return 0;
  }
  throw new XenError('EINVAL', `no paging operation ${op.op}`);
}

/** Copies the dirty bits of the first `op.pages` pages out, and with CLEAN starts over. */
function* collect(call: Call, argument: DomctlArgument, hvm: HvmState, op: ShadowOp): Steps {
  const { logDirty } = hvm;
  const clean = op.op === XEN_DOMCTL_SHADOW_OP_CLEAN;
  logDirty.source?.flush();
  op.stats = { fault_count: logDirty.faultCount, dirty_count: logDirty.dirtyCount };
  const nrPages = op.pages < BigInt(P2M_GFN_LIMIT) ? Number(op.pages) : P2M_GFN_LIMIT;
  const bits = new Uint8Array(CHUNK_BYTES);
  for (let first = 0; first < nrPages; first += CHUNK_PAGES) {
    if (first > 0 && call.preemption.due()) yield;
    const part = bits.subarray(0, Math.min(CHUNK_BYTES, Math.ceil((nrPages - first) / 8)));
    logDirty.copyBits(first, part, clean);
    if (op.dirty_bitmap !== 0n) {
      call.memory.copyTo(BigInt.asUintN(64, op.dirty_bitmap + BigInt(first / 8)), part);
    }
  }
  if (clean) logDirty.resetCounts();
  op.pages = BigInt(nrPages);
  argument.write(xen_domctl_shadow_op, op);
  argument.copyBack();
  return 0;
}
