/**
 * Event channels of one domain: ports, what they are bound to, and whether a notification is pending.
 *
 *            alloc_unbound                     the other side binds
 *     free ────────────────> unbound ───────────────────────────────> interdomain
 *      ^ │                    ^   │ close           the other side closes │   │ close
 *      │ │                    └───┼─────────────────────────────────────-─┘   │
 *      │ ├─ bind_interdomain ─────┼───────────────────────────> interdomain   │
 *      │ ├─ bind_virq ──> virq    │                                           │
 *      │ └─ bind_ipi ───> ipi     v                                           v
 *      └────────────────────── close ─────────────────────────────────────────┘
 *
 * A port may be consumed by Xen itself (the synchronous and buffered channels of ioreq servers): its owner can neither
 * close nor send it, and what the other end sends calls a function here.
 *
 * Pending and masked bits are held here, not in guest memory. A port starts masked, as after a kernel's boot: whoever
 * handles upcalls unmasks it once it knows what to do with it, and gets what became pending meanwhile.
 *
 * Ports and domids come from guests; nothing here trusts them. Cost: constant for every operation, and memory in
 * proportion to the highest port in use.
 *
 * @spec xen:common/event_channel.c, xen:public/event_channel.h
 * @deviates an unbound port waits for one domain, not for whichever has its domid by then: Xen compares domids only, and
 *   lets a later domain bind what was left open for an earlier one
 */
import { EVTCHN_2L_NR_CHANNELS } from '../abi/xen/event-channel.js';
import { NR_VIRQS } from '../abi/xen/xen.js';
import type { Preemption } from '../boundary/operation.js';
import { XenError } from '../boundary/xen-error.js';
import type { Domain } from './domain.js';
import { IndexSet } from './index-set.js';
import { virqIsGlobal } from './virqs.js';

/** What Xen itself does when a channel that it consumes is notified (ioreq completion). */
export type XenConsumer = (vcpuId: number) => void;

export type ChannelState = 'free' | 'reserved' | 'unbound' | 'interdomain' | 'virq' | 'ipi';

/** What EVTCHNOP_status tells. */
export type ChannelStatus = { readonly vcpuId: number } & (
  | { readonly state: 'free' | 'reserved' | 'ipi' }
  | { readonly state: 'unbound'; readonly remoteDomid: number }
  | { readonly state: 'interdomain'; readonly remoteDomid: number; readonly remotePort: number }
  | { readonly state: 'virq'; readonly virq: number }
);

const FREE = 0;
const RESERVED = 1;
const UNBOUND = 2;
const INTERDOMAIN = 3;
const VIRQ = 4;
const IPI = 5;
const STATES: readonly ChannelState[] = ['free', 'reserved', 'unbound', 'interdomain', 'virq', 'ipi'];

const PENDING = 1;
const MASKED = 2;

/** Xen allocates channels in buckets of this size; a port above the last bucket is invalid, one below merely free. */
const BUCKET_SIZE = 64;

/** Stands for whichever of its ports a kernel has bound a virtual interrupt to: nothing ever becomes pending there. */
const KERNEL_PORT = 0;

/** Loops over ports look for preemption this often. */
const PREEMPT_INTERVAL = 64;

export interface EventChannelLimits {
  /** Ports exist below this: what the domain's event ABI can address. */
  readonly nrChannels?: number;
  /** DOMCTL createdomain max_evtchn_port: the highest port the domain may use. */
  readonly maxPort?: number;
}

export class EventChannels {
  /** Told of a port that becomes pending while unmasked, or is unmasked while pending. */
  onUpcall: ((port: number) => void) | undefined;

  /** Ports from here on are refused with ENOSPC. */
  private readonly nrPorts: number;
  private readonly freePorts = new IndexSet(BUCKET_SIZE, 'full');
  private states = new Uint8Array(BUCKET_SIZE);
  private bits = new Uint8Array(BUCKET_SIZE).fill(MASKED);
  private vcpuIds = new Uint16Array(BUCKET_SIZE);
  /** unbound: the domid that may bind; virq: its number; interdomain: the remote port. */
  private details = new Uint32Array(BUCKET_SIZE);
  /** unbound: which of the domains that use a domid one after the other may bind. */
  private epochs = new Uint32Array(BUCKET_SIZE);
  private readonly remotes = new Map<number, Domain>();
  private readonly consumers = new Map<number, XenConsumer>();
  private readonly virqPorts = new Map<number, number>();
  private nrActivePorts = 0;
  /** Where an EVTCHNOP_reset in progress goes on; 0 when none is. */
  private resetPort = 0;
  private destroyPort = -1;

  constructor(
    readonly domain: Domain,
    limits: EventChannelLimits = {},
  ) {
    this.nrPorts = Math.min(limits.nrChannels ?? EVTCHN_2L_NR_CHANNELS, (limits.maxPort ?? Infinity) + 1);
    this.freePorts.delete(0);
    this.states[0] = RESERVED;
  }

  /** Ports in use, those consumed by Xen included. */
  get nrActive(): number {
    return this.nrActivePorts;
  }

  /** Ports that Xen consumes. */
  get nrXen(): number {
    return this.consumers.size;
  }

  /** Whether the port is within the buckets allocated so far. */
  isValid(port: number): boolean {
    return port >= 0 && port < this.states.length;
  }

  /**
   * Sets ports 1 to `last` aside for the domain's own kernel, as if it had bound them: nobody gets them unless the
   * port is named. A dom0 whose first port for a process is 16 has done that. The virtual interrupts that the kernel
   * listens to are bound among them, and nobody else can bind those.
   */
  reserveForKernel(last: number, virqs: readonly number[] = []): void {
    for (const virq of virqs) {
      const nrVcpus = virqIsGlobal(virq) ? 1 : this.domain.nrVcpus;
      for (let vcpuId = 0; vcpuId < nrVcpus; vcpuId++) this.virqPorts.set(virqKey(virq, vcpuId), KERNEL_PORT);
    }
    this.growTo(last);
    for (let port = 1; port <= last; port++) {
      if (this.states[port] !== FREE) throw new Error(`port ${port} is in use already`);
      this.states[port] = RESERVED;
      this.freePorts.delete(port);
    }
  }

  /**
   * EVTCHNOP_alloc_unbound in this domain, for `remoteDomid` to bind.
   * @param atPort a certain port (a free one, or one reserved for the kernel) instead of the lowest free
   * @throws XenError ENOSPC, EINVAL
   */
  allocUnbound(remoteDomid: number, atPort = 0): number {
    const port = this.allocate(atPort);
    this.become(port, UNBOUND, 0, remoteDomid);
    this.epochs[port] = this.domain.directory.epoch(remoteDomid);
    return port;
  }

  /** A port of this domain that Xen consumes: `remoteDomid` may bind it; its notifications call `consumer`. */
  allocUnboundXen(vcpuId: number, remoteDomid: number, consumer: XenConsumer): number {
    const port = this.allocUnbound(remoteDomid);
    this.vcpuIds[port] = vcpuId;
    this.consumers.set(port, consumer);
    return port;
  }

  /** Frees a port that Xen consumes, whatever its state. */
  freeXen(port: number): void {
    if (!this.isValid(port) || this.states[port] === FREE) return; // the domain is dying and its ports went first
    this.close(port);
  }

  /** Notifies the other end of a port that Xen consumes (Xen's notify_via_xen_event_channel). */
  notifyViaXen(port: number): void {
    if (!this.isValid(port) || this.states[port] !== INTERDOMAIN) return;
    (this.remotes.get(port) as Domain).evtchn.setPending(this.details[port] as number);
  }

  /**
   * EVTCHNOP_bind_interdomain: a local port for the other end of `remotePort`.
   * @param atPort a certain local port instead of the lowest free
   * @throws XenError EINVAL, ENOSPC
   */
  bindInterdomain(remote: Domain, remotePort: number, atPort = 0): number {
    const theirs = remote.evtchn;
    const port = this.allocate(atPort);
    if (!theirs.mayBind(remotePort, this.domain)) {
      this.unallocate(port);
      throw new XenError(
        'EINVAL',
        `port ${remotePort} of domain ${remote.domid} is not for domain ${this.domain.domid}`,
      );
    }
    this.become(port, INTERDOMAIN, 0, remotePort);
    this.remotes.set(port, remote);
    theirs.states[remotePort] = INTERDOMAIN;
    theirs.details[remotePort] = port;
    theirs.remotes.set(remotePort, this.domain);
    // What was sent to the unbound port was dropped: a spurious notification makes up for it.
    this.setPending(port);
    return port;
  }

  /** EVTCHNOP_bind_virq. @throws XenError EINVAL, ENOENT, EEXIST, ENOSPC */
  bindVirq(virq: number, vcpuId: number, atPort = 0): number {
    if (virq >= NR_VIRQS) throw new XenError('EINVAL', `no virtual interrupt ${virq}`);
    if (virqIsGlobal(virq) && vcpuId !== 0) throw new XenError('EINVAL', `virtual interrupt ${virq} is for vCPU 0`);
    this.checkVcpu(vcpuId);
    const key = virqKey(virq, vcpuId);
    if (this.virqPorts.has(key)) throw new XenError('EEXIST', `virtual interrupt ${virq} is bound already`);
    const port = this.allocate(atPort);
    this.become(port, VIRQ, vcpuId, virq);
    this.virqPorts.set(key, port);
    return port;
  }

  /** EVTCHNOP_bind_ipi. @throws XenError ENOENT, ENOSPC */
  bindIpi(vcpuId: number): number {
    this.checkVcpu(vcpuId);
    const port = this.allocate(0);
    this.become(port, IPI, vcpuId, 0);
    return port;
  }

  /** EVTCHNOP_close by the domain itself. @throws XenError EINVAL for a port that isn't its to close */
  closeByGuest(port: number): void {
    this.checkValid(port);
    if (this.consumers.has(port)) throw new XenError('EINVAL', `port ${port} is consumed by Xen`);
    if ((this.states[port] as number) <= RESERVED) throw new XenError('EINVAL', `port ${port} is closed`);
    this.close(port);
  }

  /** EVTCHNOP_send. @throws XenError EINVAL */
  send(port: number): void {
    this.checkValid(port);
    if (this.consumers.has(port)) throw new XenError('EINVAL', `port ${port} is consumed by Xen`);
    switch (this.states[port]) {
      case INTERDOMAIN: {
        const theirs = (this.remotes.get(port) as Domain).evtchn;
        const remotePort = this.details[port] as number;
        const consumer = theirs.consumers.get(remotePort);
        if (consumer) consumer(theirs.vcpuIds[remotePort] as number);
        else theirs.setPending(remotePort);
        return;
      }
      case IPI:
        this.setPending(port);
        return;
      case UNBOUND:
        return; // nobody is there yet: dropped, and made up for when somebody binds
      default:
        throw new XenError('EINVAL', `port ${port} cannot be sent`);
    }
  }

  /** EVTCHNOP_status. @throws XenError EINVAL, EACCES */
  status(port: number): ChannelStatus {
    this.checkValid(port);
    if (this.consumers.has(port)) throw new XenError('EACCES', `port ${port} is consumed by Xen`);
    const vcpuId = this.vcpuIds[port] as number;
    const detail = this.details[port] as number;
    const state = STATES[this.states[port] as number] as ChannelState;
    switch (state) {
      case 'unbound':
        return { state, vcpuId, remoteDomid: detail };
      case 'interdomain':
        return { state, vcpuId, remoteDomid: (this.remotes.get(port) as Domain).domid, remotePort: detail };
      case 'virq':
        return { state, vcpuId, virq: detail };
      default:
        return { state, vcpuId };
    }
  }

  /** EVTCHNOP_bind_vcpu. @throws XenError ENOENT, EINVAL */
  bindVcpu(port: number, vcpuId: number): void {
    this.checkVcpu(vcpuId);
    this.checkValid(port);
    const state = this.states[port];
    const movable =
      state === UNBOUND || state === INTERDOMAIN || (state === VIRQ && virqIsGlobal(this.details[port] as number));
    if (this.consumers.has(port) || !movable) throw new XenError('EINVAL', `port ${port} stays with its vCPU`);
    this.vcpuIds[port] = vcpuId;
  }

  /** EVTCHNOP_unmask. @throws XenError EINVAL */
  unmask(port: number): void {
    this.checkValid(port);
    if (!this.isUsable(port)) return;
    this.bits[port]! &= ~MASKED;
    if (this.bits[port]! & PENDING) this.onUpcall?.(port);
  }

  /** The domain's kernel masks a port (it writes shared memory; there is no hypercall for it). */
  mask(port: number): void {
    if (this.isValid(port)) this.bits[port]! |= MASKED;
  }

  /** The domain's kernel takes the notification (likewise). @returns whether there was one */
  clearPending(port: number): boolean {
    const was = this.isPending(port);
    if (was) this.bits[port]! &= ~PENDING;
    return was;
  }

  isPending(port: number): boolean {
    return this.isValid(port) && (this.bits[port]! & PENDING) !== 0;
  }

  isMasked(port: number): boolean {
    return !this.isValid(port) || (this.bits[port]! & MASKED) !== 0;
  }

  /** Raises a virtual interrupt of this domain, where it is bound. Global ones go to where vCPU 0 bound them. */
  raiseVirq(virq: number, vcpuId = 0): void {
    const port = this.virqPorts.get(virqKey(virq, virqIsGlobal(virq) ? 0 : vcpuId));
    if (port !== undefined) this.setPending(port);
  }

  /**
   * EVTCHNOP_reset: closes every port but Xen's own.
   * @param resuming whether this continues a reset that was preempted
   * @returns false when preempted
   * @throws XenError EBUSY where another reset is in progress
   */
  reset(resuming: boolean, preemption: Preemption): boolean {
    if (resuming ? this.resetPort === 0 : this.resetPort !== 0) throw new XenError('EBUSY', 'a reset is in progress');
    for (let port = Math.max(this.resetPort, 1); port < this.states.length; port++) {
      if (this.nrActivePorts === this.consumers.size) break;
      if ((this.states[port] as number) > RESERVED && !this.consumers.has(port)) this.close(port);
      if (port % PREEMPT_INTERVAL === 0 && preemption.due()) {
        this.resetPort = port + 1;
        return false;
      }
    }
    this.resetPort = 0;
    return true;
  }

  /** Closes everything, Xen's own ports too, for a dying domain. @returns false when preempted: call again */
  destroy(preemption: Preemption): boolean {
    if (this.destroyPort < 0) this.destroyPort = this.states.length - 1;
    while (this.destroyPort > 0) {
      const port = this.destroyPort--;
      if ((this.states[port] as number) > RESERVED) this.close(port);
      if (port % PREEMPT_INTERVAL === 0 && preemption.due()) return false;
    }
    return true;
  }

  /** Whether `remotePort` waits for exactly this domain: not for one that had its domid before. */
  private mayBind(remotePort: number, binder: Domain): boolean {
    return (
      this.isValid(remotePort) &&
      this.states[remotePort] === UNBOUND &&
      this.details[remotePort] === binder.domid &&
      this.epochs[remotePort] === binder.epoch
    );
  }

  private close(port: number): void {
    const state = this.states[port];
    if (state === VIRQ) {
      const virq = this.details[port] as number;
      this.virqPorts.delete(virqKey(virq, virqIsGlobal(virq) ? 0 : (this.vcpuIds[port] as number)));
    } else if (state === INTERDOMAIN) {
      const remote = this.remotes.get(port) as Domain;
      const theirs = remote.evtchn;
      const remotePort = this.details[port] as number;
      this.remotes.delete(port);
      theirs.remotes.delete(remotePort);
      theirs.states[remotePort] = UNBOUND;
      theirs.details[remotePort] = this.domain.domid;
      theirs.epochs[remotePort] = this.domain.epoch;
    }
    this.consumers.delete(port);
    this.states[port] = FREE;
    this.bits[port] = MASKED;
    this.vcpuIds[port] = 0;
    this.nrActivePorts--;
    this.freePorts.add(port);
  }

  /** Xen's evtchn_port_set_pending: an edge reaches the domain when it is neither pending nor masked. */
  private setPending(port: number): void {
    if (!this.isUsable(port) || this.bits[port]! & PENDING) return;
    this.bits[port]! |= PENDING;
    if (!(this.bits[port]! & MASKED)) this.onUpcall?.(port);
  }

  private isUsable(port: number): boolean {
    return (this.states[port] as number) > RESERVED && !this.consumers.has(port);
  }

  private become(port: number, state: number, vcpuId: number, detail: number): void {
    this.states[port] = state;
    this.vcpuIds[port] = vcpuId;
    this.details[port] = detail;
  }

  /** Takes the lowest free port, or a certain one. @throws XenError EINVAL, ENOSPC, EBUSY */
  private allocate(atPort: number): number {
    if (this.domain.isDying) throw new XenError('EINVAL', `domain ${this.domain.domid} is dying`);
    let port = atPort;
    if (atPort === 0) {
      if (this.freePorts.count === 0) this.growTo(this.states.length);
      port = this.freePorts.lowestFrom(1);
      if (port < 0 || port >= this.nrPorts) throw new XenError('ENOSPC', `domain ${this.domain.domid} is out of ports`);
    } else {
      if (atPort >= this.nrPorts) throw new XenError('ENOSPC', `port ${atPort} is above the domain's limit`);
      this.growTo(atPort);
      const state = this.states[atPort] as number;
      if (state > RESERVED) throw new XenError('EBUSY', `port ${atPort} is in use`);
    }
    if (this.states[port] === FREE) this.freePorts.delete(port);
    this.nrActivePorts++;
    return port;
  }

  private unallocate(port: number): void {
    this.nrActivePorts--;
    if (this.states[port] === FREE) this.freePorts.add(port);
  }

  /** Makes `port` valid, where the domain's ABI has it; doubling, so that growing costs nothing in the long run. */
  private growTo(port: number): void {
    const size = this.states.length;
    const limit = Math.ceil(this.nrPorts / BUCKET_SIZE) * BUCKET_SIZE;
    if (port < size || size >= limit) return;
    let wanted = size;
    while (wanted <= port) wanted *= 2;
    wanted = Math.min(wanted, limit);
    this.states = grown(this.states, wanted);
    this.bits = grown(this.bits, wanted).fill(MASKED, size);
    this.vcpuIds = grown(this.vcpuIds, wanted);
    this.details = grown(this.details, wanted);
    this.epochs = grown(this.epochs, wanted);
    this.freePorts.growFull(wanted);
  }

  private checkValid(port: number): void {
    if (!this.isValid(port)) throw new XenError('EINVAL', `no port ${port}`);
  }

  private checkVcpu(vcpuId: number): void {
    if (vcpuId >= this.domain.nrVcpus) throw new XenError('ENOENT', `no vCPU ${vcpuId}`);
  }
}

function virqKey(virq: number, vcpuId: number): number {
  return vcpuId * NR_VIRQS + virq;
}

function grown<A extends Uint8Array<ArrayBuffer> | Uint16Array<ArrayBuffer> | Uint32Array<ArrayBuffer>>(
  from: A,
  size: number,
): A {
  const to = new (from.constructor as new (n: number) => A)(size);
  to.set(from);
  return to;
}
