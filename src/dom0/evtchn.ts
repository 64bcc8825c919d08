/**
 * /dev/xen/evtchn, as Linux's driver behaves. Each open file owns ports of dom0; nobody else can notify, unmask or
 * close them.
 *
 *             event                      read by the process          write(port)
 *   enabled ─────────▶ disabled, queued ─────────────────▶ disabled ─────────────▶ enabled
 *                                        (events meanwhile are remembered as one, and queued when it is enabled again)
 *
 * @spec linux:drivers/xen/evtchn.c
 */

import { decode, type Layout } from '../abi/layout.js';
import {
  IOCTL_EVTCHN_BIND_INTERDOMAIN,
  IOCTL_EVTCHN_BIND_UNBOUND_PORT,
  IOCTL_EVTCHN_BIND_VIRQ,
  IOCTL_EVTCHN_NOTIFY,
  IOCTL_EVTCHN_RESET,
  IOCTL_EVTCHN_RESTRICT_DOMID,
  IOCTL_EVTCHN_UNBIND,
  ioctl_evtchn_bind_interdomain,
  ioctl_evtchn_bind_unbound_port,
  ioctl_evtchn_bind_virq,
  ioctl_evtchn_notify,
  ioctl_evtchn_restrict_domid,
  ioctl_evtchn_unbind,
} from '../abi/linux/evtchn.js';
import type { EventChannelCalls } from '../boundary/hypercalls.js';
import { XenError } from '../boundary/xen-error.js';
import type { DeviceFile } from './device-file.js';
import type { Process } from './process.js';

/** Highest port number of FIFO event channels, what xen_evtchn_max_channels() says. */
const MAX_PORTS = 131072;
/** @spec xen:DOMID_FIRST_RESERVED */
const DOMID_FIRST_RESERVED = 0x7ff0;
/** Bytes of one read or write that the driver looks at. */
const MAX_TRANSFER = 4096;

/** Which file owns which of dom0's ports, shared by all files of one kernel. */
export type PortOwners = Map<number, EvtchnFile>;

export class EvtchnFile implements DeviceFile {
  readonly device = 'evtchn';
  /** The file's ports, and whether each is enabled. */
  private readonly ports = new Map<number, boolean>();
  restrictedTo: number | undefined;

  /**
   * @param deliver queues a port for the process to read
   * @param maxPorts the most ports one file may own
   */
  constructor(
    private readonly events: EventChannelCalls,
    private readonly owners: PortOwners,
    private readonly deliver: (port: number) => void,
    private readonly maxPorts: number,
  ) {}

  ioctl(cmd: number, arg: number, process: Process): number {
    switch (cmd) {
      case IOCTL_EVTCHN_BIND_VIRQ: {
        if (this.restrictedTo !== undefined) throw new XenError('EACCES', 'file is restricted: no virtual interrupts');
        const { virq } = copyIn(process, arg, ioctl_evtchn_bind_virq);
        return this.adopt(() => this.events.bindVirq(virq));
      }
      case IOCTL_EVTCHN_BIND_INTERDOMAIN: {
        const bind = copyIn(process, arg, ioctl_evtchn_bind_interdomain);
        this.assertDomain(bind.remote_domain);
        return this.adopt(() => this.events.bindInterdomain(bind.remote_domain & 0xffff, bind.remote_port));
      }
      case IOCTL_EVTCHN_BIND_UNBOUND_PORT: {
        // A port that waits for somebody is open to whatever else that domain does: not for a restricted file.
        if (this.restrictedTo !== undefined) throw new XenError('EACCES', 'file is restricted: no unbound ports');
        const bind = copyIn(process, arg, ioctl_evtchn_bind_unbound_port);
        return this.adopt(() => this.events.allocUnbound(bind.remote_domain & 0xffff));
      }
      case IOCTL_EVTCHN_UNBIND:
        return this.unbind(copyIn(process, arg, ioctl_evtchn_unbind).port);
      case IOCTL_EVTCHN_NOTIFY:
        return this.notify(copyIn(process, arg, ioctl_evtchn_notify).port);
      case IOCTL_EVTCHN_RESET:
        return 0; // what is queued lies with the process; its library drops it
      case IOCTL_EVTCHN_RESTRICT_DOMID:
        return this.restrict(arg, process);
      default:
        throw new XenError('ENOSYS', 'not an ioctl of evtchn');
    }
  }

  /** The process unmasks ports. Ports that are not its own, or enabled already, are passed over, as Linux does. */
  write(data: Uint8Array): number {
    const length = Math.min(data.length, MAX_TRANSFER) & ~3;
    const view = new DataView(data.buffer, data.byteOffset, length);
    for (let offset = 0; offset < length; offset += 4) this.unmask(view.getUint32(offset, true));
    return length;
  }

  /** EVTCHN_NOTIFY of one port. */
  notify(port: number): number {
    if (!this.ports.has(port)) throw new XenError('ENOTCONN', `port ${port} is not bound by this file`);
    this.events.send(port);
    return 0;
  }

  /** An event arrived on a port of this file. */
  upcall(port: number): void {
    if (!this.ports.has(port)) return;
    this.ports.set(port, false);
    this.events.acknowledge(port);
    this.deliver(port);
  }

  owns(port: number): boolean {
    return this.ports.has(port);
  }

  release(): void {
    for (const port of [...this.ports.keys()]) this.drop(port);
  }

  private unmask(port: number): void {
    if (this.ports.get(port) === false) this.enable(port);
  }

  private enable(port: number): void {
    this.ports.set(port, true);
    this.events.unmask(port);
  }

  /** Binds, owns, and only then lets events through: what arrived in between comes at once. */
  private adopt(bind: () => number): number {
    if (this.ports.size >= this.maxPorts) throw new XenError('ENOSPC', `file owns ${this.maxPorts} ports already`);
    const port = bind();
    this.owners.set(port, this);
    this.enable(port);
    return port;
  }

  private unbind(port: number): number {
    if (port >= MAX_PORTS) throw new XenError('EINVAL', `no port ${port}`);
    if (!this.ports.has(port)) throw new XenError('ENOTCONN', `port ${port} is not bound by this file`);
    this.drop(port);
    return 0;
  }

  private drop(port: number): void {
    this.ports.delete(port);
    this.owners.delete(port);
    this.events.close(port);
  }

  private restrict(arg: number, process: Process): number {
    if (this.restrictedTo !== undefined) {
      throw new XenError('EACCES', `file is restricted to domain ${this.restrictedTo} already`);
    }
    const { domid } = copyIn(process, arg, ioctl_evtchn_restrict_domid);
    if (domid === 0 || domid >= DOMID_FIRST_RESERVED) throw new XenError('EINVAL', `cannot restrict to ${domid}`);
    this.restrictedTo = domid;
    return 0;
  }

  private assertDomain(domid: number): void {
    if (this.restrictedTo !== undefined && this.restrictedTo !== domid) {
      throw new XenError('EACCES', `file is restricted to domain ${this.restrictedTo}, bind is to ${domid}`);
    }
  }
}

function copyIn<T>(process: Process, arg: number, layout: Layout<T>): T {
  const bytes = new Uint8Array(layout.size);
  process.memory.copyIn(arg, bytes);
  return decode(layout, bytes);
}
