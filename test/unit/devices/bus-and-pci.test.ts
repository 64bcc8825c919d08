/** Dispatch, splitting, configuration space, BARs, chipset. */
import { describe, expect, it } from 'vitest';
import { Bus } from '../../../dist/devices/bus.js';
import { ConfigPorts, HostBridge, IsaBridge } from '../../../dist/devices/chipset.js';
import type { RangeClaims } from '../../../dist/devices/claims.js';
import type { RegisterBlock, RegisterSize } from '../../../dist/devices/device.js';
import { PciConfigSpace } from '../../../dist/devices/pci-config.js';

function claims(): RangeClaims & { log: string[]; refuse: boolean } {
  const log: string[] = [];
  return {
    log,
    refuse: false,
    mapPorts: (a, b) => log.push(`ports ${a.toString(16)}-${b.toString(16)}`),
    mapMemory(a, b) {
      log.push(`memory ${a.toString(16)}-${b.toString(16)}`);
      return !this.refuse;
    },
    unmapMemory: (a, b) => log.push(`unmap ${a.toString(16)}-${b.toString(16)}`),
    mapPci: (sbdf) => log.push(`pci ${sbdf}`),
  };
}

/** Reads give offset and size; writes are logged. */
function probe(maxSize: RegisterSize): RegisterBlock & { writes: number[][] } {
  const writes: number[][] = [];
  return {
    name: 'probe',
    maxSize,
    writes,
    read: (offset, size) => (size === 1 ? 0x10 + offset : size === 2 ? 0x2000 + offset : 0x40000000 + offset),
    write: (offset, size, value) => writes.push([offset, size, value]),
  };
}

describe('bus', () => {
  it('splits wide accesses, lowest address first', () => {
    const bus = new Bus(claims());
    const block = probe(1);
    bus.addPorts(0x3c0, 16, block);
    expect(bus.readPort(0x3c4, 4)).toBe(0x17161514);
    bus.writePort(0x3c4, 2, 0xaa55);
    expect(block.writes).toEqual([
      [4, 1, 0x55],
      [5, 1, 0xaa],
    ]);
  });

  it('keeps accesses whole that the registers take', () => {
    const bus = new Bus(claims());
    const block = probe(4);
    bus.mapMemory(0xf0000000, 4096, block);
    expect(bus.readMemory(0xf0000ffc, 4)).toBe(0x40000ffc);
    bus.writeMemory(0xf0000000, 4, 0xdeadbeef);
    expect(block.writes).toEqual([[0, 4, 0xdeadbeef]]);
  });

  it('gives all ones for nothing, also for the part of an access that hits nothing', () => {
    const bus = new Bus(claims());
    bus.addPorts(0x1ce, 2, probe(2));
    expect([bus.readPort(0x80, 1), bus.readPort(0x80, 2), bus.readPort(0x80, 4)]).toEqual([0xff, 0xffff, 0xffffffff]);
    expect(bus.readPort(0x1cf, 2)).toBe(0xff11); // offset 1 answers as a byte, beyond it nothing
    expect(bus.readPort(0xffff, 2)).toBe(0xffff);
    expect(bus.readMemory(2 ** 52 - 4, 4)).toBe(0xffffffff);
    expect(bus.readPci(0x1234, 0, 4)).toBe(0xffffffff);
    bus.writePort(0x80, 4, 1);
    bus.writeMemory(0, 4, 1);
    bus.writePci(0x1234, 0, 4, 1);
  });

  it('refuses memory that is taken: before, after, inside, around', () => {
    const c = claims();
    const bus = new Bus(c);
    expect(bus.mapMemory(0x1000, 0x1000, probe(1))).toBe(true);
    for (const [first, length] of [
      [0x0, 0x1001],
      [0x1fff, 1],
      [0x1800, 0x100],
      [0x800, 0x2000],
      [0x1000, 0x1000],
    ] as const) {
      expect(bus.mapMemory(first, length, probe(1))).toBe(false);
    }
    expect(bus.nrRefused).toBe(5);
    expect(bus.mapMemory(0x0, 0x1000, probe(1))).toBe(true);
    expect(bus.mapMemory(0x2000, 0x1000, probe(1))).toBe(true);
    expect(c.log).toEqual(['memory 1000-1fff', 'memory 0-fff', 'memory 2000-2fff']);
  });

  it('forgets a mapping that the host refuses', () => {
    const c = claims();
    const bus = new Bus(c);
    c.refuse = true;
    expect(bus.mapMemory(0x1000, 0x1000, probe(1))).toBe(false);
    expect(bus.readMemory(0x1000, 1)).toBe(0xff);
    c.refuse = false;
    expect(bus.mapMemory(0x1000, 0x1000, probe(1))).toBe(true);
    bus.unmapMemory(0x1000);
    expect(bus.readMemory(0x1000, 1)).toBe(0xff);
  });
});

function space(onChange?: (bar: number, address: number | undefined) => void) {
  return new PciConfigSpace(
    {
      vendorId: 0x1234,
      deviceId: 0x1111,
      revision: 2,
      classCode: 0x030000,
      bars: {
        0: { space: 'memory', size: 0x1000000, prefetchable: true },
        1: { space: 'io', size: 32 },
        2: { space: 'memory', size: 4096 },
      },
      registers: [{ offset: 0x60, mask: 0x8f, value: 0x80 }],
    },
    onChange,
  );
}

describe('configuration space', () => {
  it('shows its identity in any width', () => {
    const config = space();
    expect(config.read(0, 4)).toBe(0x11111234);
    expect(config.read(2, 2)).toBe(0x1111);
    expect(config.read(8, 4)).toBe(0x03000002);
    expect([0x09, 0x0a, 0x0b].map((r) => config.read(r, 1))).toEqual([0x00, 0x00, 0x03]);
  });

  it.each([
    ['vendor', 0x00, 4, 0xffffffff, 0x11111234],
    ['command', 0x04, 2, 0xffff, 0x0547],
    ['status', 0x06, 2, 0xffff, 0],
    ['class', 0x08, 4, 0, 0x03000002],
    ['latency', 0x0d, 1, 0x40, 0x40],
    ['interrupt line', 0x3c, 1, 11, 11],
    ['interrupt pin', 0x3d, 1, 3, 0],
    ['a device register', 0x60, 1, 0x7b, 0x0b],
    ['expansion ROM', 0x30, 4, 0xffffffff, 0],
  ] as const)('%s at %i keeps only its writable bits', (_name, register, size, value, expected) => {
    const config = space();
    config.write(register, size, value);
    expect(config.read(register, size)).toBe(expected);
  });

  it.each([
    [0, 0xff000008],
    [1, 0xffffffe1],
    [2, 0xfffff000],
    [3, 0],
    [5, 0],
  ])('BAR %i sizes as %i', (bar, expected) => {
    const config = space();
    config.write(0x10 + 4 * bar, 4, 0xffffffff);
    expect(config.read(0x10 + 4 * bar, 4)).toBe(expected);
  });

  it('decodes a BAR while its space is on and its address makes sense', () => {
    const moves: unknown[] = [];
    const config = space((bar, address) => moves.push([bar, address]));
    config.write(0x10, 4, 0xf0000000);
    expect(moves).toEqual([]);
    config.write(0x04, 2, 2);
    config.write(0x10, 4, 0xffffffff); // sizing, with decoding left on
    config.write(0x10, 4, 0xe0000000);
    config.write(0x04, 1, 0);
    config.write(0x04, 1, 1); // port space only
    config.write(0x14, 4, 0xc000);
    config.write(0x10, 4, 0);
    config.write(0x04, 1, 3);
    expect(moves).toEqual([
      [0, 0xf0000000],
      [0, undefined],
      [0, 0xe0000000],
      [0, undefined],
      [1, 0xc000],
    ]);
    expect([config.barAddress(0), config.barAddress(1), config.barAddress(2)]).toEqual([undefined, 0xc000, undefined]);
  });

  it('moves a BAR that is written byte by byte', () => {
    const config = space();
    config.write(0x04, 1, 2);
    config.write(0x13, 1, 0xf1);
    expect(config.barAddress(0)).toBe(0xf1000000);
    config.write(0x12, 1, 0xff); // below the BAR's size
    expect(config.barAddress(0)).toBe(0xf1000000);
  });

  it('port BARs beyond 64 KiB are not decoded', () => {
    const config = space();
    config.write(0x04, 1, 1);
    config.write(0x14, 4, 0xffe0);
    expect(config.barAddress(1)).toBeUndefined();
    config.write(0x14, 4, 0x1c000);
    expect(config.barAddress(1)).toBeUndefined();
  });

  it('ends decoding at reset', () => {
    const moves: unknown[] = [];
    const config = space((bar, address) => moves.push([bar, address]));
    config.write(0x04, 1, 2);
    config.write(0x18, 4, 0xf0000000);
    config.reset();
    expect(moves).toEqual([
      [2, 0xf0000000],
      [2, undefined],
    ]);
  });

  it.each([
    [253, 4],
    [255, 2],
    [256, 1],
    [4095, 1],
    [-1, 1],
    [0, 0],
    [0, 3],
    [0, 8],
  ])('register %i of %i bytes does not exist', (register, size) => {
    const config = space();
    const before = Array.from({ length: 256 }, (_, i) => config.read(i, 1));
    config.write(register, size as 1, 0xffffffff);
    expect(Array.from({ length: 256 }, (_, i) => config.read(i, 1))).toEqual(before);
    expect(config.read(register, size as 1) & 0xff).toBe(0xff);
  });
});

describe('chipset', () => {
  it('the host bridge is an i440FX', () => {
    const bridge = new HostBridge();
    expect(bridge.readConfig(0, 4)).toBe(0x12378086);
    expect(bridge.readConfig(0x0a, 2)).toBe(0x0600);
    bridge.writeConfig(0x59, 1, 0xff);
    expect(bridge.readConfig(0x59, 1)).toBe(0x77);
    bridge.reset();
    expect([bridge.readConfig(0x59, 1), bridge.readConfig(0x72, 1)]).toEqual([0, 2]);
  });

  it('the ISA bridge routes PCI links where interrupts can be routed', () => {
    const routes: number[][] = [];
    const bridge = new IsaBridge((link, irq) => routes.push([link, irq]));
    expect(bridge.readConfig(0, 4)).toBe(0x70008086);
    bridge.writeConfig(0x60, 4, 0x800b0a05);
    bridge.writeConfig(0x61, 1, 0x0a); // as it was
    bridge.writeConfig(0x60, 1, 0x02); // not routable
    bridge.writeConfig(0x62, 1, 0x8b); // disabled
    expect(routes).toEqual([
      [0, 5],
      [1, 10],
      [2, 11],
      [0, 0],
      [2, 0],
    ]);
    bridge.reset();
    expect(routes.at(-1)).toEqual([1, 0]);
  });

  it('the configuration address reads back in whole, and 0xcf9 resets on a rising edge', () => {
    let resets = 0;
    const ports = new ConfigPorts(() => resets++);
    const bus = new Bus(claims());
    for (const { first, count, block } of ports.ports) bus.addPorts(first, count, block);
    bus.writePort(0xcf8, 4, 0x80001013);
    expect(bus.readPort(0xcf8, 4)).toBe(0x80001010);
    bus.writePort(0xcf8, 2, 0);
    bus.writePort(0xcf8, 1, 0);
    expect(bus.readPort(0xcf8, 4)).toBe(0x80001010);
    expect(bus.readPort(0xcfc, 4)).toBe(0xffffffff);
    bus.writePort(0xcf9, 1, 0x02);
    expect([resets, bus.readPort(0xcf9, 1)]).toEqual([0, 2]);
    bus.writePort(0xcf9, 1, 0x06);
    expect([resets, bus.readPort(0xcf9, 1)]).toEqual([1, 2]);
  });
});
