/**
 * A 16550A serial port.
 *
 * Time does not pass in it: a byte is sent the moment it is written, so the transmitter is always empty, and a receive
 * FIFO that holds less than its trigger level reports the character timeout at once when no more input is waiting.
 * Input from outside waits in a bounded queue and enters the FIFO as it empties, so only loopback can overrun.
 *
 *     write THR ──▶ sink (or, in loopback, the receive FIFO)
 *     receive() ──▶ input queue ──▶ receive FIFO (16, or 1 without FIFOs) ──▶ read RBR
 *
 * The interrupt pin reaches the line through OUT2, as on every PC; in loopback the outputs are cut off and the pin
 * drives the line itself.
 *
 * @spec National Semiconductor PC16550D
 */
import type { IrqLine, PortDevice, RegisterBlock } from './device.js';

const DATA = 0; // RBR, THR; DLL with DLAB
const IER = 1; // DLM with DLAB
const IIR_FCR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
const SCR = 7;

const IER_RECEIVE = 1;
const IER_THRE = 2;
const IER_LINE = 4;
const IER_MODEM = 8;

const IIR_NONE = 0x01;
const IIR_MODEM = 0x00;
const IIR_THRE = 0x02;
const IIR_RECEIVE = 0x04;
const IIR_LINE = 0x06;
const IIR_TIMEOUT = 0x0c;
const IIR_FIFOS = 0xc0;

const FCR_ENABLE = 1;
const FCR_CLEAR_RECEIVE = 2;

const LCR_DLAB = 0x80;

const MCR_DTR = 1;
const MCR_RTS = 2;
const MCR_OUT1 = 4;
const MCR_OUT2 = 8;
const MCR_LOOP = 0x10;

const LSR_DATA_READY = 0x01;
const LSR_OVERRUN = 0x02;
const LSR_ERRORS = 0x1e;
const LSR_THRE = 0x20;
const LSR_TEMT = 0x40;

const MSR_CTS = 0x10;
const MSR_DSR = 0x20;
const MSR_RI = 0x40;
const MSR_DCD = 0x80;
/** Delta bit of the ring indicator: set when it ends. */
const MSR_TERI = 0x04;
/** A terminal is always there: clear to send, data set ready, carrier. */
const MSR_CONNECTED = MSR_CTS | MSR_DSR | MSR_DCD;

const FIFO_SIZE = 16;
const TRIGGER_LEVELS = [1, 4, 8, 14] as const;
/** Input bytes that wait outside the FIFO. */
const INPUT_LIMIT = 65536;
/** Divisor after reset: 9600 baud. */
const DIVISOR_RESET = 12;

export interface UartOptions {
  /** First of its 8 ports. */
  readonly base: number;
  readonly irq: IrqLine;
  /** Gets every byte the guest sends. */
  readonly sink: (byte: number) => void;
}

export class Uart16550 implements PortDevice {
  readonly ports: PortDevice['ports'];
  private ier = 0;
  private fcr = 0;
  private lcr = 0;
  private mcr = 0;
  private scratch = 0;
  private divisor = DIVISOR_RESET;
  private lineErrors = 0;
  private modem = MSR_CONNECTED;
  private threPending = false;
  private fifo: number[] = [];
  private input: number[] = [];
  private lineLevel = false;

  constructor(private readonly options: UartOptions) {
    const block: RegisterBlock = {
      name: 'uart-16550',
      maxSize: 1,
      read: (offset) => this.read(offset),
      write: (offset, _size, value) => this.write(offset, value & 0xff),
    };
    this.ports = [{ first: options.base, count: 8, block }];
  }

  /** Bits per second as programmed, from the usual 1.8432 MHz clock. */
  get baudRate(): number {
    return 115200 / (this.divisor || 0x10000);
  }

  /** Sends bytes to the guest. @returns how many were taken; the rest found the queue full */
  receive(bytes: Uint8Array): number {
    const taken = Math.min(bytes.length, INPUT_LIMIT - this.input.length);
    for (let i = 0; i < taken; i++) this.input.push(bytes[i] as number);
    this.fillFifo();
    this.updateLine();
    return taken;
  }

  reset(): void {
    this.ier = 0;
    this.fcr = 0;
    this.lcr = 0;
    this.mcr = 0;
    this.scratch = 0;
    this.divisor = DIVISOR_RESET;
    this.lineErrors = 0;
    this.modem = MSR_CONNECTED;
    this.threPending = false;
    this.fifo = [];
    this.input = [];
    this.updateLine();
  }

  private read(register: number): number {
    switch (register) {
      case DATA:
        return this.lcr & LCR_DLAB ? this.divisor & 0xff : this.readData();
      case IER:
        return this.lcr & LCR_DLAB ? this.divisor >>> 8 : this.ier;
      case IIR_FCR:
        return this.readInterruptId();
      case LCR:
        return this.lcr;
      case MCR:
        return this.mcr;
      case LSR:
        return this.readLineStatus();
      case MSR:
        return this.readModemStatus();
      default:
        return this.scratch;
    }
  }

  private write(register: number, value: number): void {
    switch (register) {
      case DATA:
        if (this.lcr & LCR_DLAB) this.divisor = (this.divisor & 0xff00) | value;
        else this.transmit(value);
        break;
      case IER:
        if (this.lcr & LCR_DLAB) this.divisor = (this.divisor & 0xff) | (value << 8);
        else this.writeInterruptEnable(value);
        break;
      case IIR_FCR:
        this.writeFifoControl(value);
        break;
      case LCR:
        this.lcr = value;
        break;
      case MCR:
        this.writeModemControl(value & 0x1f);
        break;
      case SCR:
        this.scratch = value;
        break;
      default: // LSR and MSR are written by factory tests only
    }
    this.updateLine();
  }

  private get hasFifo(): boolean {
    return (this.fcr & FCR_ENABLE) !== 0;
  }

  private get capacity(): number {
    return this.hasFifo ? FIFO_SIZE : 1;
  }

  private readData(): number {
    const byte = this.fifo.shift() ?? 0;
    this.fillFifo();
    this.updateLine();
    return byte;
  }

  private readInterruptId(): number {
    const pending = this.pendingInterrupt();
    // Reading the register acknowledges the transmitter's interrupt, and only where it is the one reported.
    if (pending === IIR_THRE) {
      this.threPending = false;
      this.updateLine();
    }
    return pending | (this.hasFifo ? IIR_FIFOS : 0);
  }

  private readLineStatus(): number {
    const status = LSR_THRE | LSR_TEMT | this.lineErrors | (this.fifo.length > 0 ? LSR_DATA_READY : 0);
    this.lineErrors = 0;
    this.updateLine();
    return status;
  }

  private readModemStatus(): number {
    const status = this.modem;
    this.modem &= 0xf0;
    this.updateLine();
    return status;
  }

  private transmit(byte: number): void {
    if (this.mcr & MCR_LOOP) this.loopBack(byte);
    else this.options.sink(byte);
    this.threPending = true; // full and empty again
  }

  private loopBack(byte: number): void {
    if (this.fifo.length < this.capacity) {
      this.fifo.push(byte);
      return;
    }
    this.lineErrors |= LSR_OVERRUN;
    // Without FIFOs the new byte replaces the one that was not read; with them it is lost.
    if (!this.hasFifo) this.fifo[0] = byte;
  }

  private writeInterruptEnable(value: number): void {
    const before = this.ier;
    this.ier = value & 0x0f;
    if ((this.ier & IER_THRE) !== 0 && (before & IER_THRE) === 0) this.threPending = true;
  }

  private writeFifoControl(value: number): void {
    const toggles = ((value ^ this.fcr) & FCR_ENABLE) !== 0;
    if (toggles || (value & FCR_CLEAR_RECEIVE) !== 0) this.fifo = [];
    // The other bits can only be programmed while the FIFOs are on.
    this.fcr = value & FCR_ENABLE ? value & 0xc9 : 0;
    this.fillFifo();
  }

  private writeModemControl(value: number): void {
    this.mcr = value;
    const inputs = value & MCR_LOOP ? this.loopedModemInputs() : MSR_CONNECTED;
    const changed = (inputs ^ this.modem) & 0xf0;
    let deltas = (changed >>> 4) & ~MSR_TERI;
    if (changed & MSR_RI && !(inputs & MSR_RI)) deltas |= MSR_TERI;
    this.modem = inputs | (this.modem & 0x0f) | deltas;
    this.fillFifo();
  }

  private loopedModemInputs(): number {
    let inputs = 0;
    if (this.mcr & MCR_RTS) inputs |= MSR_CTS;
    if (this.mcr & MCR_DTR) inputs |= MSR_DSR;
    if (this.mcr & MCR_OUT1) inputs |= MSR_RI;
    if (this.mcr & MCR_OUT2) inputs |= MSR_DCD;
    return inputs;
  }

  /** In loopback the serial input is disconnected: what is queued waits. */
  private fillFifo(): void {
    if (this.mcr & MCR_LOOP) return;
    const room = this.capacity - this.fifo.length;
    if (room > 0 && this.input.length > 0) this.fifo.push(...this.input.splice(0, room));
  }

  /** The source that IIR reports: the highest of those that are enabled and pending. */
  private pendingInterrupt(): number {
    const { ier, fifo } = this;
    if (ier & IER_LINE && this.lineErrors & LSR_ERRORS) return IIR_LINE;
    if (ier & IER_RECEIVE && fifo.length > 0) {
      const trigger = this.hasFifo ? (TRIGGER_LEVELS[this.fcr >>> 6] as number) : 1;
      return fifo.length >= trigger ? IIR_RECEIVE : IIR_TIMEOUT;
    }
    if (ier & IER_THRE && this.threPending) return IIR_THRE;
    if (ier & IER_MODEM && this.modem & 0x0f) return IIR_MODEM;
    return IIR_NONE;
  }

  private updateLine(): void {
    const reachesLine = (this.mcr & (MCR_OUT2 | MCR_LOOP)) !== 0;
    const level = reachesLine && this.pendingInterrupt() !== IIR_NONE;
    if (level === this.lineLevel) return;
    this.lineLevel = level;
    this.options.irq(level);
  }
}
