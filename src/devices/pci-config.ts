/**
 * A PCI function's configuration space (type 0 header, 256 bytes): which bits the guest can write, BAR sizing, and
 * where each BAR is decoded.
 *
 * A BAR has an address while its space is enabled in the command register and the address is neither 0 nor at the very
 * top of the space, which is where BARs end up while software sizes them.
 *
 * @spec PCI Local Bus 3.0, 6.1 and 6.2.5
 */
import { allOnes, type RegisterSize } from './device.js';

const PCI_COMMAND = 0x04;
const PCI_COMMAND_IO = 1;
const PCI_COMMAND_MEMORY = 2;
const PCI_BAR0 = 0x10;
const NR_BARS = 6;

export interface PciBar {
  readonly space: 'io' | 'memory';
  /** Bytes: a power of two, at least 16 (memory) or 4 (ports). */
  readonly size: number;
  readonly prefetchable?: boolean;
}

export interface PciIdentity {
  readonly vendorId: number;
  readonly deviceId: number;
  readonly revision: number;
  /** Base class, sub-class and interface as one 24-bit number: 0x030000 is a VGA display controller. */
  readonly classCode: number;
  readonly subsystemVendorId?: number;
  readonly subsystemId?: number;
  /** 0 for none, 1 for INTA. */
  readonly interruptPin?: number;
  readonly bars?: Readonly<Record<number, PciBar>>;
  /** Further writable registers: offset, mask of one byte, value after reset. */
  readonly registers?: readonly { readonly offset: number; readonly mask: number; readonly value?: number }[];
}

/** Called when a BAR comes to be decoded at an address, or no longer is. */
export type BarListener = (bar: number, address: number | undefined) => void;

const COMMAND_WRITABLE = 0x0547;

export class PciConfigSpace {
  private readonly bytes = new Uint8Array(256);
  private readonly writable = new Uint8Array(256);
  private readonly decoded: (number | undefined)[] = Array.from({ length: NR_BARS }, () => undefined);

  constructor(
    private readonly identity: PciIdentity,
    private readonly onBarChange: BarListener = () => undefined,
  ) {
    this.setMask(PCI_COMMAND, 2, COMMAND_WRITABLE);
    this.setMask(0x0c, 2, 0xffff); // cache line size, latency timer
    this.setMask(0x3c, 1, 0xff); // interrupt line
    for (let i = 0; i < NR_BARS; i++) {
      const bar = identity.bars?.[i];
      if (bar) this.setMask(PCI_BAR0 + 4 * i, 4, -bar.size);
    }
    for (const register of identity.registers ?? []) this.writable[register.offset] = register.mask;
    this.fillDefaults();
  }

  /** Where a BAR is decoded; undefined while it is not. */
  barAddress(bar: number): number | undefined {
    return this.decoded[bar];
  }

  /** Reads beyond the space, or of a width that does not exist, give all ones. */
  read(register: number, size: RegisterSize): number {
    if (!this.isWithin(register, size)) return allOnes(size);
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = value * 256 + (this.bytes[register + i] as number);
    return value;
  }

  write(register: number, size: RegisterSize, value: number): void {
    if (!this.isWithin(register, size)) return;
    for (let i = 0; i < size; i++) {
      const mask = this.writable[register + i] as number;
      const byte = (value >>> (8 * i)) & 0xff;
      this.bytes[register + i] = ((this.bytes[register + i] as number) & ~mask) | (byte & mask);
    }
    const touchesDecoding = register < PCI_BAR0 + 4 * NR_BARS && register + size > PCI_COMMAND;
    if (touchesDecoding) this.updateDecoding();
  }

  reset(): void {
    this.fillDefaults();
    this.updateDecoding();
  }

  private isWithin(register: number, size: number): boolean {
    return register >= 0 && register + size <= 256 && (size === 1 || size === 2 || size === 4);
  }

  private put(offset: number, size: number, value: number): void {
    for (let i = 0; i < size; i++) this.bytes[offset + i] = (value >>> (8 * i)) & 0xff;
  }

  private setMask(offset: number, size: number, mask: number): void {
    for (let i = 0; i < size; i++) this.writable[offset + i] = (mask >>> (8 * i)) & 0xff;
  }

  private fillDefaults(): void {
    const { identity } = this;
    this.bytes.fill(0);
    this.put(0x00, 2, identity.vendorId);
    this.put(0x02, 2, identity.deviceId);
    this.put(0x08, 1, identity.revision);
    this.put(0x09, 3, identity.classCode);
    this.put(0x2c, 2, identity.subsystemVendorId ?? 0);
    this.put(0x2e, 2, identity.subsystemId ?? 0);
    this.put(0x3d, 1, identity.interruptPin ?? 0);
    for (let i = 0; i < NR_BARS; i++) {
      const bar = identity.bars?.[i];
      if (bar) this.put(PCI_BAR0 + 4 * i, 1, bar.space === 'io' ? 1 : bar.prefetchable ? 8 : 0);
    }
    for (const register of identity.registers ?? []) this.put(register.offset, 1, register.value ?? 0);
  }

  private decodeBar(bar: PciBar, index: number): number | undefined {
    const enable = bar.space === 'io' ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
    if ((this.read(PCI_COMMAND, 2) & enable) === 0) return undefined;
    const raw = this.read(PCI_BAR0 + 4 * index, 4);
    const address = (raw & (bar.space === 'io' ? ~3 : ~15)) >>> 0;
    const top = bar.space === 'io' ? 0xffff : 0xffffffff;
    return address === 0 || address + bar.size - 1 >= top ? undefined : address;
  }

  private updateDecoding(): void {
    const moves: [number, number | undefined][] = [];
    for (let i = 0; i < NR_BARS; i++) {
      const bar = this.identity.bars?.[i];
      if (!bar) continue;
      const address = this.decodeBar(bar, i);
      if (address !== this.decoded[i]) moves.push([i, address]);
    }
    // Leave old places before taking new ones: two BARs may be swapping.
    for (const [i] of moves) {
      if (this.decoded[i] === undefined) continue;
      this.decoded[i] = undefined;
      this.onBarChange(i, undefined);
    }
    for (const [i, address] of moves) {
      if (address === undefined) continue;
      this.decoded[i] = address;
      this.onBarChange(i, address);
    }
  }
}
