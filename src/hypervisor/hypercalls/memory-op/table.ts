/** The memory hypercall's operations. @spec xen:common/memory.c do_memory_op, xen:arch/x86/mm.c arch_memory_op */
import { MEMOP_CMD_MASK, MEMOP_EXTENT_SHIFT, XENMEM } from '../../../abi/xen/memory.js';
import type { Call, Outcome } from '../call.js';
import { argument } from '../guest-struct.js';
import { implementation, operationTable } from '../operation-table.js';
import { acquire_resource } from './acquire-resource.js';
import { add_to_physmap } from './add-to-physmap.js';
import { add_to_physmap_batch } from './add-to-physmap-batch.js';
import { decrease_reservation } from './decrease-reservation.js';
import type { MemoryOperation } from './memory-operation.js';
import { populate_physmap } from './populate-physmap.js';
import { remove_from_physmap } from './remove-from-physmap.js';
import { current_reservation, maximum_gpfn, maximum_reservation } from './reservation-info.js';

export const memoryOperations = operationTable<MemoryOperation>(
  XENMEM,
  [
    acquire_resource,
    add_to_physmap,
    add_to_physmap_batch,
    current_reservation,
    decrease_reservation,
    maximum_gpfn,
    maximum_reservation,
    populate_physmap,
    remove_from_physmap,
  ],
  { errno: 'ENOSYS', note: 'not needed by a device model or to build an HVM domain' },
  {
    paging_op: { errno: 'EOPNOTSUPP', note: 'no paging of guest memory' },
    sharing_op: { errno: 'EOPNOTSUPP', note: 'no sharing of guest memory' },
    access_op: { errno: 'EOPNOTSUPP', note: 'no memory access monitoring' },
    get_vnumainfo: { errno: 'EOPNOTSUPP', note: 'no domain has virtual NUMA nodes' },
    set_pod_target: { errno: 'EOPNOTSUPP', note: 'no populate-on-demand' },
    get_pod_target: { errno: 'EOPNOTSUPP', note: 'no populate-on-demand' },
  },
);

export function memory_op(call: Call, args: readonly bigint[]): Outcome {
  const command = argument(args, 0);
  const operation = implementation(memoryOperations, Number(command & BigInt(MEMOP_CMD_MASK)), 'memory_op', 'ENOSYS');
  call.name = `memory_op/${operation.name}`;
  const start = Number(command >> BigInt(MEMOP_EXTENT_SHIFT));
  return operation.run(call, argument(args, 1), start);
}
