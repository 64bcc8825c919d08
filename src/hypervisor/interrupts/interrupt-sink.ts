/**
 * Where a domain's interrupt lines lead: the interrupt controllers of whatever runs its vCPUs. Until something does, the
 * record below stands in for a guest that hasn't touched its controllers: local APICs off, nothing delivered, everything
 * counted for tests and the I/O player.
 */

/** @spec xen:arch/x86/include/asm/msi.h, the MSI formats of the processor manuals */
export type MsiDelivery = 'fixed' | 'lowest-priority';

export interface Msi {
  readonly vector: number;
  readonly delivery: MsiDelivery;
  /** A local APIC's id (physical) or a set of them (logical). */
  readonly dest: number;
  readonly isLogical: boolean;
  readonly isLevel: boolean;
}

export interface InterruptSink {
  /** A GSI went from low to high: the edge that the I/O APIC sees. */
  gsiRaised(gsi: number): void;
  /** An input of the 8259 pair went up or down. */
  picChanged(irq: number, isHigh: boolean): void;
  /** @returns whether a local APIC took it */
  deliverMsi(msi: Msi): boolean;
  /** An event waits for a vCPU: see InterruptLines.takeEvent. */
  eventPending(vcpuId: number): void;
}

/** Counts what arrives. */
export class InterruptRecord implements InterruptSink {
  readonly gsiEdges = new Map<number, number>();
  readonly picLevels = new Map<number, boolean>();
  nrMsis = 0;
  lastMsi: Msi | undefined;
  nrEvents = 0;

  gsiRaised(gsi: number): void {
    this.gsiEdges.set(gsi, (this.gsiEdges.get(gsi) ?? 0) + 1);
  }

  picChanged(irq: number, isHigh: boolean): void {
    this.picLevels.set(irq, isHigh);
  }

  deliverMsi(msi: Msi): boolean {
    this.nrMsis++;
    this.lastMsi = msi;
    return false;
  }

  eventPending(): void {
    this.nrEvents++;
  }
}
