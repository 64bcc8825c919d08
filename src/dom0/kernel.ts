/** dom0's kernel: its Xen devices by name, and which open file an event belongs to. */
import type { Hypercalls } from '../boundary/hypercalls.js';
import { XenError } from '../boundary/xen-error.js';
import type { DeviceFile } from './device-file.js';
import { EvtchnFile, type PortOwners } from './evtchn.js';
import { GntdevFile } from './gntdev.js';
import { HypercallBufferFile } from './hypercall-buffer.js';
import { PrivcmdFile } from './privcmd.js';
import { type Platform, X86_64 } from './process.js';

/** What the device support matrix says of each device. */
export const DEVICE_SUPPORT = [
  { name: 'privcmd', status: 'supported', note: '' },
  { name: 'evtchn', status: 'supported', note: '' },
  {
    name: 'hypercall',
    status: 'supported',
    note: 'hypercall arguments must lie in memory mapped from it, as libxencall does',
  },
  { name: 'gntdev', status: 'partial', note: 'opens and answers the start-up probe; grants are refused' },
] as const;

export class Dom0Kernel {
  private readonly owners: PortOwners = new Map();

  constructor(
    private readonly hypercalls: Hypercalls,
    private readonly platform: Platform = X86_64,
    private readonly maxPortsPerFile = 4096,
  ) {}

  /**
   * Opens a device.
   * @param deliver queues an event channel port for the opener to read
   * @throws XenError ENOENT for a device that is not there
   */
  open(device: string, deliver: (port: number) => void): DeviceFile {
    switch (device) {
      case 'privcmd':
        return new PrivcmdFile(this.hypercalls, this.platform);
      case 'evtchn':
        return new EvtchnFile(this.hypercalls.events, this.owners, deliver, this.maxPortsPerFile);
      case 'hypercall':
        return new HypercallBufferFile();
      case 'gntdev':
        return new GntdevFile();
      default:
        throw new XenError('ENOENT', `no device ${device}`);
    }
  }

  /** The hypervisor has an event for one of dom0's ports. Ports that nobody owns any more are ignored. */
  upcall(port: number): void {
    this.owners.get(port)?.upcall(port);
  }
}
