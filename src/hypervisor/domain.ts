/**
 * A domain and what belongs to it. Everything a domain owns hangs here and nowhere else, so that nothing is left for the
 * next domain with its domid.
 *
 *     alive ── kill ──> dying ── all resources gone ──> dead ── last holder lets go ──> (domid free)
 *
 * A holder is whoever still refers to the domain after its end, such as a process with its memory mapped.
 *
 * @spec xen:common/domain.c
 */
import { SHUTDOWN_suspend } from '../abi/xen/xen.js';
import type { Preemption } from '../boundary/operation.js';
import { XenError } from '../boundary/xen-error.js';
import { DomainMemory } from './domain-memory.js';
import { type EventChannelLimits, EventChannels } from './event-channels.js';
import type { InterruptLines } from './interrupts/interrupt-lines.js';
import type { IoreqServers } from './ioreq/ioreq-servers.js';
import type { LogDirty } from './log-dirty.js';
import type { Extent, MachineMemory } from './machine-memory.js';
import { P2M_INVALID, P2m } from './p2m.js';
import type { PinnedCacheAttr } from './pinned-cacheattr.js';

/** `control` is dom0: privileged, PV, never a target of its own calls. */
export type DomainKind = 'control' | 'hvm' | 'pv';

/** What an HVM domain has beyond a PV one. */
export interface HvmState {
  readonly params: BigUint64Array; // HVM_NR_PARAMS values
  readonly ioreq: IoreqServers;
  readonly logDirty: LogDirty;
  readonly cacheAttr: PinnedCacheAttr;
  readonly interrupts: InterruptLines;
}

/** What a domain asks of those around it. */
export interface DomainDirectory {
  /** Tells apart the domains that have a domid one after the other: how many have had it before the next or present. */
  epoch(domid: number): number;
  /** Raises VIRQ_DOM_EXC, for whoever handles it (dom0 unless DOMCTL set_virq_handler says otherwise). */
  raiseDomExc(): void;
  /** A domain is dead: nothing of it is left but its holders. */
  died(domain: Domain): void;
  /** A dead domain's last holder is gone: so is the domain. */
  released(domain: Domain): void;
}

export interface DomainConfig {
  readonly domid: number;
  readonly kind: DomainKind;
  readonly maxVcpus: number;
  readonly handle?: Uint8Array;
  readonly ssidref?: number;
  /** The emulated platform devices, XEN_X86_EMU_*. */
  readonly emulationFlags?: number;
  /** XEN_DOMCTL_CDF_xs_domain: it runs the XenStore daemon. */
  readonly isXenstore?: boolean;
  readonly evtchn?: EventChannelLimits;
}

/** @spec xen:xen/sched.h SHUTDOWN_CODE_INVALID */
const SHUTDOWN_CODE_INVALID = 0xffffffff;

/** @spec xen:common/domain.c an arbitrary limit on the toolstack's pauses */
const MAX_PAUSE_COUNT = 255;

export type DomainLife = 'alive' | 'dying' | 'dead';

export class Domain {
  readonly domid: number;
  readonly kind: DomainKind;
  /** DOMCTL createdomain max_vcpus; dm_op nr_vcpus tells it. */
  readonly maxVcpus: number;
  /** vCPUs created so far (DOMCTL max_vcpus creates them all); their ids are 0 to nrVcpus-1. */
  nrVcpus = 0;
  /** vCPUs that are up. None is before something runs them. */
  nrOnlineVcpus = 0;
  /** Which of the domains that use this domid one after the other. */
  readonly epoch: number;
  readonly p2m = new P2m();
  readonly memory: DomainMemory;
  readonly evtchn: EventChannels;
  handle: Uint8Array;
  readonly ssidref: number;
  readonly emulationFlags: number;
  readonly isXenstore: boolean;
  /** The page of Xen's that the domain shares, once something asks for it, and where it is mapped. */
  sharedInfoMfn = P2M_INVALID;
  sharedInfoGfn = P2M_INVALID;
  /** DOMCTL set_paging_mempool_size, in bytes. */
  pagingPoolBytes = 0;
  /** DOMCTL subscribe: a port of this domain that is notified when it has suspended. */
  suspendPort = 0;
  /** Told when `isRunnable` may have changed. */
  onRunnableChange: (() => void) | undefined;

  life: DomainLife = 'alive';
  /** Pauses by the toolstack: a new domain has one. */
  controllerPauseCount = 1;
  isShutDown = false;
  shutdownCode = SHUTDOWN_CODE_INVALID;

  private hvmState: HvmState | undefined;
  private sharedInfoExtent: Extent | undefined;
  private holders = 0;

  constructor(
    readonly machine: MachineMemory,
    readonly directory: DomainDirectory,
    config: DomainConfig,
  ) {
    this.domid = config.domid;
    this.kind = config.kind;
    this.maxVcpus = config.maxVcpus;
    this.handle = config.handle ?? new Uint8Array(16);
    this.ssidref = config.ssidref ?? 0;
    this.emulationFlags = config.emulationFlags ?? 0;
    this.isXenstore = config.isXenstore ?? false;
    this.epoch = directory.epoch(config.domid);
    this.memory = new DomainMemory(machine);
    this.evtchn = new EventChannels(this, config.evtchn);
  }

  get hvm(): HvmState | undefined {
    return this.hvmState;
  }

  /** Attaches the HVM part, once, by whoever creates the domain: its parts need the domain to exist. */
  becomeHvm(state: HvmState): void {
    if (this.kind !== 'hvm' || this.hvmState) throw new Error(`domain ${this.domid} cannot become HVM`);
    this.hvmState = state;
  }

  get isDying(): boolean {
    return this.life !== 'alive';
  }

  /** Whether its vCPUs may run. */
  get isRunnable(): boolean {
    return this.life === 'alive' && this.controllerPauseCount === 0 && !this.isShutDown;
  }

  /** DOMCTL pausedomain. @throws XenError EOVERFLOW where the toolstack has paused it 255 times already */
  pause(): void {
    if (this.controllerPauseCount >= MAX_PAUSE_COUNT) throw new XenError('EOVERFLOW', 'paused too many times');
    this.controllerPauseCount++;
    this.onRunnableChange?.();
  }

  /** DOMCTL unpausedomain. @throws XenError EINVAL where it isn't paused */
  unpause(): void {
    if (this.controllerPauseCount === 0) throw new XenError('EINVAL', `domain ${this.domid} is not paused`);
    this.controllerPauseCount--;
    this.onRunnableChange?.();
  }

  /** Stops the domain for a reason (SHUTDOWN_*, one byte). The first reason stays. */
  shutdown(reason: number): void {
    if (this.shutdownCode === SHUTDOWN_CODE_INVALID) this.shutdownCode = reason & 0xff;
    if (this.isShutDown) return;
    this.isShutDown = true;
    if (this.shutdownCode === SHUTDOWN_suspend && this.suspendPort !== 0) this.notifySuspended();
    else this.directory.raiseDomExc();
    this.onRunnableChange?.();
  }

  /** DOMCTL resumedomain: as if it had never shut down. */
  resume(): void {
    this.isShutDown = false;
    this.shutdownCode = SHUTDOWN_CODE_INVALID;
    this.onRunnableChange?.();
  }

  /** Keeps the domain findable after its end, until `drop`. */
  hold(): void {
    if (this.life === 'dead') throw new Error(`domain ${this.domid} is dead`);
    this.holders++;
  }

  drop(): void {
    if (this.holders === 0) throw new Error(`domain ${this.domid} has no holder`);
    this.holders--;
    if (this.holders === 0 && this.life === 'dead') this.directory.released(this);
  }

  /** DOMCTL max_vcpus: the vCPUs that the domain was created for. @throws XenError ENOSPC where channels run out */
  createVcpus(): void {
    for (; this.nrVcpus < this.maxVcpus; this.nrVcpus++) this.hvmState?.ioreq.addVcpu(this.nrVcpus);
  }

  /** The shared info page; it isn't one of the pages that the domain owns. @throws XenError ENOMEM */
  allocateSharedInfo(): number {
    if (!this.sharedInfoExtent) {
      const { extent, baseMfn } = this.machine.allocate(1);
      this.sharedInfoExtent = extent;
      this.sharedInfoMfn = baseMfn;
    }
    return this.sharedInfoMfn;
  }

  /**
   * DOMCTL destroydomain, step by step: ioreq servers, event channels, the memory map, the memory. Afterwards nothing of
   * the domain is left but its holders.
   * @returns false when preempted: call again
   */
  kill(preemption: Preemption): boolean {
    if (this.life === 'alive') {
      this.life = 'dying';
      this.onRunnableChange?.();
    }
    if (this.life === 'dead') return true;
    this.hvmState?.ioreq.destroyAll();
    if (!this.evtchn.destroy(preemption)) return false;
    while (this.p2m.dropChunk()) if (preemption.due()) return false;
    if (this.sharedInfoExtent) this.machine.release(this.sharedInfoExtent);
    this.sharedInfoExtent = undefined;
    this.sharedInfoMfn = P2M_INVALID;
    this.sharedInfoGfn = P2M_INVALID;
    if (!this.memory.relinquish(preemption)) return false;
    this.life = 'dead';
    this.directory.died(this);
    if (this.holders === 0) this.directory.released(this);
    return true;
  }

  private notifySuspended(): void {
    try {
      this.evtchn.send(this.suspendPort);
    } catch (error) {
      if (!(error instanceof XenError)) throw error; // the port may have been closed since
    }
  }
}
