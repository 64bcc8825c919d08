/**
 * A domain's interrupt lines, as its device models drive them: ISA lines, PCI INTx pins with their links, MSIs, and events
 * injected into vCPUs. Several sources share a GSI, so each counts who holds it up; the sink hears of edges only.
 *
 *     ISA line n ──────────────────────────────┐
 *     PCI device, pin ──┬─ GSI 16–47 (I/O APIC)│
 *                       └─ link 0–3 ─ route ───┴─> GSI 1–15 (I/O APIC and 8259s)
 *
 * Trusts its callers to have checked line numbers (`assert` otherwise); MSI contents are checked here.
 *
 * @spec xen:arch/x86/hvm/irq.c
 */
import { XenError } from '../../boundary/xen-error.js';
import { InterruptRecord, type InterruptSink } from './interrupt-sink.js';
import { decodeMsi } from './msi.js';

export const NR_ISA_IRQS = 16;
export const NR_PCI_DEVICES = 32;
export const NR_PCI_PINS = 4;
export const NR_PCI_LINKS = 4;
const NR_GSIS = 48;
const FIRST_PCI_GSI = 16;
/** ISA line 0, the timer, is wired to input 2 of the I/O APIC. */
const TIMER_GSI = 2;

/** pirqs of an ordinary domain: the machine's 24 GSIs and 32 more. */
const NR_PIRQS = 56;

/** An event for a vCPU, which takes it when it next runs. */
export interface InjectedEvent {
  readonly vector: number;
  readonly type: number;
  readonly insnLen: number;
  readonly errorCode: number;
  readonly cr2: bigint;
}

export class InterruptLines {
  private readonly isa = new Uint8Array(NR_ISA_IRQS);
  private readonly pins = new Uint8Array(NR_PCI_DEVICES * NR_PCI_PINS);
  private readonly gsiCounts = new Uint16Array(NR_GSIS);
  private readonly linkCounts = new Uint16Array(NR_PCI_LINKS);
  /** The ISA line that a link leads to, 0 for none. */
  private readonly routes = new Uint8Array(NR_PCI_LINKS);
  private readonly events = new Map<number, InjectedEvent>();
  /** The one pirq that stands for emulated MSIs, once there was one. */
  private msiPirq = 0;

  constructor(public sink: InterruptSink = new InterruptRecord()) {}

  setIsaIrq(irq: number, isHigh: boolean): void {
    check(irq, NR_ISA_IRQS);
    if ((this.isa[irq] === 1) === isHigh) return;
    this.isa[irq] = isHigh ? 1 : 0;
    const gsi = irq === 0 ? TIMER_GSI : irq;
    if (isHigh) {
      if (this.gsiCounts[gsi]!++ === 0) this.raise(gsi, irq);
    } else if (--this.gsiCounts[gsi]! === 0) {
      this.sink.picChanged(irq, false);
    }
  }

  setPciIntx(device: number, pin: number, isHigh: boolean): void {
    check(device, NR_PCI_DEVICES);
    check(pin, NR_PCI_PINS);
    const index = device * NR_PCI_PINS + pin;
    if ((this.pins[index] === 1) === isHigh) return;
    this.pins[index] = isHigh ? 1 : 0;
    const gsi = FIRST_PCI_GSI + ((device * 4 + (device >>> 3) + pin) & 31);
    const link = (device + pin) & 3;
    const irq = this.routes[link]!;
    if (isHigh) {
      if (this.gsiCounts[gsi]!++ === 0) this.sink.gsiRaised(gsi);
      if (this.linkCounts[link]!++ === 0 && irq !== 0 && this.gsiCounts[irq]!++ === 0) this.raise(irq, irq);
    } else {
      this.gsiCounts[gsi]!--;
      if (--this.linkCounts[link]! === 0 && irq !== 0 && --this.gsiCounts[irq]! === 0) this.sink.picChanged(irq, false);
    }
  }

  /** Leads a link to an ISA line, 0 to none. A link that is up takes its level along. */
  setPciLinkRoute(link: number, irq: number): void {
    check(link, NR_PCI_LINKS);
    check(irq, NR_ISA_IRQS);
    const old = this.routes[link]!;
    if (old === irq) return;
    this.routes[link] = irq;
    if (this.linkCounts[link] === 0) return;
    if (old !== 0 && --this.gsiCounts[old]! === 0) this.sink.picChanged(old, false);
    if (irq !== 0 && this.gsiCounts[irq]!++ === 0) this.raise(irq, irq);
  }

  /** @throws XenError EINVAL, ERANGE, EBUSY, ESRCH */
  injectMsi(addr: bigint, data: number): void {
    const msi = decodeMsi(addr, data);
    if ('pirq' in msi) {
      this.sendMsiPirq(msi.pirq);
      return;
    }
    const isTaken = this.sink.deliverMsi(msi);
    if (!isTaken && msi.delivery === 'lowest-priority') throw new XenError('ESRCH', 'no local APIC takes the MSI');
  }

  /** One event waits for a vCPU at a time. @throws XenError EBUSY */
  injectEvent(vcpuId: number, event: InjectedEvent): void {
    if (this.events.has(vcpuId)) throw new XenError('EBUSY', `an event waits for vCPU ${vcpuId} already`);
    this.events.set(vcpuId, event);
    this.sink.eventPending(vcpuId);
  }

  /** The event that waits for a vCPU, for the engine that runs it; it waits no longer. */
  takeEvent(vcpuId: number): InjectedEvent | undefined {
    const event = this.events.get(vcpuId);
    this.events.delete(vcpuId);
    return event;
  }

  /** Whether a GSI is held up: what a level-triggered input asks again after an end of interrupt. */
  isGsiHigh(gsi: number): boolean {
    return this.gsiCounts[gsi]! > 0;
  }

  /** How many sources hold a GSI up. */
  gsiAssertCount(gsi: number): number {
    return this.gsiCounts[gsi] ?? 0;
  }

  /** The ISA lines and the INTx pins that are held up, ascending; pin 0 is INTA. */
  asserted(): { isa: number[]; intx: { device: number; pin: number }[] } {
    const isa = [...this.isa.keys()].filter((irq) => this.isa[irq] === 1);
    const intx = [...this.pins.keys()]
      .filter((index) => this.pins[index] === 1)
      .map((index) => ({ device: Math.floor(index / NR_PCI_PINS), pin: index % NR_PCI_PINS }));
    return { isa, intx };
  }

  linkRoute(link: number): number {
    return this.routes[link] ?? 0;
  }

  private raise(gsi: number, picIrq: number): void {
    this.sink.gsiRaised(gsi);
    this.sink.picChanged(picIrq, true);
  }

  /** No guest can bind a pirq to an event channel here, so nothing is sent; the numbers are kept as Xen keeps them. */
  private sendMsiPirq(pirq: number): void {
    if (this.msiPirq === pirq) return;
    if (pirq >= NR_PIRQS) throw new XenError('EINVAL', `no pirq ${pirq}`);
    if (this.msiPirq !== 0) throw new XenError('EBUSY', `pirq ${this.msiPirq} stands for emulated MSIs`);
    this.msiPirq = pirq;
  }
}

function check(index: number, limit: number): void {
  if (index >= limit) throw new Error(`interrupt line ${index} of ${limit}`);
}
