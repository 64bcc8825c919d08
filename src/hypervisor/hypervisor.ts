/**
 * The hypervisor: the machine's memory, the domains, and the ways in. It does no I/O and knows no time: whoever drives it
 * brings memory extents, runs operations in slices, and hands over what event channels deliver to dom0.
 */

import { XEN_DOMCTL_CDF_hvm, XEN_DOMCTL_CDF_xs_domain, XEN_X86_EMU_PIT } from '../abi/xen/domctl.js';
import { EVTCHN_FIFO_NR_CHANNELS } from '../abi/xen/event-channel.js';
import { VIRQ_ARCH_0, VIRQ_CONSOLE, VIRQ_DOM_EXC, VIRQ_PCPU_STATE, VIRQ_TIMER } from '../abi/xen/xen.js';
import type { Hypercalls } from '../boundary/hypercalls.js';
import { XenError } from '../boundary/xen-error.js';
import { ControlDomainCalls } from './control-domain-calls.js';
import { Domain, type DomainConfig, type DomainDirectory } from './domain.js';
import { type CreateDomainConfig, checkDomainConfig } from './domain-creation.js';
import { DomainTable } from './domain-table.js';
import { createHvmState } from './hvm-state.js';
import { type ExtentSource, MachineMemory } from './machine-memory.js';

/**
 * dom0's kernel has bound its timer, its IPIs, its console and its XenStore before any process gets a port: with one
 * vCPU, a real dom0 hands out 16 first.
 */
const DEFAULT_KERNEL_PORTS = 15;

/** Virtual interrupts that dom0's kernel listens to itself: time, its console, processors' hotplug, machine checks. */
const KERNEL_VIRQS = [VIRQ_TIMER, VIRQ_CONSOLE, VIRQ_PCPU_STATE, VIRQ_ARCH_0];

export interface HypervisorOptions {
  readonly extents: ExtentSource;
  /** Ports of dom0, from 1 on, that its kernel keeps to itself. */
  readonly kernelPorts?: number;
  readonly dom0Vcpus?: number;
}

export class Hypervisor implements DomainDirectory {
  readonly machine: MachineMemory;
  readonly domains = new DomainTable();
  readonly dom0: Domain;
  private readonly globalVirqHandlers = new Map<number, Domain>();

  constructor(options: HypervisorOptions) {
    this.machine = new MachineMemory(options.extents);
    this.dom0 = this.addDomain({
      domid: 0,
      kind: 'control',
      maxVcpus: options.dom0Vcpus ?? 1,
      emulationFlags: XEN_X86_EMU_PIT,
      evtchn: { nrChannels: EVTCHN_FIFO_NR_CHANNELS },
    });
    this.dom0.createVcpus();
    this.dom0.nrOnlineVcpus = this.dom0.nrVcpus;
    this.dom0.unpause();
    this.dom0.evtchn.reserveForKernel(options.kernelPorts ?? DEFAULT_KERNEL_PORTS, KERNEL_VIRQS);
  }

  /** What dom0's kernel may ask for. */
  callsOfDom0(): Hypercalls {
    return new ControlDomainCalls(this, this.dom0);
  }

  /**
   * Binds VIRQ_DOM_EXC to a port of dom0's kernel, for a host with a XenStore of its own; without, an unmodified
   * xenstored binds it. The port is told of every domain that shuts down, dies or is gone.
   */
  claimDomExc(port = 1): number {
    return this.dom0.evtchn.bindVirq(VIRQ_DOM_EXC, 0, port);
  }

  /**
   * A new domain, paused, without memory or vCPUs.
   * @param wanted its domid, or 0 for the next free one
   * @throws XenError EEXIST, ENOMEM, EINVAL, EOPNOTSUPP, ESRCH
   */
  createDomain(wanted: number, config: CreateDomainConfig): Domain {
    const domid = this.domains.chooseDomid(wanted);
    checkDomainConfig(config);
    return this.addDomain({
      domid,
      kind: config.flags & XEN_DOMCTL_CDF_hvm ? 'hvm' : 'pv',
      maxVcpus: config.max_vcpus,
      handle: config.handle,
      ssidref: config.ssidref,
      emulationFlags: config.arch.emulation_flags,
      isXenstore: (config.flags & XEN_DOMCTL_CDF_xs_domain) !== 0,
      evtchn: { maxPort: config.max_evtchn_port },
    });
  }

  /** A domain whose resources another one wants to map. @throws XenError ESRCH, EPERM */
  resourceOwner(caller: Domain, domid: number): Domain {
    const domain = this.domains.getRemote(domid, caller);
    if (caller.kind !== 'control') throw new XenError('EPERM', `domain ${caller.domid} may not map others' resources`);
    return domain;
  }

  /** @throws XenError EINVAL where the domain is dying: it would never be told to let go */
  setGlobalVirqHandler(virq: number, domain: Domain): void {
    if (domain.isDying) throw new XenError('EINVAL', `domain ${domain.domid} is dying`);
    this.globalVirqHandlers.set(virq, domain);
  }

  epoch(domid: number): number {
    return this.domains.epoch(domid);
  }

  raiseDomExc(): void {
    (this.globalVirqHandlers.get(VIRQ_DOM_EXC) ?? this.dom0).evtchn.raiseVirq(VIRQ_DOM_EXC);
  }

  died(domain: Domain): void {
    for (const [virq, handler] of this.globalVirqHandlers) {
      if (handler === domain) this.globalVirqHandlers.delete(virq);
    }
    this.raiseDomExc();
  }

  released(domain: Domain): void {
    this.domains.remove(domain);
    this.raiseDomExc();
  }

  private addDomain(config: DomainConfig): Domain {
    const domain = new Domain(this.machine, this, config);
    if (domain.kind === 'hvm') domain.becomeHvm(createHvmState(domain));
    this.domains.add(domain);
    return domain;
  }
}
