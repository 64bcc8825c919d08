/**
 * The daemon's attachment to a host, as the XenStore daemon of its dom0: the kernel's ring, the rings of domains, and news
 * of domains that end. It uses what a C xenstored uses: /proc/xen/xsd_port and xsd_kva, evtchn, privcmd.
 *
 * The kernel keeps its ring when a daemon ends; the next one goes on with what stands there.
 */
import { PAGE_SIZE } from '../../abi/ids.js';
import { VIRQ_DOM_EXC } from '../../abi/xen/xen.js';
import type { XsErrorName } from '../../abi/xs-wire.js';
import { allocateNative, EPOLLIN, libc, mapShared } from '../../host/libc.js';
import { UserError } from '../../host/native-library.js';
import { XenstoreRings } from '../../host/xenstore-rings.js';
import type { XenstoreService } from '../../host/xenstore-service.js';
import { connectHost } from '../../sdk/embedded-host.js';
import { HostClient } from '../../sdk/host-client.js';
import { type EvtchnFile, XenDeviceError } from '../../sdk/xen-devices.js';
import type { Connection } from '../../xenstore/connection.js';
import type { Attachment } from './attachment.js';
import { asXenError, type DomainState, HostDomains } from './host-domains.js';

const CONTROL_DOMID = 0;

export class KernelLink implements Attachment {
  private readonly client: HostClient;
  private readonly domains: HostDomains;
  private readonly evtchn: EvtchnFile;
  private served: { readonly service: XenstoreService; readonly rings: XenstoreRings } | undefined;
  private domExc = 0;

  /** @param socketPath the host's @param onHostGone called once, when there is no dom0 any more to be a daemon of */
  constructor(
    socketPath: string,
    private readonly onHostGone: () => void,
  ) {
    this.client = new HostClient(socketPath);
    this.domains = new HostDomains(this.client);
    this.evtchn = connectHost(socketPath).openEvtchn();
  }

  /** @throws UserError where another daemon serves the host */
  start(service: XenstoreService): void {
    const rings = this.begin(service);
    if (!rings.has(CONTROL_DOMID)) this.serveKernel(rings);
    service.reactor.add(this.evtchn.fd, EPOLLIN, () => this.takeEvents());
  }

  domainExists(domid: number): boolean {
    return this.stateOf(domid) !== 'gone';
  }

  introduce(domid: number, gfn: number, port: number): XsErrorName | null {
    return this.served?.rings.introduce(domid, gfn, port) ?? null;
  }

  released(domid: number): void {
    this.served?.rings.released(domid);
  }

  ring(service: XenstoreService, domid: number, gfn: number, port: number): Connection | null {
    const rings = this.begin(service);
    if (domid === CONTROL_DOMID) this.serveKernel(rings);
    else if (rings.introduce(domid, gfn, port) !== null) return null;
    return service.server.domains.get(domid)?.connection ?? null;
  }

  close(): void {
    this.served?.rings.close();
    this.served?.service.reactor.remove(this.evtchn.fd);
    this.evtchn.close();
    this.domains.close();
    this.client.close();
  }

  private begin(service: XenstoreService): XenstoreRings {
    if (this.served) return this.served.rings;
    const { evtchn, domains } = this;
    this.domExc = refusalFor('VIRQ_DOM_EXC', () => evtchn.bindVirq(VIRQ_DOM_EXC));
    const rings = new XenstoreRings(service, {
      map: (domid, gfn) => domains.map(domid, gfn),
      bind: (domid, port) => orXenError(() => evtchn.bindInterdomain(domid, port)),
      unbind: (port) => unlessGone(() => evtchn.unbind(port)),
      notify: (port) => unlessGone(() => evtchn.notify(port)),
    });
    this.served = { service, rings };
    return rings;
  }

  private serveKernel(rings: XenstoreRings): void {
    const port = this.readPort();
    const page = this.openPage();
    refusalFor("the kernel's ring", () => rings.serve(CONTROL_DOMID, page, port));
  }

  /** Without a host there are no domains; that it is gone is noticed elsewhere. */
  private stateOf(domid: number): DomainState {
    let state: DomainState = 'gone';
    unlessGone(() => {
      state = this.domains.state(domid);
    });
    return state;
  }

  private openPage() {
    const fd = this.client.openHanded('xsd_kva');
    try {
      return mapShared(fd, PAGE_SIZE);
    } finally {
      libc.close(fd);
    }
  }

  private readPort(): number {
    const fd = this.client.openHanded('xsd_port');
    const { address, bytes } = allocateNative(PAGE_SIZE);
    const length = libc.read(fd, address, 20);
    libc.close(fd);
    return Number.parseInt(Buffer.from(bytes.subarray(0, Math.max(length, 0))).toString('latin1'), 10);
  }

  private takeEvents(): void {
    try {
      for (let port = this.evtchn.read(); port !== undefined; port = this.evtchn.read()) {
        this.evtchn.unmask(port); // first: what happens from here on rings again
        if (port === this.domExc) this.lookAtDomains();
        else this.served?.rings.rung(port);
      }
    } catch (error) {
      if (!(error instanceof XenDeviceError)) throw error;
      this.served?.service.reactor.remove(this.evtchn.fd);
      this.onHostGone();
    }
  }

  /** Some domain has shut down or is gone: look which. */
  private lookAtDomains(): void {
    const { service } = this.served as NonNullable<typeof this.served>;
    const { server } = service;
    for (const { domid } of [...server.domains]) {
      if (domid === CONTROL_DOMID) continue;
      const state = this.stateOf(domid);
      if (state === 'gone') server.domainGone(domid);
      else if (state === 'shutdown') server.domainShutdown(domid);
    }
    service.settle();
  }
}

/** Of a host that has gone nothing needs to be given back. */
function unlessGone(call: () => void): void {
  try {
    call();
  } catch (error) {
    if (!(error instanceof XenDeviceError)) throw error;
  }
}

function orXenError<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw asXenError(error);
  }
}

function refusalFor<T>(what: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    const { message } = error as Error;
    throw new UserError(
      `cannot attach to the host: ${what}: ${message}. Is it a host with --xenstore external, and no other daemon?`,
    );
  }
}
