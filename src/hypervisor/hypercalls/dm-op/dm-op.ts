/**
 * The DM op hypercall: finds the domain and the operation, copies in, runs, copies out.
 *
 * The order of checks decides which errno a caller sees and is Xen's. Between two slices of a long operation the domain
 * may have gone and its domid may be another's: the call belongs to the domain it began with.
 *
 * @spec xen:common/dm.c do_dm_op, xen:arch/x86/hvm/dm.c dm_op
 */
import { xen_dm_op } from '../../../abi/xen/dm-op.js';
import type { GuestBuffer } from '../../../boundary/guest-buffer.js';
import { type Operation, PREEMPTED, type Preemption } from '../../../boundary/operation.js';
import { XenError } from '../../../boundary/xen-error.js';
import { requireControl } from '../../access.js';
import type { Domain } from '../../domain.js';
import { DmOpBuffers, MAX_BUFFERS } from './dm-op-buffers.js';
import { DmOpCall } from './dm-op-call.js';
import type { DmOperation } from './dm-operation.js';
import { dmOperation, MAX_OP } from './table.js';

/** What a call needs of the hypervisor: the domains. */
export interface DomainLookup {
  readonly domains: {
    /** Any domain but the caller. @throws XenError ESRCH, EPERM */
    getRemote(domid: number, caller: Domain): Domain;
  };
}

/** A DM op call of `caller` on another domain. Nothing is looked at before it is run. */
export function beginDmOp(
  hypervisor: DomainLookup,
  caller: Domain,
  domid: number,
  buffers: readonly GuestBuffer[],
): Operation {
  return new DmOpOperation(hypervisor, caller, domid, buffers);
}

const OP_AT = xen_dm_op.fields.op.offset;
const PAD_AT = xen_dm_op.fields.pad.offset;

class DmOpOperation implements Operation {
  name: string | undefined;
  private readonly buffers: DmOpBuffers;
  private operation: DmOperation | undefined;
  private call: DmOpCall | undefined;
  private isDone = false;

  constructor(
    private readonly hypervisor: DomainLookup,
    private readonly caller: Domain,
    private readonly domid: number,
    buffers: readonly GuestBuffer[],
  ) {
    this.buffers = new DmOpBuffers(buffers);
  }

  run(preemption: Preemption): number | typeof PREEMPTED {
    if (this.isDone) throw new Error('a DM op is run after its end');
    let outcome: number | typeof PREEMPTED = 0;
    this.isDone = true; // unless it comes back preempted
    try {
      outcome = this.call ? this.resume(this.call, preemption) : this.begin(preemption);
    } finally {
      if (outcome === PREEMPTED) this.isDone = false;
      else this.buffers.close();
    }
    return outcome;
  }

  private begin(preemption: Preemption): number | typeof PREEMPTED {
    const { buffers, caller } = this;
    if (buffers.count === 0) throw new XenError('ENODATA', 'no buffers');
    if (buffers.count > MAX_BUFFERS) throw new XenError('E2BIG', `${buffers.count} buffers`);
    const target = this.hypervisor.domains.getRemote(this.domid, caller);
    if (!target.hvm) throw new XenError('EINVAL', `domain ${this.domid} is not HVM`);
    requireControl(caller);
    buffers.open();
    const { view } = buffers;
    const op = view.getUint32(OP_AT, true);
    if (op > MAX_OP) throw new XenError('EOPNOTSUPP', `no DM operation ${op}`);
    const operation = dmOperation(op);
    this.name = operation?.name;
    // Numbers up to the highest that have no operation on x86 have no arguments either, but their padding is looked at.
    const isRefused = !operation || operation.support.status === 'refused';
    if (!isRefused && buffers.payloadSize < operation.layout.size) {
      throw new XenError('EFAULT', `the first buffer is too short for ${operation.name}`);
    }
    if (view.getUint32(PAD_AT, true) !== 0) throw new XenError('EINVAL', 'padding is not zero');
    if (isRefused) throw new XenError('EOPNOTSUPP', operation?.name ?? `no DM operation ${op}`);
    this.operation = operation;
    this.call = new DmOpCall(caller, target, target.hvm, buffers, view);
    return this.proceed(this.call, preemption);
  }

  private resume(call: DmOpCall, preemption: Preemption): number | typeof PREEMPTED {
    if (this.hypervisor.domains.getRemote(this.domid, this.caller) !== call.target) {
      throw new XenError('ESRCH', `domain ${this.domid} has gone`);
    }
    return this.proceed(call, preemption);
  }

  private proceed(call: DmOpCall, preemption: Preemption): number | typeof PREEMPTED {
    const operation = this.operation as DmOperation;
    call.preemption = preemption;
    const result = operation.run(call);
    const { copyOut } = operation;
    if (copyOut === 'result' || (copyOut === 'progress' && result === PREEMPTED)) {
      this.buffers.copyPayloadOut(operation.layout.size);
    }
    return result;
  }
}
