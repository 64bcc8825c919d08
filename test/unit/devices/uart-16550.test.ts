/** The serial port, register by register. */
import { describe, expect, it } from 'vitest';
import type { RegisterBlock } from '../../../dist/devices/device.js';
import { Uart16550 } from '../../../dist/devices/uart-16550.js';

const [DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR] = [0, 1, 2, 3, 4, 5, 6, 7] as const;
const OUT2 = 8;
const LOOP = 0x10;

function setUp() {
  const sent: number[] = [];
  const levels: boolean[] = [];
  const uart = new Uart16550({ base: 0x3f8, irq: (level) => levels.push(level), sink: (byte) => sent.push(byte) });
  const block = uart.ports[0]?.block as RegisterBlock;
  const read = (register: number) => block.read(register, 1);
  const write = (register: number, value: number) => block.write(register, 1, value);
  return { uart, sent, levels, read, write, line: () => levels.at(-1) ?? false };
}

const bytes = (...values: number[]) => Uint8Array.from(values);

describe('registers', () => {
  it('has its values after reset', () => {
    const { uart, read, write } = setUp();
    const values = () => [IER, IIR, LCR, MCR, LSR, MSR, SCR].map(read);
    const fresh = [0, 1, 0, 0, 0x60, 0xb0, 0];
    expect(values()).toEqual(fresh);
    for (const r of [IER, IIR, LCR, MCR, SCR]) write(r, 0x0f);
    uart.receive(bytes(1));
    uart.reset();
    expect(values()).toEqual(fresh);
    expect(uart.baudRate).toBe(9600);
  });

  it.each([
    [IER, 0xff, 0x0f],
    [LCR, 0x7f, 0x7f],
    [MCR, 0xff, 0x1f],
    [SCR, 0xa5, 0xa5],
    [LSR, 0xff, 0x60],
  ])('register %i written %i reads %i', (register, value, expected) => {
    const { read, write } = setUp();
    write(register, value);
    expect(read(register)).toBe(expected);
  });

  it('shows the divisor behind DLAB, and only there', () => {
    const { uart, read, write, sent } = setUp();
    write(LCR, 0x83);
    write(DATA, 0x01);
    write(IER, 0x00);
    expect(uart.baudRate).toBe(115200);
    write(IER, 0x12);
    expect([read(DATA), read(IER)]).toEqual([0x01, 0x12]);
    write(LCR, 0x03);
    expect([read(DATA), read(IER)]).toEqual([0, 0]);
    expect(sent).toEqual([]);
  });

  it('a divisor of 0 counts as 65536', () => {
    const { uart, write } = setUp();
    write(LCR, 0x80);
    write(DATA, 0);
    expect(uart.baudRate).toBeCloseTo(115200 / 65536);
  });
});

describe('sending', () => {
  it('hands every byte to the sink and is always ready for the next', () => {
    const { sent, read, write } = setUp();
    for (const byte of [0x48, 0x69]) {
      expect(read(LSR) & 0x60).toBe(0x60);
      write(DATA, byte);
    }
    expect(sent).toEqual([0x48, 0x69]);
  });

  it('interrupts when enabled, after a write, and not again once it was read', () => {
    const { read, write, line } = setUp();
    write(MCR, OUT2);
    write(IER, 2);
    expect([line(), read(IIR), line(), read(IIR)]).toEqual([true, 2, false, 1]);
    write(DATA, 0x41);
    expect(line()).toBe(true);
    write(IER, 0);
    expect(line()).toBe(false);
    write(IER, 2); // enabling interrupts again while the transmitter is empty
    expect(read(IIR)).toBe(2);
    write(IER, 3); // it was on already
    expect(read(IIR)).toBe(1);
  });
});

describe('receiving', () => {
  it('without FIFOs holds one byte, the rest waits', () => {
    const { uart, read } = setUp();
    expect(uart.receive(bytes(1, 2, 3))).toBe(3);
    const seen = [];
    while (read(LSR) & 1) seen.push(read(DATA));
    expect(seen).toEqual([1, 2, 3]);
    expect(read(DATA)).toBe(0);
    expect(read(LSR)).toBe(0x60); // no overrun: input from outside waits
  });

  it('takes no more than its queue holds', () => {
    const { uart } = setUp();
    expect(uart.receive(new Uint8Array(70000))).toBe(65536);
    expect(uart.receive(bytes(1))).toBe(1); // one byte has moved on into the holding register
    expect(uart.receive(bytes(1))).toBe(0);
  });

  it.each([
    [0x01, 1],
    [0x41, 4],
    [0x81, 8],
    [0xc1, 14],
  ])('FCR %i reports data at %i bytes and a timeout below', (fcr, trigger) => {
    const { uart, read, write } = setUp();
    write(IIR, fcr);
    write(IER, 1);
    for (let n = 1; n <= trigger; n++) {
      uart.receive(bytes(n));
      expect(read(IIR)).toBe(0xc0 | (n < trigger ? 0x0c : 0x04));
    }
    for (let n = 1; n <= trigger; n++) read(DATA);
    expect(read(IIR)).toBe(0xc1);
  });

  it('FIFO control clears the FIFO when asked and when FIFOs are switched', () => {
    const { uart, read, write } = setUp();
    for (const fcr of [0x01, 0x03, 0x00]) {
      write(IIR, fcr);
      expect(read(LSR) & 1).toBe(0);
      uart.receive(bytes(9));
      expect(read(LSR) & 1).toBe(1);
    }
    write(IIR, 0x02);
    expect(read(LSR) & 1).toBe(0);
  });
});

describe('interrupts', () => {
  it('are reported by priority: line status, data, transmitter, modem', () => {
    const { uart, read, write } = setUp();
    write(MCR, LOOP);
    write(DATA, 1);
    write(DATA, 2); // overrun
    write(MCR, LOOP | 1); // a modem delta
    write(IER, 0x0f);
    expect(read(IIR)).toBe(0x06);
    expect(read(LSR)).toBe(0x63);
    expect(read(IIR)).toBe(0x04);
    expect(read(DATA)).toBe(2);
    expect(read(IIR)).toBe(0x02);
    expect(read(IIR)).toBe(0x00);
    expect(read(MSR) & 0x0f).not.toBe(0);
    expect(read(IIR)).toBe(0x01);
    expect(uart.baudRate).toBe(9600);
  });

  it('reach the line through OUT2 only', () => {
    const { uart, write, line } = setUp();
    write(IER, 1);
    uart.receive(bytes(1));
    expect(line()).toBe(false);
    write(MCR, OUT2);
    expect(line()).toBe(true);
    write(MCR, 0);
    expect(line()).toBe(false);
  });

  it('tell the line only when its level changes', () => {
    const { uart, levels, read, write } = setUp();
    write(MCR, OUT2);
    write(IER, 1);
    uart.receive(bytes(1, 2));
    read(DATA);
    read(DATA);
    expect(levels).toEqual([true, false]);
  });
});

describe('loopback', () => {
  it('returns what is sent, keeps it from the sink and leaves input waiting', () => {
    const { uart, sent, read, write } = setUp();
    write(MCR, LOOP);
    uart.receive(bytes(0x55));
    expect(read(LSR) & 1).toBe(0);
    write(DATA, 0xae);
    expect(read(DATA)).toBe(0xae);
    expect(sent).toEqual([]);
    write(MCR, 0);
    expect(read(DATA)).toBe(0x55);
  });

  it('with FIFOs loses the byte that does not fit, without them replaces the old one', () => {
    const { read, write } = setUp();
    write(MCR, LOOP);
    write(IIR, 1);
    for (let i = 0; i < 17; i++) write(DATA, i);
    expect(read(LSR)).toBe(0x63);
    const seen = [];
    while (read(LSR) & 1) seen.push(read(DATA));
    expect(seen).toEqual(Array.from({ length: 16 }, (_, i) => i));
  });

  it.each([
    [0x01, 0x20],
    [0x02, 0x10],
    [0x04, 0x40],
    [0x08, 0x80],
  ])('modem output %i appears as input %i', (output, input) => {
    const { read, write } = setUp();
    write(MCR, LOOP);
    read(MSR);
    write(MCR, LOOP | output);
    expect(read(MSR) & 0xf0).toBe(input);
    write(MCR, LOOP);
    const ended = read(MSR);
    // Every input tells of each change; the ring indicator only when it ends.
    expect(ended & 0xf0).toBe(0);
    expect(ended & 0x0f).toBe(input >>> 4);
    expect(read(MSR) & 0x0f).toBe(0);
  });

  it('the beginning of a ring is no delta', () => {
    const { read, write } = setUp();
    write(MCR, LOOP);
    read(MSR);
    write(MCR, LOOP | 4);
    expect(read(MSR)).toBe(0x40);
  });
});
