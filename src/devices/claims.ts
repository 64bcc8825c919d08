/** Which accesses of the guest the device model gets: the bus's view of an I/O server. */
import { type IoServer, XenDeviceError } from '../sdk/device-model.js';

/** Ranges are inclusive. */
export interface RangeClaims {
  mapPorts(first: number, last: number): void;
  /** @returns false where the range was refused */
  mapMemory(first: number, last: number): boolean;
  unmapMemory(first: number, last: number): void;
  mapPci(sbdf: number): void;
}

/** Claims through an I/O server. The guest chooses memory ranges, so a refusal there is an answer, not a failure. */
export function serverClaims(server: IoServer): RangeClaims {
  return {
    mapPorts: (first, last) => server.mapPortRange(first, last),
    mapMemory(first, last) {
      try {
        server.mapMmioRange(first, last);
        return true;
      } catch (error) {
        if (error instanceof XenDeviceError) return false;
        throw error;
      }
    },
    unmapMemory: (first, last) => server.unmapMmioRange(first, last),
    mapPci: (sbdf) => server.mapPciDevice(sbdf),
  };
}
