/**
 * Every DM operation: the dispatch table and the support matrix.
 */
import type { SupportRow } from '../operation-table.js';
import { create_ioreq_server } from './create-ioreq-server.js';
import { destroy_ioreq_server } from './destroy-ioreq-server.js';
import type { DmOperation } from './dm-operation.js';
import { get_ioreq_server_info } from './get-ioreq-server-info.js';
import { inject_event } from './inject-event.js';
import { inject_msi } from './inject-msi.js';
import { map_io_range_to_ioreq_server } from './map-io-range-to-ioreq-server.js';
import { map_mem_type_to_ioreq_server } from './map-mem-type-to-ioreq-server.js';
import { modified_memory } from './modified-memory.js';
import { nr_vcpus } from './nr-vcpus.js';
import { pin_memory_cacheattr } from './pin-memory-cacheattr.js';
import { relocate_memory } from './relocate-memory.js';
import { remote_shutdown } from './remote-shutdown.js';
import { set_ioreq_server_state } from './set-ioreq-server-state.js';
import { set_irq_level } from './set-irq-level.js';
import { set_isa_irq_level } from './set-isa-irq-level.js';
import { set_mem_type } from './set-mem-type.js';
import { set_pci_intx_level } from './set-pci-intx-level.js';
import { set_pci_link_route } from './set-pci-link-route.js';
import { track_dirty_vram } from './track-dirty-vram.js';
import { unmap_io_range_from_ioreq_server } from './unmap-io-range-from-ioreq-server.js';

/** In the order of their numbers, from 1. */
export const DM_OPERATIONS: readonly DmOperation[] = [
  create_ioreq_server,
  get_ioreq_server_info,
  map_io_range_to_ioreq_server,
  unmap_io_range_from_ioreq_server,
  set_ioreq_server_state,
  destroy_ioreq_server,
  track_dirty_vram,
  set_pci_intx_level,
  set_isa_irq_level,
  set_pci_link_route,
  modified_memory,
  set_mem_type,
  inject_event,
  inject_msi,
  map_mem_type_to_ioreq_server,
  remote_shutdown,
  relocate_memory,
  pin_memory_cacheattr,
  set_irq_level,
  nr_vcpus,
];

const byNumber: (DmOperation | undefined)[] = [];
for (const operation of DM_OPERATIONS) byNumber[operation.op] = operation;

/** The highest number that Xen's table knows. */
export const MAX_OP = byNumber.length - 1;

export function dmOperation(op: number): DmOperation | undefined {
  return byNumber[op];
}

/** The rows for the support matrix. */
export function dmOpSupportRows(): SupportRow[] {
  return DM_OPERATIONS.map(({ op, name, support }) => ({ number: op, name, ...support }));
}
