/**
 * The built-in device model's machine: which devices there are and how the guest's requests reach them.
 *
 *     00:00.0 host bridge   00:01.0 ISA bridge   00:02.0 VGA   0x3f8 UART (interrupt 4)   0xcf8 configuration ports
 */
import { SHUTDOWN_reboot } from '../abi/xen/xen.js';
import { type DeviceModel, type IoRequest, type IoServer, pciSbdf, type RequestHandler } from '../sdk/device-model.js';
import { Bus } from './bus.js';
import { ConfigPorts, HostBridge, IsaBridge } from './chipset.js';
import { type RangeClaims, serverClaims } from './claims.js';
import type { RegisterSize, Resettable } from './device.js';
import { Uart16550 } from './uart-16550.js';
import { VgaDevice } from './vga/vga-device.js';
import { GuestVideoMemory, PrivateVideoMemory, type VideoMemory } from './vga/video-memory.js';

const COM1_PORT = 0x3f8;
const COM1_IRQ = 4;

/** What the machine does to the domain around it. */
interface MachineActions {
  setIsaIrqLevel(irq: number, asserted: boolean): void;
  setPciLinkRoute(link: number, isaIrq: number): void;
  /** The guest asks for a reset. */
  reboot(): void;
}

export interface MachineOptions {
  readonly claims: RangeClaims;
  readonly actions: MachineActions;
  readonly videoMemory: VideoMemory;
  /** Gets what the guest writes to its first serial port. */
  readonly serialSink: (byte: number) => void;
}

export class Machine {
  readonly bus: Bus;
  readonly uart: Uart16550;
  readonly vga: VgaDevice;
  private readonly devices: Resettable[];

  /** Claims all fixed ranges. @throws XenDeviceError where Xen refuses one of them */
  constructor(options: MachineOptions) {
    const { actions, claims, videoMemory } = options;
    const bus = new Bus(claims);
    this.bus = bus;
    this.uart = new Uart16550({
      base: COM1_PORT,
      irq: (asserted) => actions.setIsaIrqLevel(COM1_IRQ, asserted),
      sink: options.serialSink,
    });
    this.vga = new VgaDevice(videoMemory, {
      map: (address, length, block) => bus.mapMemory(address, length, block),
      unmap: (address) => bus.unmapMemory(address),
    });
    const hostBridge = new HostBridge();
    const isaBridge = new IsaBridge((link, irq) => actions.setPciLinkRoute(link, irq));
    const configPorts = new ConfigPorts(() => actions.reboot());
    for (const device of [configPorts, this.uart, this.vga]) {
      for (const { first, count, block } of device.ports) bus.addPorts(first, count, block);
    }
    for (const { first, length, block } of this.vga.windows) bus.mapMemory(first, length, block);
    bus.addPciFunction(pciSbdf(0, 0, 0, 0), hostBridge);
    bus.addPciFunction(pciSbdf(0, 0, 1, 0), isaBridge);
    bus.addPciFunction(pciSbdf(0, 0, 2, 0), this.vga);
    this.devices = [hostBridge, isaBridge, configPorts, this.uart, this.vga];
  }

  reset(): void {
    for (const device of this.devices) device.reset();
  }

  /** Answers a request of the I/O server. */
  readonly handle: RequestHandler = (request) => {
    if (request.size === 8) return this.handleWide(request);
    if (request.isWrite) {
      this.write(request, request.address, request.size, request.value32);
      return undefined;
    }
    return this.read(request, request.address, request.size);
  };

  /** No device has 8-byte registers: two halves, the lower first. */
  private handleWide(request: IoRequest): bigint | undefined {
    const { address } = request;
    if (request.isWrite) {
      this.write(request, address, 4, request.value32);
      this.write(request, address + 4, 4, Number(request.value >> 32n));
      return undefined;
    }
    const low = BigInt(this.read(request, address, 4));
    return low | (BigInt(this.read(request, address + 4, 4)) << 32n);
  }

  private read(request: IoRequest, address: number, size: RegisterSize): number {
    switch (request.kind) {
      case 'port':
        return this.bus.readPort(address, size);
      case 'memory':
        return this.bus.readMemory(address, size);
      default:
        return this.bus.readPci(request.sbdf, address, size);
    }
  }

  private write(request: IoRequest, address: number, size: RegisterSize, value: number): void {
    switch (request.kind) {
      case 'port':
        this.bus.writePort(address, size, value);
        break;
      case 'memory':
        this.bus.writeMemory(address, size, value);
        break;
      default:
        this.bus.writePci(request.sbdf, address, size, value);
    }
  }
}

export interface VideoMemoryOptions {
  /** Bytes: a power of two from 1 MiB. */
  readonly size: number;
  /** Where the frames are populated until the guest places the framebuffer; undefined: the device keeps the memory. */
  readonly homeGfn: bigint | undefined;
}

/** Builds the machine of a domain, before the device model restricts itself. @throws XenDeviceError */
export function buildMachine(
  model: DeviceModel,
  server: IoServer,
  video: VideoMemoryOptions,
  serialSink: (byte: number) => void,
): { machine: Machine; videoMemory: VideoMemory } {
  const { size, homeGfn } = video;
  const videoMemory = homeGfn === undefined ? new PrivateVideoMemory(size) : new GuestVideoMemory(model, homeGfn, size);
  const actions: MachineActions = {
    setIsaIrqLevel: (irq, asserted) => model.setIsaIrqLevel(irq, asserted),
    setPciLinkRoute: (link, isaIrq) => model.setPciLinkRoute(link, isaIrq),
    reboot: () => model.remoteShutdown(SHUTDOWN_reboot),
  };
  return { machine: new Machine({ claims: serverClaims(server), actions, videoMemory, serialSink }), videoMemory };
}
