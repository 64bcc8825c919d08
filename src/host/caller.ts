/**
 * The calling process as the drivers see it, put together from a request. One object serves all calls, one after the
 * other; a preempted operation keeps the request, which is its own by then, and never this.
 */
import type { FrameRun, Mapping } from '../boundary/extent.js';
import type { GuestMemory } from '../boundary/guest-buffer.js';
import type { AddressSpace, AreaState, Process } from '../dom0/process.js';
import type { HypercallMemory } from './hypercall-memory.js';
import type { ProcessMappings } from './process-mappings.js';
import { POSTERN_AREA_MASK } from './protocol.js';
import { assertMappable } from './reply.js';
import type { Request } from './request.js';

const AREA_STATES: readonly AreaState[] = ['none', 'fresh', 'fresh-part', 'hole', 'mapped', 'fresh-inside'];

const NO_RUNS: readonly FrameRun[] = [];

export class Caller implements Process, AddressSpace {
  pid = 0;
  /** What the call has mapped, and where: delivered or abandoned when it ends. */
  private mapping: Mapping | undefined;
  private mappedAt = 0;
  private request!: Request;
  private buffers!: HypercallMemory;

  of(pid: number, buffers: HypercallMemory, request: Request): this {
    this.pid = pid;
    this.buffers = buffers;
    this.request = request;
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

  mapFrames(address: number, mapping: Mapping): void {
    if (this.mapping) throw new Error('a call maps frames twice');
    this.mapping = mapping;
    this.mappedAt = address;
    assertMappable(mapping.runs);
  }

  /** The call has succeeded: the mapping is the process's. @returns what goes with the answer @throws XenError ENOMEM */
  deliver(to: ProcessMappings): readonly FrameRun[] {
    const { mapping } = this;
    if (!mapping) return NO_RUNS;
    to.add(this.mappedAt, mapping);
    this.mapping = undefined;
    return mapping.runs;
  }

  /** The call has failed: nobody gets what it may have mapped. */
  abandon(): void {
    this.mapping?.release();
    this.mapping = undefined;
  }
}
