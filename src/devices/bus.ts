/**
 * The machine's bus: finds who answers an access and cuts the access to what they take. Reads of nothing give all ones,
 * writes to nothing are dropped, and an access that straddles two devices is split between them.
 *
 * The guest is hostile: it may move BARs anywhere, also over one another. The first to have an address keeps it; a
 * refused mapping is counted and leaves the BAR without an address.
 */
import type { RangeClaims } from './claims.js';
import { allOnes, type PciDevice, type RegisterBlock, type RegisterSize } from './device.js';

interface MemoryWindow {
  readonly first: number;
  readonly length: number;
  readonly block: RegisterBlock;
}

export class Bus {
  /** Index + 1 into `portWindows` by port. */
  private readonly portMap = new Uint8Array(0x10000);
  private readonly portWindows: { first: number; count: number; block: RegisterBlock }[] = [];
  /** Sorted by first address, without overlaps. */
  private readonly memory: MemoryWindow[] = [];
  private readonly functions = new Map<number, PciDevice>();
  /** Mappings that were refused: overlaps, and what the host would not give. */
  nrRefused = 0;

  /** @param claims told about every range that comes or goes, so that the guest's accesses arrive here */
  constructor(private readonly claims: RangeClaims) {}

  /** Ports are fixed: they stay for the machine's life. */
  addPorts(first: number, count: number, block: RegisterBlock): void {
    if (this.portMap.subarray(first, first + count).some((slot) => slot !== 0)) {
      throw new Error(`ports of ${block.name} are taken`);
    }
    this.portWindows.push({ first, count, block });
    this.portMap.fill(this.portWindows.length, first, first + count);
    this.claims.mapPorts(first, first + count - 1);
  }

  /** @returns false where the addresses are taken or the host refuses */
  mapMemory(first: number, length: number, block: RegisterBlock): boolean {
    const at = this.memory.findIndex((window) => window.first >= first);
    const index = at < 0 ? this.memory.length : at;
    const before = this.memory[index - 1];
    const after = this.memory[index];
    const overlaps = (before && before.first + before.length > first) || (after && after.first < first + length);
    if (overlaps || !this.claims.mapMemory(first, first + length - 1)) {
      this.nrRefused++;
      return false;
    }
    this.memory.splice(index, 0, { first, length, block });
    return true;
  }

  /** Ends a mapping that `mapMemory` granted. */
  unmapMemory(first: number): void {
    const index = this.memory.findIndex((window) => window.first === first);
    const window = this.memory[index];
    if (!window) throw new Error('unmapMemory of what is not mapped');
    this.memory.splice(index, 1);
    this.claims.unmapMemory(window.first, window.first + window.length - 1);
  }

  addPciFunction(sbdf: number, device: PciDevice): void {
    if (this.functions.has(sbdf)) throw new Error('two devices at one PCI address');
    this.functions.set(sbdf, device);
    this.claims.mapPci(sbdf);
  }

  readPort(port: number, size: RegisterSize): number {
    const window = this.portWindows[(this.portMap[port] as number) - 1];
    if (window && size <= window.block.maxSize && port + size <= window.first + window.count) {
      return window.block.read(port - window.first, size) >>> 0;
    }
    return size === 1 ? 0xff : this.splitRead(port, size, (p, s) => this.readPort(p, s));
  }

  writePort(port: number, size: RegisterSize, value: number): void {
    const window = this.portWindows[(this.portMap[port] as number) - 1];
    if (window && size <= window.block.maxSize && port + size <= window.first + window.count) {
      window.block.write(port - window.first, size, value);
    } else if (size > 1) {
      this.splitWrite(port, size, value, (p, s, v) => this.writePort(p, s, v));
    }
  }

  readMemory(address: number, size: RegisterSize): number {
    const window = this.windowAt(address);
    if (window && size <= window.block.maxSize && address + size <= window.first + window.length) {
      return window.block.read(address - window.first, size) >>> 0;
    }
    return size === 1 ? 0xff : this.splitRead(address, size, (a, s) => this.readMemory(a, s));
  }

  writeMemory(address: number, size: RegisterSize, value: number): void {
    const window = this.windowAt(address);
    if (window && size <= window.block.maxSize && address + size <= window.first + window.length) {
      window.block.write(address - window.first, size, value);
    } else if (size > 1) {
      this.splitWrite(address, size, value, (a, s, v) => this.writeMemory(a, s, v));
    }
  }

  readPci(sbdf: number, register: number, size: RegisterSize): number {
    const device = this.functions.get(sbdf);
    return device ? device.readConfig(register, size) >>> 0 : allOnes(size);
  }

  writePci(sbdf: number, register: number, size: RegisterSize, value: number): void {
    this.functions.get(sbdf)?.writeConfig(register, size, value);
  }

  private windowAt(address: number): MemoryWindow | undefined {
    let low = 0;
    let high = this.memory.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.memory[middle] as MemoryWindow).first <= address) low = middle + 1;
      else high = middle;
    }
    const window = this.memory[low - 1];
    return window && address < window.first + window.length ? window : undefined;
  }

  private splitRead(at: number, size: RegisterSize, read: (at: number, size: RegisterSize) => number): number {
    const half = (size / 2) as RegisterSize;
    return (read(at, half) + read(at + half, half) * 2 ** (8 * half)) >>> 0;
  }

  private splitWrite(
    at: number,
    size: RegisterSize,
    value: number,
    write: (at: number, size: RegisterSize, value: number) => void,
  ): void {
    const half = (size / 2) as RegisterSize;
    write(at, half, (value & allOnes(half)) >>> 0);
    write(at + half, half, value >>> (8 * half));
  }
}
