/**
 * The standard VGA with Bochs VBE registers, as QEMU's `VGA` presents it: PCI function 1234:1111, framebuffer in BAR 0,
 * registers in BAR 2, ports at their legacy places.
 *
 *     BAR 2:  0x400 VGA ports 0x3c0–0x3df     0x500 VBE registers, 16 bits each     0x600 extension registers
 *
 * The guest reaches the framebuffer through its own memory where Xen could move it there; otherwise the accesses arrive
 * at the aperture here.
 */
import {
  allOnes,
  type MmioDevice,
  type PciDevice,
  type PortDevice,
  type RegisterBlock,
  type RegisterSize,
} from '../device.js';
import { PciConfigSpace } from '../pci-config.js';
import { Display, type DisplayMode } from './display.js';
import type { Picture } from './picture.js';
import { LEGACY_WINDOW, LEGACY_WINDOW_SIZE, PlanarMemory } from './planar-memory.js';
import { VbeRegisters } from './vbe-registers.js';
import { VgaRegisters } from './vga-registers.js';
import type { VideoMemory } from './video-memory.js';

const BAR_FRAMEBUFFER = 0;
const BAR_REGISTERS = 2;
const REGISTERS_SIZE = 4096;

const MMIO_VGA_PORTS = 0x400;
const MMIO_VBE = 0x500;
const MMIO_EXTENSION = 0x600;
const EXTENSION_SIZE = 8;
const EXTENSION_BYTE_ORDER = 4;
const LITTLE_ENDIAN = 0x1e1e1e1e;
/** VBE registers that the block at 0x500 has. */
const MMIO_VBE_REGISTERS = 11;

const VBE_INDEX_PORT = 0x1ce;

/** Where BARs come and go; false where an address was refused. */
export interface MemoryMap {
  map(address: number, length: number, block: RegisterBlock): boolean;
  unmap(address: number): void;
}

/** Consecutive rows of the picture, in pixels. */
export interface RowRange {
  readonly first: number;
  readonly count: number;
}

/** What changed since the last refresh. */
export interface Refresh {
  readonly mode: DisplayMode;
  /** The mode, the palette or the place in memory changed: everything is in `rows`. */
  readonly isFull: boolean;
  readonly rows: readonly RowRange[];
  /** Video memory pages that changed, shown or not. */
  readonly nrDirtyPages: number;
}

export class VgaDevice implements PciDevice, PortDevice, MmioDevice {
  readonly ports: PortDevice['ports'];
  readonly windows: MmioDevice['windows'];
  readonly registers = new VgaRegisters();
  readonly vbe: VbeRegisters;
  private readonly legacyWindow: PlanarMemory;
  readonly display: Display;
  private readonly config: PciConfigSpace;
  private readonly blocks: Record<number, RegisterBlock>;
  private readonly mapped = new Set<number>();
  private readonly addresses = new Map<number, number>();
  private shownGeneration = -1;

  /**
   * @param vram its size, a power of two, is that of BAR 0
   * @param memoryMap told where BARs are decoded
   */
  constructor(
    private readonly vram: VideoMemory,
    private readonly memoryMap: MemoryMap,
  ) {
    this.vbe = new VbeRegisters(vram.bytes.length, (nrBytes) => this.clear(nrBytes));
    this.legacyWindow = new PlanarMemory(this.registers, this.vbe, vram);
    this.display = new Display(this.registers, this.vbe, vram.bytes);
    const bars = {
      [BAR_FRAMEBUFFER]: { space: 'memory', size: vram.bytes.length, prefetchable: true },
      [BAR_REGISTERS]: { space: 'memory', size: REGISTERS_SIZE },
    } as const;
    const identity = { vendorId: 0x1234, deviceId: 0x1111, revision: 2, classCode: 0x030000 };
    const subsystem = { subsystemVendorId: 0x1af4, subsystemId: 0x1100 };
    this.config = new PciConfigSpace({ ...identity, ...subsystem, bars }, (bar, at) => this.barMoved(bar, at));
    this.blocks = { [BAR_FRAMEBUFFER]: this.framebufferBlock(), [BAR_REGISTERS]: this.registerBlock() };
    this.ports = this.portBlocks();
    this.windows = [{ first: LEGACY_WINDOW, length: LEGACY_WINDOW_SIZE, block: this.legacyWindow }];
  }

  readConfig(register: number, size: RegisterSize): number {
    return this.config.read(register, size);
  }

  writeConfig(register: number, size: RegisterSize, value: number): void {
    this.config.write(register, size, value);
  }

  /** Where a BAR is decoded; undefined while it is not. */
  barAddress(bar: number): number | undefined {
    return this.config.barAddress(bar);
  }

  reset(): void {
    this.config.reset();
    this.registers.reset();
    this.vbe.reset();
    this.legacyWindow.reset();
  }

  /** Finds what changed since the last call. Costs one track_dirty_vram call where the guest has the framebuffer. */
  refresh(): Refresh {
    const mode = this.display.mode();
    const pages = this.vram.collectDirty();
    const nrDirtyPages = pages.reduce((sum, run) => sum + run.count, 0);
    const generation = this.display.generation;
    if (generation !== this.shownGeneration) {
      this.shownGeneration = generation;
      const rows = mode.height > 0 ? [{ first: 0, count: mode.height }] : [];
      return { mode, isFull: true, rows, nrDirtyPages };
    }
    const touched = pages.map((run) => this.rowsOf(mode, run.first * 4096, run.count * 4096));
    return { mode, isFull: false, rows: mergeRows(touched.filter((rows) => rows !== undefined)), nrDirtyPages };
  }

  /** The picture as it is now. */
  render(): Picture {
    return this.display.render();
  }

  /** Rows that lie at least partly in a range of video memory. */
  private rowsOf(mode: DisplayMode, offset: number, length: number): RowRange | undefined {
    const from = Math.max(0, offset - mode.start);
    const to = Math.min(this.display.visibleBytes(mode), offset + length - mode.start);
    if (mode.stride === 0 || to <= from) return undefined;
    const first = Math.floor(from / mode.stride) * mode.rowHeight;
    const end = Math.min(mode.height, Math.ceil(to / mode.stride) * mode.rowHeight);
    return end > first ? { first, count: end - first } : undefined;
  }

  private clear(nrBytes: number): void {
    this.vram.bytes.fill(0, 0, nrBytes);
    this.vram.markDirty(0, Math.min(nrBytes, this.vram.bytes.length));
  }

  private barMoved(bar: number, address: number | undefined): void {
    const before = this.addresses.get(bar);
    if (before !== undefined && this.mapped.delete(bar)) this.memoryMap.unmap(before);
    if (address === undefined) this.addresses.delete(bar);
    else this.addresses.set(bar, address);
    const block = this.blocks[bar] as RegisterBlock;
    const length = bar === BAR_FRAMEBUFFER ? this.vram.bytes.length : REGISTERS_SIZE;
    const isMapped = address !== undefined && this.memoryMap.map(address, length, block);
    if (isMapped) this.mapped.add(bar);
    if (bar === BAR_FRAMEBUFFER) this.vram.place(isMapped ? address : undefined);
  }

  /** The framebuffer by emulated access. */
  private framebufferBlock(): RegisterBlock {
    const { vram } = this;
    return {
      name: 'vga-framebuffer',
      maxSize: 4,
      read(offset, size) {
        let value = 0;
        for (let i = size - 1; i >= 0; i--) value = value * 256 + (vram.bytes[offset + i] as number);
        return value;
      },
      write(offset, size, value) {
        for (let i = 0; i < size; i++) vram.bytes[offset + i] = (value >>> (8 * i)) & 0xff;
        vram.markDirty(offset, size);
      },
    };
  }

  private registerBlock(): RegisterBlock {
    return {
      name: 'vga-registers',
      maxSize: 4,
      read: (offset, size) => this.readRegisters(offset, size),
      write: (offset, size, value) => this.writeRegisters(offset, size, value),
    };
  }

  private readRegisters(offset: number, size: RegisterSize): number {
    if (offset >= MMIO_VGA_PORTS && offset + size <= MMIO_VGA_PORTS + 0x20) {
      let value = 0;
      for (let i = size - 1; i >= 0; i--)
        value = value * 256 + this.registers.read(0x3c0 - MMIO_VGA_PORTS + offset + i);
      return value;
    }
    const vbeIndex = (offset - MMIO_VBE) >>> 1;
    if (offset >= MMIO_VBE && vbeIndex < MMIO_VBE_REGISTERS) {
      const word = this.vbe.read(vbeIndex);
      if (size === 1) return (word >>> (8 * (offset & 1))) & 0xff;
      return size === 2 ? word : (word | (this.vbe.read(vbeIndex + 1) << 16)) >>> 0;
    }
    if (size === 4 && offset === MMIO_EXTENSION) return EXTENSION_SIZE;
    if (size === 4 && offset === MMIO_EXTENSION + EXTENSION_BYTE_ORDER) return LITTLE_ENDIAN;
    return offset < MMIO_EXTENSION + EXTENSION_SIZE ? 0 : allOnes(size);
  }

  private writeRegisters(offset: number, size: RegisterSize, value: number): void {
    if (offset >= MMIO_VGA_PORTS && offset + size <= MMIO_VGA_PORTS + 0x20) {
      for (let i = 0; i < size; i++) {
        this.registers.write(0x3c0 - MMIO_VGA_PORTS + offset + i, (value >>> (8 * i)) & 0xff);
      }
    } else if (offset >= MMIO_VBE && offset < MMIO_VBE + 2 * MMIO_VBE_REGISTERS && (offset & 1) === 0 && size > 1) {
      this.writeVbe((offset - MMIO_VBE) >>> 1, value & 0xffff);
      if (size === 4) this.writeVbe(((offset - MMIO_VBE) >>> 1) + 1, value >>> 16);
    }
    // The byte order register takes what it already has; nothing else can be written.
  }

  private writeVbe(index: number, value: number): void {
    this.vbe.write(index, value);
    this.registers.wideDac = this.vbe.hasWideDac;
  }

  private portBlocks(): PortDevice['ports'] {
    const vga = (first: number, count: number) => ({
      first,
      count,
      block: {
        name: 'vga',
        maxSize: 1 as const,
        read: (offset: number) => this.registers.read(first + offset),
        write: (offset: number, _size: RegisterSize, value: number) =>
          this.registers.write(first + offset, value & 0xff),
      },
    });
    return [
      vga(0x3b4, 2),
      vga(0x3ba, 1),
      vga(0x3c0, 16),
      vga(0x3d4, 2),
      vga(0x3da, 1),
      { first: VBE_INDEX_PORT, count: 4, block: this.vbePortBlock() },
    ];
  }

  /** The index is at 0x1ce; the data at 0x1cf, and again at 0x1d0 for machines that want it aligned. */
  private vbePortBlock(): RegisterBlock {
    return {
      name: 'vbe',
      maxSize: 2,
      read: (offset, size) => {
        if (size === 2 && offset === 0) return this.vbe.readIndex();
        if (size === 2 && (offset === 1 || offset === 2)) return this.vbe.readData();
        return allOnes(size);
      },
      write: (offset, size, value) => {
        if (size === 2 && offset === 0) this.vbe.writeIndex(value);
        if (size === 2 && (offset === 1 || offset === 2)) this.writeVbe(this.vbe.readIndex(), value);
      },
    };
  }
}

/** Ascending ranges, with those that touch or overlap made one. */
function mergeRows(rows: readonly RowRange[]): RowRange[] {
  const merged: RowRange[] = [];
  for (const range of rows) {
    const last = merged.at(-1);
    if (last && range.first <= last.first + last.count) {
      const end = Math.max(last.first + last.count, range.first + range.count);
      merged[merged.length - 1] = { first: last.first, count: end - last.first };
    } else {
      merged.push(range);
    }
  }
  return merged;
}
