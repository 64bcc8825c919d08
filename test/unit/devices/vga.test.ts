/** VGA registers, VBE, the legacy window, the picture, and the device around them. */
import { describe, expect, it } from 'vitest';
import type { RegisterBlock } from '../../../dist/devices/device.js';
import { Display } from '../../../dist/devices/vga/display.js';
import { toPpm } from '../../../dist/devices/vga/picture.js';
import { PlanarMemory } from '../../../dist/devices/vga/planar-memory.js';
import * as vbe from '../../../dist/devices/vga/vbe-registers.js';
import { VgaDevice } from '../../../dist/devices/vga/vga-device.js';
import { VgaRegisters } from '../../../dist/devices/vga/vga-registers.js';
import { PrivateVideoMemory } from '../../../dist/devices/vga/video-memory.js';

const MIB = 1 << 20;

function setIndexed(registers: VgaRegisters, port: number, index: number, value: number): void {
  registers.write(port, index);
  registers.write(port + 1, value);
}

function setAttribute(registers: VgaRegisters, index: number, value: number): void {
  registers.read(0x3da);
  registers.write(0x3c0, index);
  registers.write(0x3c0, value);
}

describe('registers', () => {
  it('the attribute flip-flop alternates between index and data and starts again with the status read', () => {
    const r = new VgaRegisters();
    r.write(0x3c2, 1);
    r.read(0x3da);
    r.write(0x3c0, 0x10);
    r.write(0x3c0, 0x41);
    r.write(0x3c0, 0x01);
    r.read(0x3da); // the next write is an index again
    r.write(0x3c0, 0x02);
    r.write(0x3c0, 0x3f);
    expect([...r.attribute.subarray(0, 3)]).toEqual([0, 0, 0x3f]);
    expect(r.attribute[0x10]).toBe(0x41);
    expect(r.read(0x3c0)).toBe(0x02);
    expect(r.read(0x3c1)).toBe(0x3f);
    expect(r.read(0x3c1)).toBe(0x3f); // reading data does not toggle
  });

  it('the palette address source turns the display on', () => {
    const r = new VgaRegisters();
    r.write(0x3c0, 0x20);
    expect(r.isDisplayOn).toBe(true);
  });

  it.each([
    [0x3c4, 0, 0xff, 0x03],
    [0x3c4, 1, 0xff, 0x3d],
    [0x3c4, 2, 0xff, 0x0f],
    [0x3c4, 4, 0xff, 0x0e],
    [0x3c4, 7, 0xff, 0],
    [0x3ce, 3, 0xff, 0x1f],
    [0x3ce, 5, 0xff, 0x7b],
    [0x3ce, 8, 0xa5, 0xa5],
    [0x3ce, 15, 0xff, 0],
  ])('port %i index %i written %i reads %i', (port, index, value, expected) => {
    const r = new VgaRegisters();
    setIndexed(r, port, index, value);
    expect(r.read(port)).toBe(index);
    expect(r.read(port + 1)).toBe(expected);
  });

  it('the CRTC moves with the miscellaneous register; the other place gives all ones', () => {
    const r = new VgaRegisters();
    setIndexed(r, 0x3b4, 0x0c, 0x12);
    expect([r.read(0x3b5), r.read(0x3d5), r.read(0x3da)]).toEqual([0x12, 0xff, 0xff]);
    r.write(0x3c2, 1);
    expect([r.read(0x3b5), r.read(0x3d5), r.read(0x3cc)]).toEqual([0xff, 0x12, 1]);
  });

  it('protected CRTC registers keep their values, but for the line compare bit', () => {
    const r = new VgaRegisters();
    setIndexed(r, 0x3b4, 0x11, 0x80);
    setIndexed(r, 0x3b4, 0x00, 0x5f);
    setIndexed(r, 0x3b4, 0x07, 0xff);
    setIndexed(r, 0x3b4, 0x12, 0x8f);
    setIndexed(r, 0x3b4, 0x1f, 0x55); // no such register
    expect([r.crtc[0x00], r.crtc[0x07], r.crtc[0x12]]).toEqual([0, 0x10, 0x8f]);
    expect(r.read(0x3b5)).toBe(0);
  });

  it('the DAC takes three components at a time, cuts them to 6 bits and steps by itself', () => {
    const r = new VgaRegisters();
    r.write(0x3c8, 255);
    for (const v of [0xff, 0x01, 0x02, 0x03, 0x04]) r.write(0x3c9, v);
    expect([...r.dac.subarray(765)]).toEqual([0x3f, 1, 2]);
    expect([...r.dac.subarray(0, 3)]).toEqual([0, 0, 0]); // the second entry is not complete
    expect([r.read(0x3c7), r.read(0x3c8)]).toEqual([0, 0]);
    r.write(0x3c7, 255);
    expect([r.read(0x3c7), r.read(0x3c9), r.read(0x3c9), r.read(0x3c9), r.read(0x3c9)]).toEqual([3, 0x3f, 1, 2, 0]);
    r.wideDac = true;
    r.write(0x3c8, 0);
    for (const v of [0xff, 0x80, 0x01]) r.write(0x3c9, v);
    expect([...r.dac.subarray(0, 3)]).toEqual([0xff, 0x80, 1]);
  });

  it('the retrace status toggles, for software that waits for it', () => {
    const r = new VgaRegisters();
    const a = r.read(0x3ba);
    const b = r.read(0x3ba);
    expect(a ^ b).toBe(0x09);
  });

  it('any port answers any byte', () => {
    const r = new VgaRegisters();
    for (let port = 0x3b0; port < 0x3e0; port++) {
      for (const value of [0, 0x1f, 0x80, 0xff]) {
        r.write(port, value);
        expect(r.read(port)).toBeLessThanOrEqual(0xff);
      }
    }
    r.reset();
    expect(r.isDisplayOn).toBe(false);
  });
});

function vbeSetUp(size = 16 * MIB) {
  const cleared: number[] = [];
  const registers = new vbe.VbeRegisters(size, (n) => cleared.push(n));
  const mode = (xres: number, yres: number, bpp: number, enable = 0x41) => {
    registers.write(vbe.VBE_ENABLE, 0);
    registers.write(vbe.VBE_XRES, xres);
    registers.write(vbe.VBE_YRES, yres);
    registers.write(vbe.VBE_BPP, bpp);
    registers.write(vbe.VBE_ENABLE, enable);
  };
  return { registers, cleared, mode };
}

describe('VBE', () => {
  it.each([
    [0xb0c0, 0xb0c0],
    [0xb0c5, 0xb0c5],
    [0xb0c6, 0xb0c5],
    [0, 0xb0c5],
  ])('the ID written %i reads %i', (written, read) => {
    const { registers } = vbeSetUp();
    registers.write(vbe.VBE_ID, written);
    expect(registers.read(vbe.VBE_ID)).toBe(read);
  });

  it('reports its memory and, when asked, its limits', () => {
    const { registers } = vbeSetUp();
    expect(registers.read(vbe.VBE_VIDEO_MEMORY_64K)).toBe(256);
    registers.write(vbe.VBE_ENABLE, 2);
    expect([vbe.VBE_XRES, vbe.VBE_YRES, vbe.VBE_BPP].map((i) => registers.read(i))).toEqual([16000, 12000, 32]);
    registers.write(vbe.VBE_VIDEO_MEMORY_64K, 1);
    expect(registers.read(vbe.VBE_VIDEO_MEMORY_64K)).toBe(256);
    expect(registers.read(11)).toBe(0);
    expect(registers.read(0xffff)).toBe(0);
  });

  it.each([
    [640, 480, 4, { stride: 320, bpp: 4 }],
    [800, 600, 8, { stride: 800, bpp: 8 }],
    [800, 600, 15, { stride: 1600, bpp: 15 }],
    [1024, 768, 16, { stride: 2048, bpp: 16 }],
    [1024, 768, 24, { stride: 3072, bpp: 24 }],
    [1920, 1080, 32, { stride: 7680, bpp: 32 }],
    [643, 1, 32, { width: 640, stride: 2560 }],
    [0, 0, 0, { width: 8, height: 1, bpp: 8 }],
    [0xffff, 0xffff, 32, { width: 16000, height: 262 }],
    [1024, 768, 7, { bpp: 8, stride: 1024 }],
  ])('%ix%i at %i bits becomes %j', (x, y, bpp, expected) => {
    const { registers, mode } = vbeSetUp();
    mode(x, y, bpp);
    const geometry = registers.geometry();
    expect(geometry).toMatchObject({ start: 0, ...expected });
    expect(geometry.stride * geometry.height).toBeLessThanOrEqual(16 * MIB);
  });

  it('clears the picture when a mode is set, unless told not to, and only then', () => {
    const { registers, cleared, mode } = vbeSetUp();
    mode(640, 480, 32);
    registers.write(vbe.VBE_ENABLE, 0x41);
    mode(640, 480, 32, 0xc1);
    expect(cleared).toEqual([640 * 480 * 4]);
    expect(registers.read(vbe.VBE_VIRT_HEIGHT)).toBe(Math.floor((16 * MIB) / 2560));
  });

  it('scrolls within a wider virtual screen, and not out of memory', () => {
    const { registers, mode } = vbeSetUp(MIB);
    mode(256, 256, 32);
    registers.write(vbe.VBE_VIRT_WIDTH, 512);
    registers.write(vbe.VBE_X_OFFSET, 10);
    registers.write(vbe.VBE_Y_OFFSET, 100);
    expect(registers.geometry()).toMatchObject({ stride: 2048, start: 100 * 2048 + 40 });
    registers.write(vbe.VBE_Y_OFFSET, 257);
    expect(registers.geometry().start).toBe(0);
    registers.write(vbe.VBE_VIRT_WIDTH, 8);
    expect(registers.geometry().stride).toBe(1024);
  });

  it('keeps the bank within memory', () => {
    const { registers } = vbeSetUp(MIB);
    registers.write(vbe.VBE_BANK, 0xffff);
    expect(registers.bankOffset).toBe(15 << 16);
  });
});

function planarSetUp(size = MIB) {
  const vram = new PrivateVideoMemory(size);
  const registers = new VgaRegisters();
  const { registers: v, mode } = vbeSetUp(size);
  const memory = new PlanarMemory(registers, v, vram);
  const gr = (index: number, value: number) => setIndexed(registers, 0x3ce, index, value);
  const sr = (index: number, value: number) => setIndexed(registers, 0x3c4, index, value);
  const planes = (offset: number) => [...vram.bytes.subarray(offset * 4, offset * 4 + 4)];
  sr(2, 0x0f);
  gr(6, 0x05);
  gr(8, 0xff);
  return { vram, memory, registers, gr, sr, planes, mode, vbe: v };
}

describe('legacy window', () => {
  it.each([
    [0, 0, true, 0x1ffff, true],
    [1, 0xffff, true, 0x10000, false],
    [2, 0x10000, true, 0x18000, false],
    [3, 0x18000, true, 0x17fff, false],
  ])('memory map %i has %i: %s and %i: %s', (map, a, hasA, b, hasB) => {
    const { memory, gr } = planarSetUp();
    gr(6, (map << 2) | 1);
    for (const [offset, has] of [
      [a, hasA],
      [b, hasB],
    ] as const) {
      memory.write(offset, 1, 0x5a);
      expect(memory.read(offset)).toBe(has ? 0x5a : 0xff);
    }
  });

  it('write mode 0: map mask, rotation, set/reset, bit mask', () => {
    const { memory, gr, sr, planes } = planarSetUp();
    sr(2, 0x05);
    memory.write(0, 1, 0xaa);
    expect(planes(0)).toEqual([0xaa, 0, 0xaa, 0]);
    sr(2, 0x0f);
    gr(3, 4);
    memory.write(1, 1, 0x1f);
    expect(planes(1)).toEqual([0xf1, 0xf1, 0xf1, 0xf1]);
    gr(3, 0);
    gr(0, 0x01);
    gr(1, 0x03);
    memory.write(2, 1, 0x3c);
    expect(planes(2)).toEqual([0xff, 0, 0x3c, 0x3c]);
    gr(1, 0);
    memory.read(2);
    gr(8, 0x0f);
    memory.write(2, 1, 0);
    expect(planes(2)).toEqual([0xf0, 0, 0x30, 0x30]);
  });

  it.each([
    [0, [0x0f, 0x0f, 0x0f, 0x0f]],
    [1, [0x0c, 0x0f, 0x00, 0x05]],
    [2, [0x3f, 0xff, 0x0f, 0x5f]],
    [3, [0x33, 0xf0, 0x0f, 0x5a]],
  ])('logical function %i with the latches', (operation, expected) => {
    const { vram, memory, gr, planes } = planarSetUp();
    vram.bytes.set([0x3c, 0xff, 0x00, 0x55]);
    memory.read(0);
    gr(3, operation << 3);
    memory.write(1, 1, 0x0f);
    expect(planes(1)).toEqual(expected);
  });

  it('write mode 1 copies the latches, mode 2 a colour, mode 3 a mask of a colour', () => {
    const { vram, memory, gr, planes } = planarSetUp();
    vram.bytes.set([1, 2, 3, 4]);
    memory.read(0);
    gr(5, 1);
    memory.write(1, 1, 0xff);
    expect(planes(1)).toEqual([1, 2, 3, 4]);
    gr(5, 2);
    gr(8, 0xf0);
    memory.write(1, 1, 0x09);
    expect(planes(1)).toEqual([0xf1, 0x02, 0x03, 0xf4]);
    gr(5, 3);
    gr(8, 0x3c);
    gr(0, 0x02);
    memory.write(1, 1, 0x0f);
    expect(planes(1)).toEqual([0x01 & ~0x0c, 0x02 | 0x0c, 0x03 & ~0x0c, 0x04 & ~0x0c]);
  });

  it('read mode 0 reads one plane, read mode 1 compares colours', () => {
    const { vram, memory, gr } = planarSetUp();
    vram.bytes.set([0b11110000, 0b11001100, 0b10101010, 0b00000001]);
    gr(4, 1);
    expect(memory.read(0)).toBe(0b11001100);
    gr(5, 8);
    gr(2, 0b0111);
    gr(7, 0b1111);
    expect(memory.read(0)).toBe(0b10000000);
    gr(7, 0b0001);
    expect(memory.read(0)).toBe(0b11110000);
    gr(7, 0);
    expect(memory.read(0)).toBe(0xff);
  });

  it('odd/even addressing puts characters and attributes side by side', () => {
    const { vram, memory, gr, sr } = planarSetUp();
    gr(5, 0x10);
    gr(6, 0x0c | 2);
    sr(2, 3);
    memory.write(0x18000, 1, 0x41);
    memory.write(0x18001, 1, 0x07);
    memory.write(0x18002, 1, 0x42);
    expect([...vram.bytes.subarray(0, 6)]).toEqual([0x41, 0x07, 0, 0, 0x42, 0]);
    expect([memory.read(0x18000), memory.read(0x18001), memory.read(0x18002)]).toEqual([0x41, 7, 0x42]);
  });

  it('chain 4 is linear, under the map mask', () => {
    const { vram, memory, sr } = planarSetUp();
    sr(4, 0x0e);
    sr(2, 0x0b);
    for (let i = 0; i < 4; i++) memory.write(100 + i, 1, i + 1);
    expect([...vram.bytes.subarray(100, 104)]).toEqual([1, 2, 0, 4]);
    expect(memory.read(103)).toBe(4);
  });

  it('shows a bank of a VBE mode', () => {
    const { vram, memory, mode, vbe: v } = planarSetUp();
    mode(640, 480, 8);
    v.write(vbe.VBE_BANK, 2);
    memory.write(5, 1, 0x77);
    expect(vram.bytes[0x20005]).toBe(0x77);
    expect(memory.read(0x10000)).toBe(0xff);
  });

  it('notes the pages it writes, and only those', () => {
    const { vram, memory, sr } = planarSetUp();
    sr(4, 8);
    memory.read(0);
    memory.write(0x0fff, 1, 1);
    memory.write(0x3000, 1, 1);
    memory.write(0x4000, 1, 1);
    expect(vram.collectDirty()).toEqual([
      { first: 0, count: 1 },
      { first: 3, count: 2 },
    ]);
    expect(vram.collectDirty()).toEqual([]);
  });

  it('stays within memory whatever the registers say', () => {
    const { vram, memory, registers } = planarSetUp();
    let seed = 1;
    const random = (n: number) => {
      seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
      return (seed >>> 8) % n;
    };
    for (let i = 0; i < 20000; i++) {
      registers.write(0x3c0 + random(16), random(256));
      memory.write(random(0x20000), 1, random(256));
      const value = memory.read(random(0x20000));
      if (!(value >= 0 && value <= 0xff)) expect.fail(`read ${value}`);
    }
    expect(vram.bytes).toHaveLength(MIB);
  });
});

function pixel(picture: { width: number; rgb: Uint8Array }, x: number, y: number): number[] {
  const at = (y * picture.width + x) * 3;
  return [...picture.rgb.subarray(at, at + 3)];
}

function displaySetUp() {
  const setUp = planarSetUp();
  const display = new Display(setUp.registers, setUp.vbe, setUp.vram.bytes);
  const { registers } = setUp;
  const crtc = (values: Record<number, number>) => {
    registers.write(0x3c2, 1);
    for (const [index, value] of Object.entries(values)) setIndexed(registers, 0x3d4, Number(index), value);
  };
  const dac = (index: number, r: number, g: number, b: number) => {
    registers.write(0x3c8, index);
    for (const v of [r, g, b]) registers.write(0x3c9, v);
  };
  for (let i = 0; i < 16; i++) setAttribute(registers, i, i);
  setAttribute(registers, 0x12, 0x0f);
  registers.write(0x3c0, 0x20);
  return { ...setUp, display, crtc, dac };
}

describe('picture', () => {
  it('is blank until the display is turned on', () => {
    const { display, registers } = displaySetUp();
    registers.reset();
    expect(display.mode().kind).toBe('blank');
    expect(display.render()).toMatchObject({ width: 0, height: 0 });
  });

  it.each([
    [32, [0x33, 0x22, 0x11, 0xff], [0x11, 0x22, 0x33]],
    [24, [0x33, 0x22, 0x11], [0x11, 0x22, 0x33]],
    [16, [0xe0, 0xff], [255, 255, 0]],
    [15, [0x1f, 0x7c], [255, 0, 255]],
    [8, [5], [255, 4, 130]],
  ])('draws a pixel of %i bits', (bpp, bytes, rgb) => {
    const { display, mode, vram, dac } = displaySetUp();
    dac(5, 0x3f, 0x01, 0x20);
    mode(64, 32, bpp);
    const { start, stride } = display.mode();
    vram.bytes.set(bytes, start + 3 * stride + 2 * bytes.length);
    const picture = display.render();
    expect(picture).toMatchObject({ width: 64, height: 32 });
    expect(pixel(picture, 2, 3)).toEqual(rgb);
    expect(pixel(picture, 3, 3)).toEqual([0, 0, 0]);
  });

  it('draws text with font, attributes, ninth column and cursor', () => {
    const { display, crtc, dac, gr, vram } = displaySetUp();
    gr(6, 0x0e);
    dac(7, 0x2a, 0x2a, 0x2a);
    dac(1, 0, 0, 0x2a);
    crtc({ 1: 79, 18: 0x8f, 7: 0x02, 9: 15, 19: 40, 10: 14, 11: 15, 14: 0, 15: 1 });
    const mode = display.mode();
    expect(mode).toMatchObject({ kind: 'text', width: 720, height: 400, stride: 320, rowHeight: 16, charWidth: 9 });
    vram.bytes.set([0x41, 0x17, 0, 0, 0x20, 0x17]);
    vram.bytes[(0x41 * 32 + 2) * 4 + 2] = 0b1000_0001; // third line of the glyph
    const picture = display.render();
    const grey = [0xaa, 0xaa, 0xaa];
    const blue = [0, 0, 0xaa];
    expect([0, 1, 7, 8].map((x) => pixel(picture, x, 2))).toEqual([grey, blue, grey, blue]);
    expect(pixel(picture, 9, 13)).toEqual(blue);
    expect(pixel(picture, 9, 14)).toEqual(grey); // the cursor under the second character
    expect(pixel(picture, 18, 14)).toEqual([0, 0, 0]);
  });

  it('draws 16 colours from four planes', () => {
    const { display, crtc, dac, gr, vram } = displaySetUp();
    crtc({ 1: 79, 18: 0xdf, 7: 0x02, 9: 0, 19: 40 });
    gr(6, 5);
    dac(9, 0x3f, 0, 0);
    expect(display.mode()).toMatchObject({ kind: 'planar', width: 640, height: 480, stride: 320, bpp: 4 });
    vram.bytes.set([0x40, 0, 0, 0x40], 320);
    expect(pixel(display.render(), 1, 1)).toEqual([255, 0, 0]);
  });

  it('draws mode 13h, lines doubled by the hardware', () => {
    const { display, crtc, dac, gr, vram } = displaySetUp();
    crtc({ 1: 79, 18: 0x8f, 7: 0x02, 9: 1, 19: 40 });
    gr(6, 5);
    gr(5, 0x40);
    dac(200, 0, 0x3f, 0);
    expect(display.mode()).toMatchObject({ kind: 'packed8', width: 320, height: 200, stride: 320, bpp: 8 });
    vram.bytes[199 * 320 + 319] = 200;
    expect(pixel(display.render(), 319, 199)).toEqual([0, 255, 0]);
  });

  it('is written as a portable pixmap', () => {
    const ppm = toPpm({ width: 2, height: 1, rgb: Uint8Array.of(1, 2, 3, 4, 5, 6) });
    expect(new TextDecoder('latin1').decode(ppm)).toBe('P6\n2 1\n255\n\x01\x02\x03\x04\x05\x06');
  });
});

function deviceSetUp(size = 16 * MIB) {
  const map = new Map<number, { length: number; block: RegisterBlock }>();
  const places: (number | undefined)[] = [];
  const vram = new PrivateVideoMemory(size);
  vram.place = (address?: number) => places.push(address);
  let refuse = false;
  const device = new VgaDevice(vram, {
    map(address, length, block) {
      if (!refuse) map.set(address, { length, block });
      return !refuse;
    },
    unmap: (address) => map.delete(address),
  });
  const port = (first: number) => device.ports.find((p) => p.first === first)?.block as RegisterBlock;
  return { device, vram, map, places, port, setRefuse: (r: boolean) => (refuse = r) };
}

describe('device', () => {
  it('is QEMU’s standard VGA on PCI', () => {
    const { device } = deviceSetUp();
    expect(device.readConfig(0, 4)).toBe(0x11111234);
    expect(device.readConfig(0x0a, 2)).toBe(0x0300);
    device.writeConfig(0x10, 4, 0xffffffff);
    device.writeConfig(0x18, 4, 0xffffffff);
    expect([device.readConfig(0x10, 4), device.readConfig(0x18, 4)]).toEqual([0xff000008, 0xfffff000]);
  });

  it('maps its BARs, moves its memory along and survives a refusal', () => {
    const { device, map, places, setRefuse } = deviceSetUp();
    device.writeConfig(0x10, 4, 0xf0000000);
    device.writeConfig(0x18, 4, 0xf1000000);
    device.writeConfig(0x04, 2, 2);
    expect([...map].map(([a, w]) => [a, w.length])).toEqual([
      [0xf0000000, 16 * MIB],
      [0xf1000000, 4096],
    ]);
    setRefuse(true);
    device.writeConfig(0x10, 4, 0xe0000000);
    expect([...map.keys()]).toEqual([0xf1000000]);
    setRefuse(false);
    device.writeConfig(0x10, 4, 0xd0000000);
    device.reset();
    expect(map.size).toBe(0);
    expect(places).toEqual([0xf0000000, undefined, undefined, undefined, 0xd0000000, undefined]);
  });

  it('the aperture reads and writes video memory', () => {
    const { device, map, vram } = deviceSetUp();
    device.writeConfig(0x10, 4, 0xf0000000);
    device.writeConfig(0x04, 2, 2);
    const { block } = map.get(0xf0000000) as { block: RegisterBlock };
    block.write(16 * MIB - 4, 4, 0xdeadbeef);
    expect(block.read(16 * MIB - 4, 4) >>> 0).toBe(0xdeadbeef);
    expect(block.read(16 * MIB - 2, 2)).toBe(0xdead);
    expect(vram.collectDirty()).toEqual([{ first: 4095, count: 1 }]);
  });

  it('VBE works through its ports', () => {
    const { port } = deviceSetUp();
    const block = port(0x1ce);
    const set = (index: number, value: number) => {
      block.write(0, 2, index);
      block.write(1, 2, value);
    };
    set(0, 0xb0c4);
    expect([block.read(0, 2), block.read(1, 2), block.read(2, 2)]).toEqual([0, 0xb0c4, 0xb0c4]);
    expect([block.read(0, 1), block.read(3, 1)]).toEqual([0xff, 0xff]);
    block.write(0, 2, 10);
    expect(block.read(1, 2)).toBe(256);
  });

  it('and through BAR 2, with the VGA ports and the extension registers', () => {
    const { device, map } = deviceSetUp();
    device.writeConfig(0x18, 4, 0xf1000000);
    device.writeConfig(0x04, 2, 2);
    const { block } = map.get(0xf1000000) as { block: RegisterBlock };
    expect(block.read(0x500, 2)).toBe(0xb0c5);
    expect([block.read(0x500, 1), block.read(0x501, 1)]).toEqual([0xc5, 0xb0]);
    block.write(0x502, 2, 640);
    block.write(0x504, 4, 480 | (32 << 16));
    block.write(0x508, 2, 0x61);
    expect(device.display.mode()).toMatchObject({ kind: 'linear', width: 640, height: 480, bpp: 32 });
    expect(device.registers.wideDac).toBe(true);
    block.write(0x404, 2, 0x0f02); // sequencer index and data at once
    expect(block.read(0x405, 1)).toBe(0x0f);
    expect([block.read(0x600, 4), block.read(0x604, 4)]).toEqual([8, 0x1e1e1e1e]);
    expect(block.read(0x800, 4)).toBe(0xffffffff);
    for (let offset = 0; offset < 4096; offset++) {
      for (const size of [1, 2, 4] as const) {
        if (offset + size > 4096) continue;
        block.write(offset, size, 0xffffffff);
        block.read(offset, size);
      }
    }
  });

  it('refresh reports everything once, then the rows that changed', () => {
    const { device, vram } = deviceSetUp();
    device.vbe.write(vbe.VBE_XRES, 1024);
    device.vbe.write(vbe.VBE_YRES, 768);
    device.vbe.write(vbe.VBE_BPP, 32);
    device.vbe.write(vbe.VBE_ENABLE, 0xc1);
    expect(device.refresh()).toMatchObject({ isFull: true, rows: [{ first: 0, count: 768 }] });
    expect(device.refresh()).toMatchObject({ isFull: false, rows: [], nrDirtyPages: 0 });
    vram.markDirty(10 * 4096 + 100, 1); // 1024 pixels of 4 bytes: a page is a row
    vram.markDirty(11 * 4096, 1);
    vram.markDirty(767 * 4096, 1);
    vram.markDirty(768 * 4096, 1); // below what is shown
    expect(device.refresh()).toMatchObject({
      rows: [
        { first: 10, count: 2 },
        { first: 767, count: 1 },
      ],
      nrDirtyPages: 4,
    });
    device.vbe.write(vbe.VBE_Y_OFFSET, 1);
    expect(device.refresh().isFull).toBe(true);
  });

  it('rows that share a page are all reported', () => {
    const { device, vram } = deviceSetUp();
    device.vbe.write(vbe.VBE_XRES, 800);
    device.vbe.write(vbe.VBE_YRES, 600);
    device.vbe.write(vbe.VBE_BPP, 8);
    device.vbe.write(vbe.VBE_ENABLE, 0xc1);
    device.refresh();
    vram.markDirty(4096, 1); // bytes 4096 to 8191: rows 5 (from 4000) to 10 (from 8000)
    expect(device.refresh().rows).toEqual([{ first: 5, count: 6 }]);
  });
});
