/**
 * The legacy window at 0xa0000–0xbffff: what a byte there means for video memory, by the graphics controller and the
 * sequencer, with latches and the four write modes; or a 64 KiB bank of linear memory while a VBE mode is on.
 *
 * Planes are interleaved in video memory: byte `offset` of plane `p` is at `4 * offset + p`.
 * @deviates from hardware: odd/even and chain-4 addressing are stored as the CPU counts (as QEMU does), so reprogramming
 * the mode over existing contents rearranges them differently than on a real board.
 */
import type { RegisterBlock } from '../device.js';
import type { VbeRegisters } from './vbe-registers.js';
import type { VgaRegisters } from './vga-registers.js';
import type { VideoMemory } from './video-memory.js';

export const LEGACY_WINDOW = 0xa0000;
export const LEGACY_WINDOW_SIZE = 0x20000;

const GR_SET_RESET = 0;
const GR_ENABLE_SET_RESET = 1;
const GR_COLOUR_COMPARE = 2;
const GR_ROTATE = 3;
const GR_READ_MAP = 4;
const GR_MODE = 5;
const GR_MISC = 6;
const GR_COLOUR_DONT_CARE = 7;
const GR_BIT_MASK = 8;

const SR_MAP_MASK = 2;
const SR_MEMORY_MODE = 4;
const CHAIN_4 = 0x08;

const MODE_READ_COMPARE = 0x08;
const MODE_ODD_EVEN = 0x10;

/** Where the window lies within 0xa0000–0xbffff, by the graphics controller's memory map field. */
const MAPS = [
  { first: 0, size: 0x20000 },
  { first: 0, size: 0x10000 },
  { first: 0x10000, size: 0x8000 },
  { first: 0x18000, size: 0x8000 },
] as const;

/** Four bits to four bytes: a plane mask as a mask of a 32-bit word of planes. */
function spread(planes: number): number {
  let word = 0;
  for (let p = 0; p < 4; p++) if ((planes >>> p) & 1) word |= 0xff << (8 * p);
  return word >>> 0;
}

const PLANE_MASKS = Array.from({ length: 16 }, (_, planes) => spread(planes));

/** A byte in all four planes. */
function replicate(byte: number): number {
  return Math.imul(byte, 0x01010101) >>> 0;
}

export class PlanarMemory implements RegisterBlock {
  readonly name = 'vga-legacy-window';
  readonly maxSize = 1;
  private latch = 0;

  constructor(
    private readonly registers: VgaRegisters,
    private readonly vbe: VbeRegisters,
    private readonly vram: VideoMemory,
  ) {}

  reset(): void {
    this.latch = 0;
  }

  /** Reads a byte of the window. */
  read(offset: number): number {
    const address = this.address(offset);
    if (address < 0) return 0xff;
    const { graphics } = this.registers;
    if (this.isLinear()) return this.vram.bytes[address] ?? 0xff;
    const mode = graphics[GR_MODE] as number;
    if (mode & MODE_ODD_EVEN) {
      const plane = ((graphics[GR_READ_MAP] as number) & 2) | (address & 1);
      return this.vram.bytes[((address & ~1) << 1) | plane] ?? 0xff;
    }
    if (address * 4 >= this.vram.bytes.length) return 0xff;
    this.latch = this.loadWord(address);
    if (mode & MODE_READ_COMPARE) return this.compare();
    return (this.latch >>> (8 * (graphics[GR_READ_MAP] as number))) & 0xff;
  }

  /** Writes a byte of the window. */
  write(offset: number, _size: number, value: number): void {
    const address = this.address(offset);
    if (address < 0) return;
    const { graphics, sequencer } = this.registers;
    const planes = (sequencer[SR_MAP_MASK] as number) & 0x0f;
    if (this.isLinear()) {
      if (this.isBanked() || (planes >>> (address & 3)) & 1) this.storeByte(address, value);
    } else if ((graphics[GR_MODE] as number) & MODE_ODD_EVEN) {
      const plane = ((graphics[GR_READ_MAP] as number) & 2) | (address & 1);
      if ((planes >>> plane) & 1) this.storeByte(((address & ~1) << 1) | plane, value);
    } else if (address * 4 < this.vram.bytes.length) {
      this.writePlanes(address, value, PLANE_MASKS[planes] as number);
    }
  }

  /** Address within video memory as the CPU counts, or -1 where the window does not reach. */
  private address(offset: number): number {
    if (this.isBanked()) return offset < 0x10000 ? offset + this.vbe.bankOffset : -1;
    const map = MAPS[((this.registers.graphics[GR_MISC] as number) >>> 2) & 3] as (typeof MAPS)[number];
    const within = offset - map.first;
    return within >= 0 && within < map.size ? within : -1;
  }

  private isBanked(): boolean {
    return this.vbe.isEnabled && this.vbe.geometry().bpp >= 8;
  }

  private isLinear(): boolean {
    return this.isBanked() || ((this.registers.sequencer[SR_MEMORY_MODE] as number) & CHAIN_4) !== 0;
  }

  private loadWord(address: number): number {
    const { bytes } = this.vram;
    const at = address * 4;
    const low = (bytes[at] as number) | ((bytes[at + 1] as number) << 8) | ((bytes[at + 2] as number) << 16);
    return (low | ((bytes[at + 3] as number) << 24)) >>> 0;
  }

  private storeByte(at: number, value: number): void {
    if (at >= this.vram.bytes.length) return;
    this.vram.bytes[at] = value;
    this.vram.markDirty(at, 1);
  }

  /** Read mode 1: a bit is set where the pixel's planes equal the compare colour, in the planes that count. */
  private compare(): number {
    const { graphics } = this.registers;
    const colour = PLANE_MASKS[graphics[GR_COLOUR_COMPARE] as number] as number;
    const care = PLANE_MASKS[graphics[GR_COLOUR_DONT_CARE] as number] as number;
    const differing = (this.latch ^ colour) & care;
    return ~(differing | (differing >>> 8) | (differing >>> 16) | (differing >>> 24)) & 0xff;
  }

  private writePlanes(address: number, value: number, planeMask: number): void {
    const { graphics } = this.registers;
    const rotate = graphics[GR_ROTATE] as number;
    const count = rotate & 7;
    const rotated = ((value >>> count) | (value << (8 - count))) & 0xff;
    let bitMask = replicate(graphics[GR_BIT_MASK] as number);
    let data: number;
    switch ((graphics[GR_MODE] as number) & 3) {
      case 0: {
        const enabled = PLANE_MASKS[graphics[GR_ENABLE_SET_RESET] as number] as number;
        const set = PLANE_MASKS[graphics[GR_SET_RESET] as number] as number;
        data = this.combine((replicate(rotated) & ~enabled) | (set & enabled), rotate >>> 3);
        break;
      }
      case 1:
        data = this.latch;
        bitMask = 0xffffffff;
        break;
      case 2:
        data = this.combine(PLANE_MASKS[value & 0x0f] as number, rotate >>> 3);
        break;
      default:
        bitMask &= replicate(rotated);
        data = PLANE_MASKS[graphics[GR_SET_RESET] as number] as number;
    }
    const merged = (data & bitMask) | (this.latch & ~bitMask);
    const word = (merged & planeMask) | (this.loadWord(address) & ~planeMask);
    for (let plane = 0; plane < 4; plane++) this.vram.bytes[address * 4 + plane] = (word >>> (8 * plane)) & 0xff;
    this.vram.markDirty(address * 4, 4);
  }

  /** The logical function between the data and the latches. */
  private combine(data: number, operation: number): number {
    switch (operation & 3) {
      case 1:
        return data & this.latch;
      case 2:
        return data | this.latch;
      case 3:
        return data ^ this.latch;
      default:
        return data;
    }
  }
}
