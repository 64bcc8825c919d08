/**
 * The xenbus driver: dom0's kernel's own connection to the XenStore daemon, and the device through which every program
 * shares it. The daemon is a process of dom0 (XS_LOCAL): it finds the page and the port in /proc/xen, and may be another
 * one later.
 *
 *     programs ── /dev/xen/xenbus ─▶ XenbusFile ┐
 *                                    XenbusFile ┴▶ XenbusComms ── one ring, one port ─▶ the daemon
 *
 * @spec linux:drivers/xen/xenbus/xenbus_probe.c xenstored_local_init
 */
import { RingPage } from '../boundary/byte-ring.js';
import type { EventChannelCalls } from '../boundary/hypercalls.js';
import { XenbusComms } from './xenbus-comms.js';
import { XenbusFile, type XenbusHolder } from './xenbus-file.js';

/** dom0's own number: the daemon's end of the channel is in the same domain. */
const DOMID_CONTROL = 0;

export class Xenbus {
  /** The kernel's end of the event channel, which the daemon binds to. */
  readonly port: number;
  private readonly comms: XenbusComms;

  /**
   * @param page one page of dom0's, shared with the daemon
   * @param atPort a port that the kernel has to itself
   * @param later has a function called soon, after whatever else waits
   */
  constructor(
    private readonly events: EventChannelCalls,
    page: Uint8Array,
    atPort: number,
    later: (run: () => void) => void,
  ) {
    this.port = events.allocUnbound(DOMID_CONTROL, atPort);
    const pump = () => this.comms.pump();
    this.comms = new XenbusComms(
      new RingPage(page),
      () => events.send(this.port),
      () => later(pump),
    );
    events.unmask(this.port);
  }

  /** Requests not answered yet, and watches set, of all files. */
  get counts(): { readonly waiting: number; readonly watches: number } {
    return { waiting: this.comms.nrWaiting, watches: this.comms.nrWatches };
  }

  open(holder: XenbusHolder): XenbusFile {
    return new XenbusFile(this.comms, holder);
  }

  /** The daemon has rung. */
  upcall(): void {
    this.events.acknowledge(this.port);
    this.events.unmask(this.port);
    this.comms.pump();
  }
}
