/**
 * What the registers make of video memory: the current mode, which of its rows lie in which pages, and the picture.
 * The guest sets the registers to anything: every mode described here is bounded, and memory beyond the end reads 0.
 *
 * Not modelled: line compare (split screen), pixel panning and the blinking of cursor and text, which is always shown.
 */
import { type Colour, newPicture, type Picture, setPixel } from './picture.js';
import type { VbeRegisters } from './vbe-registers.js';
import type { VgaRegisters } from './vga-registers.js';

/** `text`: characters with attributes; `planar`, `packed2`, `packed8`: VGA graphics; `linear`: a VBE mode of 8 bits up. */
type ModeKind = 'blank' | 'text' | 'planar' | 'packed2' | 'packed8' | 'linear';

export interface DisplayMode {
  readonly kind: ModeKind;
  /** Pixels. */
  readonly width: number;
  /** Pixels. */
  readonly height: number;
  /** Bits a pixel; 0 for text. */
  readonly bpp: number;
  /** Bytes of video memory from one row to the next: a pixel row, or a row of characters for text. */
  readonly stride: number;
  /** Where the first row starts in video memory. */
  readonly start: number;
  /** Pixel rows that one row of memory stands for: the character height for text, else 1. */
  readonly rowHeight: number;
  /** Pixels across a character; 0 for graphics. */
  readonly charWidth: number;
}

const BLANK: DisplayMode = {
  kind: 'blank',
  width: 0,
  height: 0,
  bpp: 0,
  stride: 0,
  start: 0,
  rowHeight: 1,
  charWidth: 0,
};

const FONT_BLOCK = 8192;
const GLYPH_ROWS = 32;

export class Display {
  constructor(
    private readonly registers: VgaRegisters,
    private readonly vbe: VbeRegisters,
    private readonly vram: Uint8Array,
  ) {}

  /** Changes whenever the whole picture has to be drawn again. */
  get generation(): number {
    return this.registers.generation + this.vbe.generation;
  }

  mode(): DisplayMode {
    if (this.vbe.isEnabled) {
      const geometry = this.vbe.geometry();
      if (geometry.bpp >= 8) return { kind: 'linear', ...geometry, rowHeight: 1, charWidth: 0 };
      // Four planes interleaved: a byte of one plane, 8 pixels, is 4 bytes of memory, which is what 4 bpp come to.
      return { kind: 'planar', ...geometry, rowHeight: 1, charWidth: 0 };
    }
    return this.registers.isDisplayOn ? this.legacyMode() : BLANK;
  }

  /** Bytes of video memory from the first shown to the last. */
  visibleBytes(mode: DisplayMode): number {
    return Math.min(this.vram.length - mode.start, Math.ceil(mode.height / mode.rowHeight) * mode.stride);
  }

  /** Draws the whole picture. */
  render(mode: DisplayMode = this.mode()): Picture {
    const picture = newPicture(mode.width, mode.height);
    switch (mode.kind) {
      case 'blank':
        break;
      case 'text':
        this.renderText(picture, mode);
        break;
      case 'linear':
        this.renderLinear(picture, mode);
        break;
      default:
        this.renderIndexed(picture, mode);
    }
    return picture;
  }

  private legacyMode(): DisplayMode {
    const { crtc, graphics, sequencer } = this.registers;
    const overflow = crtc[0x07] as number;
    const lines = (crtc[0x12] as number) + ((overflow & 0x02) << 7) + ((overflow & 0x40) << 3) + 1;
    const columns = (crtc[0x01] as number) + 1;
    const stride = (crtc[0x13] as number) << 3;
    const start = (((crtc[0x0c] as number) << 8) | (crtc[0x0d] as number)) * 4;
    const scanLines = ((crtc[0x09] as number) & 0x1f) + 1;
    if (((graphics[6] as number) & 1) === 0) {
      const charWidth = (sequencer[1] as number) & 1 ? 8 : 9;
      const rows = Math.max(1, Math.floor(lines / scanLines));
      const text = { width: columns * charWidth, height: rows * scanLines, rowHeight: scanLines, charWidth };
      return { kind: 'text', bpp: 0, stride, start, ...text };
    }
    const repeat = scanLines * ((crtc[0x09] as number) & 0x80 ? 2 : 1);
    const height = Math.max(1, Math.floor(lines / repeat));
    const shift = ((graphics[5] as number) >>> 5) & 3;
    const graphicsMode = { height, stride, start, rowHeight: 1, charWidth: 0 };
    if (shift >= 2) return { kind: 'packed8', width: columns * 4, bpp: 8, ...graphicsMode };
    const dots = columns * ((sequencer[1] as number) & 0x08 ? 16 : 8);
    if (shift === 1) return { kind: 'packed2', width: dots, bpp: 2, ...graphicsMode };
    return { kind: 'planar', width: dots, bpp: 4, ...graphicsMode };
  }

  private byte(at: number): number {
    return this.vram[at] ?? 0;
  }

  /** A DAC entry as a colour. */
  private dacColour(index: number): Colour {
    const { dac, pelMask, wideDac } = this.registers;
    const at = (index & pelMask) * 3;
    const wide = (component: number) => {
      const value = dac[at + component] as number;
      return wideDac ? value : (value << 2) | (value >>> 4);
    };
    return (wide(0) << 16) | (wide(1) << 8) | wide(2);
  }

  /** The colour of a 4-bit pixel or attribute, through the attribute controller's palette. */
  private paletteColour(pixel: number): Colour {
    const { attribute } = this.registers;
    const entry = attribute[pixel & (attribute[0x12] as number) & 0x0f] as number;
    const select = attribute[0x14] as number;
    const mixes = ((attribute[0x10] as number) & 0x80) !== 0;
    return this.dacColour(mixes ? ((select & 0x0f) << 4) | (entry & 0x0f) : ((select & 0x0c) << 4) | (entry & 0x3f));
  }

  private renderLinear(picture: Picture, mode: DisplayMode): void {
    for (let y = 0; y < mode.height; y++) {
      const row = mode.start + y * mode.stride;
      for (let x = 0; x < mode.width; x++) setPixel(picture, x, y, this.linearPixel(row, x, mode.bpp));
    }
  }

  private linearPixel(row: number, x: number, bpp: number): Colour {
    switch (bpp) {
      case 8:
        return this.dacColour(this.byte(row + x));
      case 15:
      case 16: {
        const value = this.byte(row + 2 * x) | (this.byte(row + 2 * x + 1) << 8);
        return bpp === 15 ? fromFields(value, 10, 5, 5, 5) : fromFields(value, 11, 5, 6, 5);
      }
      default: {
        const at = row + (x * bpp) / 8;
        return (this.byte(at + 2) << 16) | (this.byte(at + 1) << 8) | this.byte(at);
      }
    }
  }

  private renderIndexed(picture: Picture, mode: DisplayMode): void {
    for (let y = 0; y < mode.height; y++) {
      const row = mode.start + y * mode.stride;
      for (let x = 0; x < mode.width; x++) {
        const colour =
          mode.kind === 'packed8'
            ? this.dacColour(this.byte(row + x))
            : this.paletteColour(mode.kind === 'packed2' ? this.packed2Pixel(row, x) : this.planarPixel(row, x));
        setPixel(picture, x, y, colour);
      }
    }
  }

  private planarPixel(row: number, x: number): number {
    const at = row + (x >>> 3) * 4;
    const bit = 7 - (x & 7);
    let pixel = 0;
    for (let plane = 0; plane < 4; plane++) pixel |= ((this.byte(at + plane) >>> bit) & 1) << plane;
    return pixel;
  }

  /** Two bits a pixel, alternating bytes of planes 0 and 1. */
  private packed2Pixel(row: number, x: number): number {
    const at = row + (x >>> 3) * 4 + ((x >>> 2) & 1);
    return (this.byte(at) >>> (6 - 2 * (x & 3))) & 3;
  }

  private renderText(picture: Picture, mode: DisplayMode): void {
    const columns = mode.width / mode.charWidth;
    const rows = mode.height / mode.rowHeight;
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        this.renderCharacter(picture, mode, column, row, mode.start + row * mode.stride + column * 4);
      }
    }
  }

  private renderCharacter(picture: Picture, mode: DisplayMode, column: number, row: number, at: number): void {
    const character = this.byte(at);
    const attribute = this.byte(at + 1);
    const control = this.registers.attribute[0x10] as number;
    const foreground = this.paletteColour(attribute & 0x0f);
    const background = this.paletteColour((attribute >>> 4) & (control & 0x08 ? 0x07 : 0x0f));
    const font = this.fontOffset((attribute & 0x08) !== 0) + character * GLYPH_ROWS;
    const extendsLine = (control & 0x04) !== 0 && character >= 0xc0 && character <= 0xdf;
    for (let line = 0; line < mode.rowHeight; line++) {
      const glyph = this.isCursor(at, line) ? 0xff : this.byte((font + line) * 4 + 2);
      for (let x = 0; x < mode.charWidth; x++) {
        const isSet = x < 8 ? (glyph >>> (7 - x)) & 1 : extendsLine || this.isCursor(at, line) ? glyph & 1 : 0;
        const y = row * mode.rowHeight + line;
        setPixel(picture, column * mode.charWidth + x, y, isSet ? foreground : background);
      }
    }
  }

  /** Where the glyphs are in plane 2: character map A where the attribute's intensity bit is set, else B. */
  private fontOffset(isMapA: boolean): number {
    const select = this.registers.sequencer[3] as number;
    const low = isMapA ? (select >>> 2) & 3 : select & 3;
    const high = isMapA ? (select >>> 5) & 1 : (select >>> 4) & 1;
    return low * 2 * FONT_BLOCK + high * FONT_BLOCK;
  }

  private isCursor(at: number, line: number): boolean {
    const { crtc } = this.registers;
    if ((crtc[0x0a] as number) & 0x20) return false;
    if (at !== (((crtc[0x0e] as number) << 8) | (crtc[0x0f] as number)) * 4) return false;
    return line >= ((crtc[0x0a] as number) & 0x1f) && line <= ((crtc[0x0b] as number) & 0x1f);
  }
}

/** Packed red, green and blue of the given widths, widened to 8 bits each. */
function fromFields(value: number, redShift: number, greenShift: number, greenBits: number, blueBits: number): Colour {
  const widen = (field: number, bits: number) => Math.round((field * 255) / (2 ** bits - 1));
  const red = widen((value >>> redShift) & 0x1f, 5);
  const green = widen((value >>> greenShift) & (2 ** greenBits - 1), greenBits);
  const blue = widen(value & (2 ** blueBits - 1), blueBits);
  return (red << 16) | (green << 8) | blue;
}
