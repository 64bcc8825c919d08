/**
 * Write a device model: the public entry of the SDK.
 *
 *     const model = openDeviceModel({ domid: 1 });   // the host that POSTERN_HOST names
 *     const server = model.createIoServer({ bufferedRequests: 'atomic' });
 *     server.mapPortRange(0x3f8, 0x3ff);
 *     server.enable();
 *     model.restrict();                        // from here on only domain 1 can be reached
 *     for await (const request of server.requests()) request.respond(0xff);
 *
 * or, faster, `await server.serve((request) => (request.isWrite ? undefined : 0xff), { wait: 'block' })`.
 *
 * The guest is hostile: requests, guest memory and shared pages hold whatever it likes. Xen's errnos come out as
 * XenDeviceError; anything else thrown here is a bug.
 */
import { ERRNO } from '../abi/errno.js';
import { PAGE_SIZE } from '../abi/ids.js';
import { connectXen } from './connect.js';
import { type BufferedRequests, createIoServer } from './create-io-server.js';
import { DmOps, type FrameRange } from './dm-ops.js';
import { type GuestMapping, GuestPhysicalMemory, mapGuestFrames } from './guest-memory.js';
import type { IoServer } from './io-server.js';
import { type HypercallFile, type PrivcmdFile, XenDeviceError, type XenDevices } from './xen-devices.js';

/** `pciSbdf(0, 0, 2, 0)` is the address of 00:02.0. */
export { XEN_DMOP_PCI_SBDF as pciSbdf } from '../abi/xen/dm-op.js';
export { connectXen } from './connect.js';
export type { BufferedRequests } from './create-io-server.js';
export { DirtyBitmap, type DirtyRun } from './dirty-bitmap.js';
export {
  DmOps,
  type FrameRange,
  type GuestEvent,
  type IoreqServerInfo,
  type RangeKind,
} from './dm-ops.js';
export { GuestMapping, GuestPhysicalMemory } from './guest-memory.js';
export { type AccessSize, IoRequest, type RequestKind } from './io-request.js';
export {
  type Answer,
  IoServer,
  type RequestHandler,
  type ServeOptions,
  type ServerHooks,
  type ServerStats,
} from './io-server.js';
export * from './xen-devices.js';

export interface DeviceModelOptions {
  /** The domain to emulate devices for. */
  readonly domid: number;
  /** Where /dev/xen is: an embedded host, a real dom0. Default: the host that POSTERN_HOST names. */
  readonly devices?: XenDevices;
}

/** A device model of one domain. Its inherited methods are the device-model operations themselves. */
export class DeviceModel extends DmOps {
  /** Guest memory by physical address, through a cache of mappings. */
  readonly memory: GuestPhysicalMemory;
  private readonly servers = new Set<IoServer>();
  private hypercall: HypercallFile | undefined;
  private restricted = false;
  private closed = false;

  /** Use `openDeviceModel`. */
  constructor(
    private readonly devices: XenDevices,
    private readonly file: PrivcmdFile,
    domid: number,
  ) {
    super(file, domid);
    this.memory = new GuestPhysicalMemory(file, domid);
  }

  get isRestricted(): boolean {
    return this.restricted;
  }

  /**
   * Creates an I/O server; it gets requests once ranges are mapped and it is enabled.
   * @param options.bufferedRequests whether Xen may post writes without waiting (default `atomic`)
   * @throws XenDeviceError ENOSPC when the domain has 8 servers
   */
  createIoServer(options: { readonly bufferedRequests?: BufferedRequests } = {}): IoServer {
    const evtchn = this.devices.openEvtchn();
    try {
      if (this.restricted) evtchn.restrict(this.domid);
      const mode = options.bufferedRequests ?? 'atomic';
      const server: IoServer = createIoServer(this, this.file, evtchn, this.memory, mode, () =>
        this.servers.delete(server),
      );
      this.servers.add(server);
      return server;
    } catch (error) {
      evtchn.close();
      throw error;
    }
  }

  /**
   * Maps guest frames, to be unmapped by the caller. A frame that is not there is no error of the call: see
   * `GuestMapping.errno`. @throws XenDeviceError ESRCH, EPERM
   */
  mapGuestMemory(firstGfn: bigint, nrFrames: number, options: { readonly writable?: boolean } = {}): GuestMapping {
    return mapGuestFrames(this.file, this.domid, firstGfn, nrFrames, options.writable ?? true);
  }

  /**
   * Gives the domain `nrFrames` new zeroed frames at `firstGfn`, all or an error. Only before `restrict`.
   * @throws XenDeviceError ENOMEM, EPERM once restricted
   */
  populateMemory(firstGfn: bigint, nrFrames: number): void {
    if (this.restricted) throw new XenDeviceError(ERRNO.EPERM, 'populate_physmap after restrict');
    this.hypercall ??= this.devices.openHypercall();
    const done = this.hypercall.populatePhysmap(this.domid, firstGfn, nrFrames);
    if (done !== nrFrames) throw new XenDeviceError(ERRNO.ENOMEM, `populate_physmap (${done} of ${nrFrames} frames)`);
  }

  /** As the operation; cached mappings are dropped, mappings made by the caller stay on the memory that moved. */
  override relocateMemory(from: FrameRange, toGfn: bigint): void {
    super.relocateMemory(from, toGfn);
    this.memory.invalidate();
  }

  /**
   * Gives up everything but this domain, for good: every file this model has open or opens later. Dropping the uid and
   * the file system is the process's own affair, afterwards. @throws XenDeviceError
   */
  restrict(): void {
    if (this.restricted) return;
    this.hypercall?.close();
    this.hypercall = undefined;
    this.restricted = true;
    for (const server of this.servers) server.restrict();
    this.file.restrict(this.domid);
  }

  /** Destroys the servers and closes the files. Calling it twice does nothing. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    try {
      for (const server of [...this.servers]) server.close();
    } finally {
      this.memory.invalidate();
      this.hypercall?.close();
      this.file.close();
    }
  }
}

/** Opens a device model for a domain. @throws XenDeviceError */
export function openDeviceModel(options: DeviceModelOptions): DeviceModel {
  const devices = options.devices ?? connectXen();
  return new DeviceModel(devices, devices.openPrivcmd(), options.domid);
}

/** Bytes of a guest frame. */
export const GUEST_PAGE_SIZE = PAGE_SIZE;
