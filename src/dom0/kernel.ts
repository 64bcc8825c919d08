/** dom0's kernel: its Xen devices by name, and which open file an event belongs to. */
import type { Hypercalls } from '../boundary/hypercalls.js';
import { XenError } from '../boundary/xen-error.js';
import type { DeviceFile } from './device-file.js';
import { EvtchnFile, type PortOwners } from './evtchn.js';
import { GntdevFile } from './gntdev.js';
import { HypercallBufferFile } from './hypercall-buffer.js';
import { PrivcmdFile } from './privcmd.js';
import { type Platform, X86_64 } from './process.js';
import { Xenbus } from './xenbus.js';

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
  {
    name: 'xenbus',
    status: 'supported',
    note: 'a stream: a write cannot fail, where the driver refuses it the file ends',
  },
] as const;

/** Where the kernel has its XenStore port, among those it keeps to itself. */
const XENSTORE_PORT = 2;

export class Dom0Kernel {
  private readonly owners: PortOwners = new Map();
  private store: Xenbus | undefined;

  constructor(
    private readonly hypercalls: Hypercalls,
    private readonly platform: Platform = X86_64,
    private readonly maxPortsPerFile = 4096,
  ) {}

  /**
   * Starts the xenbus driver.
   * @param page the page it shares with the XenStore daemon
   * @param later has a function called soon, after whatever else waits
   */
  startXenbus(page: Uint8Array, later: (run: () => void) => void): Xenbus {
    if (this.store) throw new Error('xenbus is started already');
    this.store = new Xenbus(this.hypercalls.events, page, XENSTORE_PORT, later);
    return this.store;
  }

  /**
   * Opens a device. (xenbus files have an interface of their own: `Xenbus.open`.)
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
    if (port === this.store?.port) this.store.upcall();
    else this.owners.get(port)?.upcall(port);
  }
}
