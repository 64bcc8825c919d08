/** A guest for the player's tests: the built-in devices on a bus, without Xen between them. */
import { Machine } from '../../../dist/devices/machine.js';
import { PrivateVideoMemory } from '../../../dist/devices/vga/video-memory.js';
import type { GuestIo } from '../../../dist/io-player/run.js';

export function machineGuest() {
  const isa = new Set<number>();
  const serial: number[] = [];
  const ram = new Uint8Array(65536);
  const machine = new Machine({
    claims: { mapPorts: () => undefined, mapMemory: () => true, unmapMemory: () => undefined, mapPci: () => undefined },
    actions: {
      setIsaIrqLevel: (irq, asserted) => (asserted ? isa.add(irq) : isa.delete(irq)),
      setPciLinkRoute: () => undefined,
      reboot: () => undefined,
    },
    videoMemory: new PrivateVideoMemory(16 << 20),
    serialSink: (byte) => serial.push(byte),
  });
  const { bus } = machine;
  let configAddress = 0;
  const port = (address: number, size: 1 | 2 | 4, value: number | undefined): number => {
    if (address === 0xcf8 && size === 4 && value !== undefined) configAddress = value;
    if (address >= 0xcfc && configAddress >>> 31) {
      const sbdf = (configAddress >>> 8) & 0xffff;
      const register = (configAddress & 0xfc) | (address & 3);
      if (value === undefined) return bus.readPci(sbdf, register, size);
      bus.writePci(sbdf, register, size, value);
      return 0;
    }
    if (value === undefined) return bus.readPort(address, size);
    bus.writePort(address, size, value);
    return 0;
  };
  const guest: GuestIo = {
    access(space, direction, address, size, value) {
      if (size === 8) throw new Error('no 8-byte accesses here');
      const written = direction === 'write' ? Number(value) : undefined;
      if (space === 'port') return BigInt(port(Number(address), size, written));
      if (written === undefined) return BigInt(bus.readMemory(Number(address), size));
      bus.writeMemory(Number(address), size, written);
      return 0n;
    },
    readMemory: (address, length) => ram.slice(Number(address), Number(address) + length),
    writeMemory: (address, bytes) => ram.set(bytes, Number(address)),
    interrupts: () => ({ isa: [...isa].sort((a, b) => a - b), intx: [] }),
  };
  return { guest, machine, serial, ram };
}
