/**
 * The calling process as the drivers see it, put together from a request. One object serves all calls, one after the
 * other; a preempted operation keeps the request, which is its own by then, and never this.
 */
import type { Mapping } from '../boundary/extent.js';
import type { GuestMemory } from '../boundary/guest-buffer.js';
import type { AddressSpace, AreaState, Process } from '../dom0/process.js';
import type { HypercallMemory } from './hypercall-memory.js';
import { POSTERN_AREA_MASK } from './protocol.js';
import { assertMappable } from './reply.js';
import type { Request } from './request.js';

const AREA_STATES: readonly AreaState[] = ['none', 'fresh', 'fresh-part', 'hole', 'mapped'];

export const EMPTY_MAPPING: Mapping = { runs: [], errors: [] };

export class Caller implements Process, AddressSpace {
  pid = 0;
  /** What the call has mapped: goes back with the reply. */
  mapping = EMPTY_MAPPING;
  private request!: Request;
  private buffers!: HypercallMemory;

  of(pid: number, buffers: HypercallMemory, request: Request): this {
    this.pid = pid;
    this.buffers = buffers;
    this.request = request;
    this.mapping = EMPTY_MAPPING;
    return this;
  }

  get memory(): Request {
    return this.request;
  }

  get hypercallMemory(): GuestMemory {
    return this.buffers;
  }

  get addressSpace(): AddressSpace {
    return this;
  }

  /** The client says what its address space has there: it could only fool itself. */
  area(): AreaState {
    return AREA_STATES[this.request.flags & POSTERN_AREA_MASK] ?? 'none';
  }

  mapFrames(_address: number, mapping: Mapping): void {
    assertMappable(mapping.runs);
    this.mapping = mapping;
  }
}
