/**
 * What a device is to the machine around it: pure register behaviour behind narrow interfaces. No device reads a clock,
 * touches a file or knows Xen; interrupt lines and output are callbacks.
 *
 * Values are unsigned 32-bit numbers. Offsets and sizes come from the guest, but only in the combinations that the bus
 * lets through: sizes up to the region's `maxSize`, accesses that lie within the region.
 */

/** Width of an access in bytes, as a device sees it: the bus splits wider ones. */
export type RegisterSize = 1 | 2 | 4;

/** A range of ports or of memory with registers behind it. */
export interface RegisterBlock {
  /** For diagnostics. */
  readonly name: string;
  /** Widest access the registers take; the bus splits wider ones, lowest address first. */
  readonly maxSize: RegisterSize;
  read(offset: number, size: RegisterSize): number;
  write(offset: number, size: RegisterSize, value: number): void;
}

/** A device at fixed ports. */
export interface PortDevice extends Resettable {
  /** Its ports, each with the registers behind them. */
  readonly ports: readonly { readonly first: number; readonly count: number; readonly block: RegisterBlock }[];
}

/** A device at fixed guest-physical addresses. */
export interface MmioDevice extends Resettable {
  readonly windows: readonly { readonly first: number; readonly length: number; readonly block: RegisterBlock }[];
}

/** A PCI function's configuration space, as the bus asks for it. */
export interface PciDevice extends Resettable {
  readConfig(register: number, size: RegisterSize): number;
  writeConfig(register: number, size: RegisterSize, value: number): void;
}

export interface Resettable {
  /** Back to the state after power-on. */
  reset(): void;
}

/** An interrupt line: called with the new level, only when it changes. */
export type IrqLine = (asserted: boolean) => void;

/** What a read of nothing gives. */
export function allOnes(size: RegisterSize): number {
  return size === 4 ? 0xffffffff : size === 2 ? 0xffff : 0xff;
}
