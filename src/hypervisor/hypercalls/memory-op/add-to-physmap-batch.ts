/**
 * XENMEM_add_to_physmap_batch: like add_to_physmap for a list, with an errno for each entry.
 * @spec xen:common/memory.c xenmem_add_to_physmap_batch
 */
import type { TypeOf } from '../../../abi/layout.js';
import { s32 } from '../../../abi/layout.js';
import { XENMAPSPACE_gmfn_foreign, XENMAPSPACE_gmfn_range, xen_add_to_physmap_batch } from '../../../abi/xen/memory.js';
import { XenError } from '../../../boundary/xen-error.js';
import type { Domain } from '../../domain.js';
import { INVALID_GFN } from '../../physmap.js';
import type { Call, Steps } from '../call.js';
import { GuestArray } from '../guest-array.js';
import { readGuest, writeGuest } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import { addOne, checkSpace, MAX_SIZE } from './add-to-physmap.js';
import type { MemoryOperation } from './memory-operation.js';

const PREEMPT_INTERVAL = 16;

export const add_to_physmap_batch: Implemented<MemoryOperation> = {
  name: 'add_to_physmap_batch',
  status: 'partial',
  note: 'no grant table space, no foreign pages',
  run(call, address, start) {
    if (start > MAX_SIZE) throw new XenError('EDOM', 'continuation beyond any batch');
    const batch = readGuest(call.memory, address, xen_add_to_physmap_batch);
    if (batch.space === XENMAPSPACE_gmfn_range) throw new XenError('EOPNOTSUPP', 'ranges come by the single call');
    const domain = call.hypervisor.domains.getAny(batch.domid, call.caller);
    checkSpace(call, domain, batch.space);
    if (batch.size < start || (batch.size === start && start > 0)) {
      throw new XenError('EILSEQ', 'continuation beyond the batch');
    }
    if (batch.space === XENMAPSPACE_gmfn_foreign) throw new XenError('EOPNOTSUPP', 'no foreign pages in a physmap');
    return addBatch(call, domain, batch, start);
  },
};

function* addBatch(call: Call, domain: Domain, batch: TypeOf<typeof xen_add_to_physmap_batch>, start: number): Steps {
  const indices = new GuestArray(call.memory, batch.idxs, batch.size);
  const gfns = new GuestArray(call.memory, batch.gpfns, batch.size);
  for (let done = start; done < batch.size; done++) {
    const index = indices.read(done);
    const gfn = gfns.read(done);
    if (gfn === INVALID_GFN) throw new XenError('EINVAL', 'the invalid gfn');
    const errno = errnoOf(() => addOne(domain, batch.space, index, gfn));
    writeGuest(call.memory, BigInt.asUintN(64, batch.errs + BigInt(done * s32.size)), s32, -errno);
    if (done % PREEMPT_INTERVAL === PREEMPT_INTERVAL - 1 && call.preemption.due()) yield;
  }
  return 0;
}

function errnoOf(action: () => void): number {
  try {
    action();
    return 0;
  } catch (error) {
    if (error instanceof XenError) return error.errno;
    throw error;
  }
}
