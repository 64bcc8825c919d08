/**
 * The XenStore that the embedded host brings along: server, socket, and the rings of dom0's kernel and of domains, all in
 * the host's own thread.
 */
import { randomInt } from 'node:crypto';
import { XenError } from '../boundary/xen-error.js';
import { mapForeign } from '../hypervisor/foreign-frames.js';
import type { Hypervisor } from '../hypervisor/hypervisor.js';
import { type TracedMessage, XenstoreServer } from '../xenstore/server.js';
import { mapShared } from './libc.js';
import { fromSystem, type MemoryFileExtent } from './memory-files.js';
import type { Reactor } from './reactor.js';
import { askDirectly, type StoreRequest } from './store-home.js';
import type { Trace } from './trace.js';
import { writeReport } from './xenstore-report.js';
import { type MappedPage, type RingPlatform, XenstoreRings } from './xenstore-rings.js';
import { XenstoreService } from './xenstore-service.js';
import { XenstoreSocket } from './xenstore-socket.js';
import { messageRecord } from './xenstore-trace.js';

const PAGE_BYTES = 4096;

/** What the kernel shares with the daemon. */
interface KernelRing {
  readonly page: MemoryFileExtent;
  readonly port: number;
}

export interface EmbeddedXenstoreOptions {
  readonly kernel: KernelRing;
  readonly socketPath: string;
  /** Is told of every denial. */
  readonly trace: Trace;
  /** Takes what an administrator should see. */
  readonly log: (line: string) => void;
}

export class EmbeddedXenstore {
  readonly server: XenstoreServer;
  readonly service: XenstoreService;
  readonly rings: XenstoreRings;
  private readonly socket: XenstoreSocket;
  private readonly domExc: number;

  constructor(
    reactor: Reactor,
    private readonly hypervisor: Hypervisor,
    { kernel, socketPath, trace, log }: EmbeddedXenstoreOptions,
  ) {
    this.domExc = hypervisor.claimDomExc();
    this.server = new XenstoreServer(
      {
        now: () => performance.now(),
        domainExists: (domid) => hypervisor.domains.find(domid) !== undefined,
        introduce: (domid, gfn, port) => this.rings.introduce(domid, gfn, port),
        released: (domid) => this.rings.released(domid),
        onDenial: ({ what, domid, errno, reason }) => trace.denial('xenstore', what, domid, errno, reason),
        ...(trace.detailed && { trace: (message: TracedMessage) => trace.note(messageRecord(message)) }),
        log,
        report: (text, file) => writeReport(text, file, log),
      },
      { hashSeed: randomInt(2 ** 32) },
    );
    this.service = new XenstoreService(reactor, this.server);
    this.rings = new XenstoreRings(this.service, platformOf(hypervisor, reactor));
    this.socket = new XenstoreSocket(this.service, socketPath);
    this.rings.serve(0, { bytes: kernel.page.bytes, unmap: () => {} }, kernel.port);
    hypervisor.dom0.evtchn.unmask(this.domExc);
  }

  /** An event for dom0. @returns whether it was for the daemon */
  upcall(port: number): boolean {
    if (port === this.domExc) this.lookAtDomains();
    else if (!this.rings.rung(port)) return false;
    else this.hypervisor.dom0.evtchn.clearPending(port);
    return true;
  }

  /** What a toolstack asks, such as to introduce a domain. */
  ask(requests: Iterable<StoreRequest>): void {
    askDirectly(this.server, requests);
    this.settleSoon();
  }

  close(): void {
    this.rings.close();
    this.socket.close();
    this.service.close();
  }

  /** VIRQ_DOM_EXC: some domain has shut down or is gone; as xenstored, look which. */
  private lookAtDomains(): void {
    this.hypervisor.dom0.evtchn.clearPending(this.domExc);
    for (const { domid } of [...this.server.domains]) {
      const domain = this.hypervisor.domains.find(domid);
      if (!domain || domain.isDying) this.server.domainGone(domid);
      else if (domain.isShutDown) this.server.domainShutdown(domid);
    }
    this.settleSoon();
  }

  private settleSoon(): void {
    this.service.reactor.queue(() => {
      this.service.settle();
      return true;
    });
  }
}

/** dom0's end of its own kernel's channel is one of the ports it has set aside: programs' first port stays the same. */
const KERNEL_RING_PORT = 3;

/** The daemon's rights are dom0's. */
function platformOf(hypervisor: Hypervisor, reactor: Reactor): RingPlatform {
  const { domains, dom0 } = hypervisor;
  const { evtchn } = dom0;
  return {
    map: (domid, gfn) => mapGuestPage(hypervisor, reactor, domid, gfn),
    bind: (domid, port) => {
      const local = evtchn.bindInterdomain(domains.get(domid), port, domid === 0 ? KERNEL_RING_PORT : 0);
      evtchn.clearPending(local); // of the binding itself: rings are looked at once they are there
      evtchn.unmask(local);
      return local;
    },
    unbind: (port) => evtchn.closeByGuest(port),
    notify: (port) => evtchn.send(port),
  };
}

/**
 * A page of a domain's, mapped for us like for any other process: it stays what it is when the domain's memory goes, and
 * the domain stays findable until it is unmapped.
 */
function mapGuestPage(hypervisor: Hypervisor, reactor: Reactor, domid: number, gfn: number): MappedPage {
  const mapping = mapForeign(hypervisor.domains.get(domid), [BigInt(gfn)]);
  const [run] = mapping.runs;
  if (!run) throw new XenError('EINVAL', `domain ${domid} has no page ${gfn}`);
  try {
    const { fd } = run.extent as MemoryFileExtent;
    const { bytes, unmap } = fromSystem(() => mapShared(fd, PAGE_BYTES, run.frame * PAGE_BYTES));
    return {
      bytes,
      unmap: () => {
        unmap();
        // Later: this may be the end of the domain, of which the server hears at once, and it may be at work now.
        reactor.queue(() => {
          mapping.release();
          return true;
        });
      },
    };
  } catch (error) {
    mapping.release();
    throw error;
  }
}
