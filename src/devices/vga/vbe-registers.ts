/**
 * The Bochs VBE registers ("dispi"): an index and a data register through which a guest sets a linear mode. Whatever
 * the guest asks for, `geometry` describes a picture that lies within video memory.
 *
 * @spec Bochs VBE display interface 0xb0c5
 */

export const VBE_ID = 0;
export const VBE_XRES = 1;
export const VBE_YRES = 2;
export const VBE_BPP = 3;
export const VBE_ENABLE = 4;
export const VBE_BANK = 5;
export const VBE_VIRT_WIDTH = 6;
export const VBE_VIRT_HEIGHT = 7;
export const VBE_X_OFFSET = 8;
export const VBE_Y_OFFSET = 9;
export const VBE_VIDEO_MEMORY_64K = 10;
const NR_REGISTERS = 11;

const ID_FIRST = 0xb0c0;
const ID_LATEST = 0xb0c5;

const VBE_ENABLED = 0x01;
const VBE_GETCAPS = 0x02;
const VBE_8BIT_DAC = 0x20;
const VBE_NOCLEARMEM = 0x80;

const MAX_XRES = 16000;
const MAX_YRES = 12000;
const MAX_BPP = 32;
const BANK_SHIFT = 16;
/** So that a line of any mode fits. */
const MIN_VRAM = 1 << 20;

/** A linear picture in video memory. Offsets and the stride are in bytes. */
export interface LinearGeometry {
  readonly width: number;
  readonly height: number;
  /** 4 (planar), 8, 15, 16, 24 or 32. */
  readonly bpp: number;
  readonly stride: number;
  /** Where the visible part starts. */
  readonly start: number;
}

export class VbeRegisters {
  private readonly registers = new Uint16Array(NR_REGISTERS);
  private index = 0;
  generation = 0;

  /**
   * @param vramSize bytes of video memory
   * @param clear zeroes the first bytes of video memory: a mode set without NOCLEARMEM
   */
  constructor(
    private readonly vramSize: number,
    private readonly clear: (nrBytes: number) => void,
  ) {
    if (vramSize < MIN_VRAM) throw new Error('VBE needs at least 1 MiB of video memory');
    this.reset();
  }

  get isEnabled(): boolean {
    return ((this.registers[VBE_ENABLE] as number) & VBE_ENABLED) !== 0;
  }

  get hasWideDac(): boolean {
    return ((this.registers[VBE_ENABLE] as number) & VBE_8BIT_DAC) !== 0;
  }

  /** Offset into video memory of the 64 KiB that the legacy window shows. */
  get bankOffset(): number {
    return (this.registers[VBE_BANK] as number) << BANK_SHIFT;
  }

  reset(): void {
    this.registers.fill(0);
    this.registers[VBE_ID] = ID_LATEST;
    this.index = 0;
    this.generation++;
  }

  readIndex(): number {
    return this.index;
  }

  writeIndex(value: number): void {
    this.index = value & 0xffff;
  }

  readData(): number {
    return this.read(this.index);
  }

  /** 0 for a register that does not exist. */
  read(index: number): number {
    const capabilities = ((this.registers[VBE_ENABLE] as number) & VBE_GETCAPS) !== 0;
    if (capabilities && index === VBE_XRES) return MAX_XRES;
    if (capabilities && index === VBE_YRES) return MAX_YRES;
    if (capabilities && index === VBE_BPP) return MAX_BPP;
    if (index === VBE_VIDEO_MEMORY_64K) return this.vramSize >>> 16;
    if (index === VBE_VIRT_HEIGHT && this.isEnabled) {
      return Math.min(0xffff, Math.floor(this.vramSize / this.geometry().stride));
    }
    return this.registers[index] ?? 0;
  }

  write(index: number, value: number): void {
    switch (index) {
      case VBE_ID:
        if (value >= ID_FIRST && value <= ID_LATEST) this.registers[VBE_ID] = value;
        return;
      case VBE_ENABLE:
        this.writeEnable(value);
        break;
      case VBE_BANK:
        this.registers[VBE_BANK] = value % Math.max(1, this.vramSize >>> BANK_SHIFT);
        return;
      case VBE_XRES:
      case VBE_YRES:
      case VBE_BPP:
      case VBE_VIRT_WIDTH:
      case VBE_X_OFFSET:
      case VBE_Y_OFFSET:
        this.registers[index] = value;
        if (this.isEnabled) this.settle();
        break;
      default:
        return; // VIRT_HEIGHT and VIDEO_MEMORY_64K are read-only
    }
    this.generation++;
  }

  /** The picture that the registers stand for. */
  geometry(): LinearGeometry {
    const r = this.registers;
    const bpp = r[VBE_BPP] as number;
    const bits = bpp === 15 ? 16 : bpp;
    const virtualWidth = r[VBE_VIRT_WIDTH] as number;
    const stride = (virtualWidth * bits) / 8;
    const x = Math.floor(((r[VBE_X_OFFSET] as number) * bits) / 8);
    const start = x + (r[VBE_Y_OFFSET] as number) * stride;
    return { width: r[VBE_XRES] as number, height: r[VBE_YRES] as number, bpp, stride, start };
  }

  private writeEnable(value: number): void {
    const turnsOn = (value & VBE_ENABLED) !== 0 && !this.isEnabled;
    this.registers[VBE_ENABLE] = value & 0xff;
    if (!this.isEnabled) this.registers[VBE_BANK] = 0;
    if (!turnsOn) return;
    this.registers[VBE_VIRT_WIDTH] = 0;
    this.registers[VBE_X_OFFSET] = 0;
    this.registers[VBE_Y_OFFSET] = 0;
    this.registers[VBE_BANK] = 0;
    this.settle();
    const { height, stride } = this.geometry();
    if ((value & VBE_NOCLEARMEM) === 0) this.clear(height * stride);
  }

  /** Brings the registers of an enabled mode to something that can be shown. */
  private settle(): void {
    const r = this.registers;
    if (![4, 8, 15, 16, 24, 32].includes(r[VBE_BPP] as number)) r[VBE_BPP] = 8;
    const clampWidth = (width: number, least: number) => Math.min(MAX_XRES, Math.max(least, width & ~7));
    r[VBE_XRES] = clampWidth(r[VBE_XRES] as number, 8);
    r[VBE_VIRT_WIDTH] = clampWidth(r[VBE_VIRT_WIDTH] as number, r[VBE_XRES] as number);
    const lines = Math.floor(this.vramSize / this.geometry().stride);
    r[VBE_YRES] = Math.min(MAX_YRES, lines, Math.max(1, r[VBE_YRES] as number));
    const { width, height, bpp, stride, start } = this.geometry();
    const lineBytes = Math.ceil((width * (bpp === 15 ? 16 : bpp)) / 8);
    if (start + (height - 1) * stride + lineBytes > this.vramSize) {
      r[VBE_X_OFFSET] = 0;
      r[VBE_Y_OFFSET] = 0;
    }
  }
}
