/**
 * The standard VGA register file: sequencer, CRTC, graphics controller, attribute controller with its flip-flop, DAC.
 * State only: what it means for memory is in planar-memory, what it means for the picture in display.
 *
 * Vertical retrace is not timed: the status bits toggle with every read, which is what software that polls them needs.
 *
 * @spec IBM PS/2 Hardware Interface Technical Reference, Video Subsystem; ports 0x3b4–0x3df
 */

/** Bits that exist in each sequencer register. */
const SEQUENCER_MASK = [0x03, 0x3d, 0x0f, 0x3f, 0x0e];
/** Likewise for the graphics controller. */
const GRAPHICS_MASK = [0x0f, 0x0f, 0x0f, 0x1f, 0x03, 0x7b, 0x0f, 0x0f, 0xff];
/** Likewise for the attribute controller: 16 palette entries, then mode, overscan, planes, panning, colour select. */
const ATTRIBUTE_MASK = [...new Array<number>(16).fill(0x3f), 0xef, 0xff, 0x3f, 0x0f, 0x0f];
const NR_CRTC = 25;

const MISC_COLOUR_PORTS = 0x01;
const STATUS_DISPLAY_OFF = 0x01;
const STATUS_RETRACE = 0x08;

const CRTC_OVERFLOW = 0x07;
const CRTC_RETRACE_END = 0x11;
const CRTC_PROTECT = 0x80;
/** The bit of the overflow register that protection leaves writable: line compare, bit 8. */
const OVERFLOW_LINE_COMPARE = 0x10;

const DAC_READING = 3;
const DAC_WRITING = 0;

const UNMAPPED = 0xff;

export class VgaRegisters {
  readonly sequencer = new Uint8Array(SEQUENCER_MASK.length);
  readonly crtc = new Uint8Array(NR_CRTC);
  readonly graphics = new Uint8Array(GRAPHICS_MASK.length);
  readonly attribute = new Uint8Array(ATTRIBUTE_MASK.length);
  /** 256 entries of red, green, blue: 6 bits each, or 8 with `wideDac`. */
  readonly dac = new Uint8Array(768);
  pelMask = 0xff;
  misc = 0;
  /** 8-bit DAC entries, a Bochs VBE extension. */
  wideDac = false;
  /** Changes whenever something that can change the whole picture does. */
  generation = 0;

  private sequencerIndex = 0;
  private crtcIndex = 0;
  private graphicsIndex = 0;
  /** With bit 5: the palette address source, off while the palette is being loaded. */
  private attributeIndex = 0;
  /** The next write to 0x3c0 is data. */
  private attributeData = false;
  private feature = 0;
  private status = 0;
  private dacReadIndex = 0;
  private dacWriteIndex = 0;
  private dacComponent = 0;
  private dacState = DAC_WRITING;
  private readonly dacEntry = new Uint8Array(3);

  constructor() {
    this.reset();
  }

  /** The screen shows something: the palette address source is on. */
  get isDisplayOn(): boolean {
    return (this.attributeIndex & 0x20) !== 0;
  }

  reset(): void {
    for (const registers of [this.sequencer, this.crtc, this.graphics, this.attribute, this.dac]) registers.fill(0);
    this.pelMask = 0xff;
    this.misc = 0;
    this.wideDac = false;
    this.generation++;
    this.sequencerIndex = 0;
    this.crtcIndex = 0;
    this.graphicsIndex = 0;
    this.attributeIndex = 0;
    this.attributeData = false;
    this.feature = 0;
    this.status = 0;
    this.dacReadIndex = 0;
    this.dacWriteIndex = 0;
    this.dacComponent = 0;
    this.dacState = DAC_WRITING;
  }

  /** Reads a port of 0x3b0 to 0x3df; all ones where nothing answers. */
  read(port: number): number {
    switch (port) {
      case 0x3c0:
        return this.attributeData ? 0 : this.attributeIndex;
      case 0x3c1:
        return this.attribute[this.attributeIndex & 0x1f] ?? 0;
      case 0x3c2:
        return 0; // input status 0: no interrupt, no switch closed
      case 0x3c4:
        return this.sequencerIndex;
      case 0x3c5:
        return this.sequencer[this.sequencerIndex] ?? 0;
      case 0x3c6:
        return this.pelMask;
      case 0x3c7:
        return this.dacState;
      case 0x3c8:
        return this.dacWriteIndex;
      case 0x3c9:
        return this.readDac();
      case 0x3ca:
        return this.feature;
      case 0x3cc:
        return this.misc;
      case 0x3ce:
        return this.graphicsIndex;
      case 0x3cf:
        return this.graphics[this.graphicsIndex] ?? 0;
      default:
        return this.readMovable(port);
    }
  }

  /** Writes a port of 0x3b0 to 0x3df. */
  write(port: number, value: number): void {
    switch (port) {
      case 0x3c0:
        this.writeAttribute(value);
        break;
      case 0x3c2:
        this.misc = value & 0xef;
        this.generation++;
        break;
      case 0x3c4:
        this.sequencerIndex = value & 0x07;
        break;
      case 0x3c5:
        this.put(this.sequencer, this.sequencerIndex, value, SEQUENCER_MASK);
        break;
      case 0x3c6:
        this.pelMask = value;
        this.generation++;
        break;
      case 0x3c7:
        this.dacReadIndex = value;
        this.dacComponent = 0;
        this.dacState = DAC_READING;
        break;
      case 0x3c8:
        this.dacWriteIndex = value;
        this.dacComponent = 0;
        this.dacState = DAC_WRITING;
        break;
      case 0x3c9:
        this.writeDac(value);
        break;
      case 0x3ce:
        this.graphicsIndex = value & 0x0f;
        break;
      case 0x3cf:
        this.put(this.graphics, this.graphicsIndex, value, GRAPHICS_MASK);
        break;
      default:
        this.writeMovable(port, value);
    }
  }

  /** Ports that the miscellaneous output register moves between 0x3bx (monochrome) and 0x3dx (colour). */
  private movablePort(port: number): number {
    const isColour = (port & 0xf0) === 0xd0;
    const wantsColour = (this.misc & MISC_COLOUR_PORTS) !== 0;
    return isColour === wantsColour ? port & 0x0f : -1;
  }

  private readMovable(port: number): number {
    switch (this.movablePort(port)) {
      case 0x4:
        return this.crtcIndex;
      case 0x5:
        return this.crtc[this.crtcIndex] ?? 0;
      case 0xa:
        this.attributeData = false;
        this.status ^= STATUS_DISPLAY_OFF | STATUS_RETRACE;
        return this.status;
      default:
        return UNMAPPED;
    }
  }

  private writeMovable(port: number, value: number): void {
    switch (this.movablePort(port)) {
      case 0x4:
        this.crtcIndex = value & 0x1f;
        break;
      case 0x5:
        this.writeCrtc(value);
        break;
      case 0xa:
        this.feature = value & 0x0b;
        break;
      default:
    }
  }

  private writeCrtc(value: number): void {
    const index = this.crtcIndex;
    if (index >= NR_CRTC) return;
    let next = value;
    if (index <= CRTC_OVERFLOW && (this.crtc[CRTC_RETRACE_END] as number) & CRTC_PROTECT) {
      if (index !== CRTC_OVERFLOW) return;
      next = ((this.crtc[index] as number) & ~OVERFLOW_LINE_COMPARE) | (value & OVERFLOW_LINE_COMPARE);
    }
    if (this.crtc[index] !== next) this.generation++;
    this.crtc[index] = next;
  }

  private writeAttribute(value: number): void {
    if (!this.attributeData) {
      if ((this.attributeIndex ^ value) & 0x20) this.generation++;
      this.attributeIndex = value & 0x3f;
    } else {
      this.put(this.attribute, this.attributeIndex & 0x1f, value, ATTRIBUTE_MASK);
    }
    this.attributeData = !this.attributeData;
  }

  private put(registers: Uint8Array, index: number, value: number, masks: readonly number[]): void {
    const mask = masks[index];
    if (mask === undefined) return;
    const next = value & mask;
    if (registers[index] !== next) this.generation++;
    registers[index] = next;
  }

  private readDac(): number {
    const value = this.dac[this.dacReadIndex * 3 + this.dacComponent] as number;
    if (++this.dacComponent === 3) {
      this.dacComponent = 0;
      this.dacReadIndex = (this.dacReadIndex + 1) & 0xff;
    }
    return value;
  }

  private writeDac(value: number): void {
    this.dacEntry[this.dacComponent] = this.wideDac ? value : value & 0x3f;
    if (++this.dacComponent < 3) return;
    // An entry changes as a whole, with its third component.
    this.dac.set(this.dacEntry, this.dacWriteIndex * 3);
    this.dacComponent = 0;
    this.dacWriteIndex = (this.dacWriteIndex + 1) & 0xff;
    this.generation++;
  }
}
