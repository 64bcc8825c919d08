/**
 * The chipset as far as firmware looks for it: an i440FX-like host bridge, the PIIX3 ISA bridge with its interrupt
 * routing, and the ports of PCI configuration mechanism #1.
 *
 * Xen follows the address port itself and turns accesses of the data port into configuration requests, so the data port
 * arrives here only where no function is selected; the address port arrives as well, for reading back.
 *
 * @spec Intel 82441FX (8086:1237), 82371SB (8086:7000)
 */
import { allOnes, type PciDevice, type PortDevice, type RegisterBlock, type RegisterSize } from './device.js';
import { PciConfigSpace } from './pci-config.js';

const RED_HAT_SUBSYSTEM_VENDOR = 0x1af4;
const QEMU_SUBSYSTEM = 0x1100;

/** The host bridge at 00:00.0: registers are kept, and have no further effect. */
export class HostBridge implements PciDevice {
  private readonly config = new PciConfigSpace({
    vendorId: 0x8086,
    deviceId: 0x1237,
    revision: 2,
    classCode: 0x060000,
    subsystemVendorId: RED_HAT_SUBSYSTEM_VENDOR,
    subsystemId: QEMU_SUBSYSTEM,
    registers: [
      ...[0x50, 0x51].map((offset) => ({ offset, mask: 0xff })), // memory controller configuration
      ...[0x59, 0x5a, 0x5b, 0x5c, 0x5d, 0x5e, 0x5f].map((offset) => ({ offset, mask: 0x77 })), // PAM0 to PAM6
      ...[0x60, 0x61, 0x62, 0x63, 0x64, 0x65, 0x66, 0x67].map((offset) => ({ offset, mask: 0xff })), // DRAM boundaries
      { offset: 0x72, mask: 0x78, value: 0x02 }, // SMRAM
    ],
  });

  readConfig(register: number, size: RegisterSize): number {
    return this.config.read(register, size);
  }

  writeConfig(register: number, size: RegisterSize, value: number): void {
    this.config.write(register, size, value);
  }

  reset(): void {
    this.config.reset();
  }
}

/** Routes PCI link 0 to 3 to an ISA interrupt, or nowhere with 0. */
export type LinkRouter = (link: number, isaIrq: number) => void;

const PIRQRC = 0x60;
const PIRQ_DISABLED = 0x80;
/** Interrupts that exist on the ISA side of PIRQ routing: 3–7, 9–12, 14, 15. */
const ROUTABLE = 0b1101_1110_1111_1000;

/** The ISA bridge at 00:01.0. */
export class IsaBridge implements PciDevice {
  private readonly config = new PciConfigSpace({
    vendorId: 0x8086,
    deviceId: 0x7000,
    revision: 0,
    classCode: 0x060100,
    subsystemVendorId: RED_HAT_SUBSYSTEM_VENDOR,
    subsystemId: QEMU_SUBSYSTEM,
    registers: [0, 1, 2, 3].map((link) => ({ offset: PIRQRC + link, mask: 0x8f, value: PIRQ_DISABLED })),
  });
  private readonly routes = [0, 0, 0, 0];

  constructor(private readonly route: LinkRouter) {}

  readConfig(register: number, size: RegisterSize): number {
    return this.config.read(register, size);
  }

  writeConfig(register: number, size: RegisterSize, value: number): void {
    this.config.write(register, size, value);
    if (register + size > PIRQRC && register < PIRQRC + 4) this.updateRoutes();
  }

  reset(): void {
    this.config.reset();
    this.updateRoutes();
  }

  private updateRoutes(): void {
    for (let link = 0; link < 4; link++) {
      const register = this.config.read(PIRQRC + link, 1);
      const irq = register & 0x0f;
      const isRouted = (register & PIRQ_DISABLED) === 0 && ((ROUTABLE >>> irq) & 1) === 1;
      const route = isRouted ? irq : 0;
      if (this.routes[link] === route) continue;
      this.routes[link] = route;
      this.route(link, route);
    }
  }
}

const RESET_CPU = 4;

/** Ports 0xcf8–0xcff, with the reset control register at 0xcf9. */
export class ConfigPorts implements PortDevice {
  private address = 0;
  private resetControl = 0;
  readonly ports: PortDevice['ports'];

  /** @param onReset the guest asks for a reset of the machine */
  constructor(private readonly onReset: () => void) {
    const block: RegisterBlock = {
      name: 'pci-config',
      maxSize: 4,
      read: (offset, size) => this.read(offset, size),
      write: (offset, size, value) => this.write(offset, size, value),
    };
    this.ports = [{ first: 0xcf8, count: 8, block }];
  }

  reset(): void {
    this.address = 0;
    this.resetControl = 0;
  }

  private read(offset: number, size: RegisterSize): number {
    if (offset === 0 && size === 4) return this.address;
    if (offset === 1 && size === 1) return this.resetControl;
    return allOnes(size);
  }

  private write(offset: number, size: RegisterSize, value: number): void {
    if (offset === 0 && size === 4) {
      this.address = (value & 0x80ff_fffc) >>> 0;
    } else if (offset === 1 && size === 1) {
      const rising = (value & RESET_CPU) !== 0 && (this.resetControl & RESET_CPU) === 0;
      this.resetControl = value & 0x02;
      if (rising) this.onReset();
    }
  }
}
