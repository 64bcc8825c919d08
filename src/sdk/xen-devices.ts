/**
 * The seam between the SDK and whatever stands in for /dev/xen: the embedded host's connection, a real dom0's device
 * files, or a test's fake. It has the shape of the Linux devices (one object an open file) because restriction belongs
 * to the open file. Nothing here knows a device-model operation: those are bytes to this layer.
 *
 * Whoever implements it is trusted by the SDK; what lies in the memory it maps is not.
 *
 * @spec linux:include/uapi/xen/privcmd.h linux:include/uapi/xen/evtchn.h
 */
import { errnoName } from '../abi/errno.js';

/** Thrown by every call that the device (or the host behind it) refused. */
export class XenDeviceError extends Error {
  override readonly name = 'XenDeviceError';
  /** `EPERM`, `ENOENT`, …; `errno 999` where the number has no name. */
  readonly code: string;

  /**
   * @param errno positive errno number
   * @param call what was asked for, for people: `dm_op create_ioreq_server`
   */
  constructor(
    readonly errno: number,
    readonly call: string,
  ) {
    const code = errnoName(errno);
    super(`${call}: ${code}`);
    this.code = code;
  }
}

/** Memory shared with the domain or with Xen. Its contents can change at any moment. */
export interface MappedMemory {
  /** A live view of whole pages, starting at a page boundary; must not be used after `unmap`. */
  readonly bytes: Uint8Array;
  /** Ends the mapping. Calling it twice does nothing. */
  unmap(): void;
}

/** A batch of foreign pages: frame i lies at bytes [i * 4096, (i + 1) * 4096) where `errors[i]` is 0. */
export interface MappedBatch {
  readonly memory: MappedMemory;
  /** Per frame 0 or a negative errno; bytes of a failed frame must not be touched. */
  readonly errors: Int32Array;
}

/** One open file of /dev/xen/privcmd. */
export interface PrivcmdFile {
  /**
   * Makes one DM_OP call. `bufs[0]` holds a `xen_dm_op`; all buffers are copied back into the same arrays where Xen
   * copies out, also when the call fails part of the way.
   * @throws XenDeviceError
   */
  dmOp(domid: number, bufs: readonly Uint8Array[]): void;
  /** Maps `nrFrames` frames of a resource, writable. @throws XenDeviceError */
  mmapResource(domid: number, type: number, id: number, frame: number, nrFrames: number): MappedMemory;
  /** Size of a resource in bytes. @throws XenDeviceError */
  resourceSize(domid: number, type: number, id: number): number;
  /** Maps guest frames in the order given; a frame that cannot be mapped has its errno in `errors`. @throws XenDeviceError */
  mmapBatch(domid: number, gfns: readonly bigint[], options: { writable: boolean }): MappedBatch;
  /** Gives up everything but `domid`, for good. @throws XenDeviceError */
  restrict(domid: number): void;
  close(): void;
}

/** One open file of /dev/xen/evtchn. */
export interface EvtchnFile {
  /** Readable while a port is pending; for diagnostics and for a caller's own poll loop. */
  readonly fd: number;
  /** @returns the local port bound to `remotePort` of `domid` @throws XenDeviceError */
  bindInterdomain(domid: number, remotePort: number): number;
  /** @returns a local port that `domid` may bind to @throws XenDeviceError */
  bindUnboundPort(domid: number): number;
  /** @returns the local port that the virtual interrupt arrives at @throws XenDeviceError */
  bindVirq(virq: number): number;
  /** @throws XenDeviceError ENOTCONN where the port is not this file's */
  unbind(port: number): void;
  /** @throws XenDeviceError ENOTCONN where the port is not this file's */
  notify(port: number): void;
  /** Lets a port that `read` returned become pending again. */
  unmask(port: number): void;
  /** @throws XenDeviceError */
  restrict(domid: number): void;
  /**
   * The next pending port, masked from now on; undefined when none is pending. Never blocks.
   * @throws XenDeviceError EIO when the host is gone: `wait` reports an event then
   */
  read(): number | undefined;
  /**
   * Blocks this thread until a port is pending.
   * @returns false when the time is up or a signal arrived
   */
  wait(timeoutMs: number): boolean;
  /** Resolves when a port is pending, or (also) when `signal` aborts. Spurious resolutions are allowed. */
  waitAsync(signal?: AbortSignal): Promise<void>;
  close(): void;
}

/** One open file of /dev/xen/hypercall: what a device model needs before it restricts itself, and only then. */
export interface HypercallFile {
  /**
   * XENMEM_populate_physmap of single frames at `firstGfn` upwards.
   * @returns how many frames were populated; fewer than asked when memory ran out or a frame was refused
   * @throws XenDeviceError
   */
  populatePhysmap(domid: number, firstGfn: bigint, nrFrames: number): number;
  close(): void;
}

/** Opens the device files. An implementation stands for one host; closing is each file's own affair. */
export interface XenDevices {
  /** @throws XenDeviceError */
  openPrivcmd(): PrivcmdFile;
  /** @throws XenDeviceError */
  openEvtchn(): EvtchnFile;
  /** @throws XenDeviceError */
  openHypercall(): HypercallFile;
}
