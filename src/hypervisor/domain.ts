/** A domain and what belongs to it. (stub: signatures only) */
import type { EventChannels } from './event-channels.js';
import type { InterruptLines } from './interrupts/interrupt-lines.js';
import type { IoreqServers } from './ioreq/ioreq-servers.js';
import type { MachineMemory } from './machine-memory.js';
import type { P2m } from './p2m.js';

export type DomainKind = 'control' | 'hvm' | 'pv';

/** What an HVM domain has beyond a PV one. */
export interface HvmState {
  readonly params: BigUint64Array; // HVM_NR_PARAMS values
  readonly ioreq: IoreqServers;
  readonly interrupts: InterruptLines;
}

export interface Domain {
  readonly domid: number;
  readonly kind: DomainKind;
  readonly hvm: HvmState | undefined;
  readonly p2m: P2m;
  readonly evtchn: EventChannels;
  readonly machine: MachineMemory;
  /** DOMCTL max_vcpus; vCPU ids are 0 to nrVcpus-1. */
  readonly maxVcpus: number;
}
