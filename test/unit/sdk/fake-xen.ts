/**
 * A Xen in memory for the SDK's tests: one domain, I/O servers with real shared pages, event channels, guest frames.
 * It records every device-model operation and lets a test play the guest, honestly or not.
 */
import { ERRNO } from '../../../dist/abi/errno.js';
import { decode, encode } from '../../../dist/abi/layout.js';
import * as dm from '../../../dist/abi/xen/dm-op.js';
import { ioreq, packBufIoreq, STATE_IOREQ_NONE, STATE_IOREQ_READY } from '../../../dist/abi/xen/ioreq.js';
import {
  type EvtchnFile,
  type HypercallFile,
  type PrivcmdFile,
  XenDeviceError,
  type XenDevices,
} from '../../../dist/sdk/xen-devices.js';

export const PAGE = 4096;

export interface RecordedOp {
  readonly op: number;
  readonly payload: Uint8Array;
  readonly buffers: readonly Uint8Array[];
}

export interface Post {
  addr?: bigint;
  data?: bigint;
  count?: number;
  size?: number;
  type?: number;
  isRead?: boolean;
  dataIsPtr?: boolean;
  df?: boolean;
}

class FakeEvtchn implements EvtchnFile {
  readonly fd = -1;
  pending: number[] = [];
  masked = new Set<number>();
  notified: number[] = [];
  bound = new Map<number, number>();
  restrictedTo: number | undefined;
  isClosed = false;
  private waiters: (() => void)[] = [];

  constructor(private readonly xen: FakeXen) {}

  bindInterdomain(domid: number, remotePort: number): number {
    this.xen.maybeFail('bind_interdomain');
    if (remotePort === 0 || domid !== this.xen.domid) throw new XenDeviceError(ERRNO.EINVAL, 'bind_interdomain');
    const local = 16 + this.bound.size;
    this.bound.set(local, remotePort);
    return local;
  }
  bindUnboundPort(): number {
    return 99;
  }
  bindVirq(): number {
    return 98;
  }
  unbind(port: number): void {
    this.bound.delete(port);
  }
  notify(port: number): void {
    if (this.isClosed) throw new Error('notify on a closed file');
    this.notified.push(port);
    this.xen.onNotify?.();
  }
  unmask(port: number): void {
    this.masked.delete(port);
  }
  restrict(domid: number): void {
    this.restrictedTo = domid;
  }
  read(): number | undefined {
    const port = this.pending.shift();
    if (port !== undefined) this.masked.add(port);
    return port;
  }
  wait(): boolean {
    this.xen.nrWaits++;
    return this.pending.length > 0;
  }
  waitAsync(signal?: AbortSignal): Promise<void> {
    if (this.pending.length > 0 || signal?.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      this.waiters.push(resolve);
      signal?.addEventListener('abort', () => resolve(), { once: true });
    });
  }
  close(): void {
    this.isClosed = true;
    this.wake();
  }
  raise(remotePort: number): void {
    const local = [...this.bound].find(([, remote]) => remote === remotePort)?.[0];
    if (local !== undefined) this.raiseLocal(local);
  }
  raiseLocal(local: number): void {
    if (this.masked.has(local) || this.pending.includes(local)) return;
    this.pending.push(local);
    this.wake();
  }
  private wake(): void {
    for (const waiter of this.waiters.splice(0)) waiter();
  }
}

export class FakeXen implements XenDevices {
  readonly domid = 1;
  readonly ops: RecordedOp[] = [];
  readonly ioreqPage = new Uint8Array(PAGE);
  readonly ring = new Uint8Array(PAGE);
  readonly evtchns: FakeEvtchn[] = [];
  readonly ram: Uint8Array;
  /** gfn to page of `ram`. */
  readonly p2m = new Map<bigint, number>();
  readonly ranges = new Set<string>();
  /** Operation or call that fails, with its errno. */
  failing = new Map<number | string, number>();
  dirty: number[] = [];
  onNotify: (() => void) | undefined;
  nrWaits = 0;
  nrMappings = 0;
  restrictedTo: number | undefined;
  isPrivcmdClosed = false;
  isHypercallClosed = false;
  populateLimit = Number.POSITIVE_INFINITY;
  serverExists = false;
  enabled = false;
  private nextFrame: number;

  constructor(
    readonly nrVcpus = 1,
    nrRamPages = 16,
    nrExtraPages = 0,
  ) {
    this.ram = new Uint8Array((nrRamPages + nrExtraPages) * PAGE);
    for (let i = 0; i < nrRamPages; i++) this.p2m.set(BigInt(i), i);
    this.nextFrame = nrRamPages;
  }

  get evtchn(): FakeEvtchn {
    return this.evtchns[0] as FakeEvtchn;
  }

  maybeFail(what: number | string): void {
    const errno = this.failing.get(what);
    if (errno !== undefined) throw new XenDeviceError(errno, String(what));
  }

  openEvtchn(): EvtchnFile {
    const file = new FakeEvtchn(this);
    this.evtchns.push(file);
    return file;
  }

  openHypercall(): HypercallFile {
    return {
      populatePhysmap: (_domid, firstGfn, nrFrames) => {
        this.maybeFail('populate');
        const done = Math.min(nrFrames, this.populateLimit);
        for (let i = 0; i < done; i++) this.p2m.set(firstGfn + BigInt(i), this.nextFrame++);
        return done;
      },
      close: () => {
        this.isHypercallClosed = true;
      },
    };
  }

  openPrivcmd(): PrivcmdFile {
    return {
      dmOp: (domid, bufs) => this.dmOp(domid, bufs),
      mmapResource: (_domid, _type, _id, frame) => {
        this.maybeFail(`map ${frame}`);
        return this.mapping(frame === 0 ? this.ring : this.ioreqPage);
      },
      resourceSize: () => 2 * PAGE,
      mmapBatch: (_domid, gfns) => this.mmapBatch(gfns),
      restrict: (domid) => {
        this.restrictedTo = domid;
      },
      close: () => {
        this.isPrivcmdClosed = true;
      },
    };
  }

  private mapping(bytes: Uint8Array) {
    this.nrMappings++;
    let mapped = true;
    return {
      bytes,
      unmap: () => {
        if (mapped) this.nrMappings--;
        mapped = false;
      },
    };
  }

  private mmapBatch(gfns: readonly bigint[]) {
    const pages = gfns.map((gfn) => this.p2m.get(gfn));
    const errors = Int32Array.from(pages, (page) => (page === undefined ? -ERRNO.EINVAL : 0));
    const first = pages[0];
    const contiguous = first !== undefined && pages.every((page, i) => page === first + i);
    const bytes = contiguous
      ? this.ram.subarray(first * PAGE, (first + gfns.length) * PAGE)
      : new Uint8Array(gfns.length * PAGE);
    return { memory: this.mapping(bytes), errors };
  }

  private dmOp(domid: number, bufs: readonly Uint8Array[]): void {
    if (domid !== this.domid) throw new XenDeviceError(ERRNO.ESRCH, 'dm_op');
    const head = bufs[0] as Uint8Array;
    if (head.length !== dm.xen_dm_op.size) throw new Error('the first buffer is no xen_dm_op');
    const op = new DataView(head.buffer).getUint32(0, true);
    const payload = head.subarray(8);
    this.ops.push({ op, payload: payload.slice(), buffers: bufs.map((b) => b.slice()) });
    this.maybeFail(op);
    this.effect(op, payload, bufs);
  }

  private effect(op: number, payload: Uint8Array, bufs: readonly Uint8Array[]): void {
    switch (op) {
      case dm.XEN_DMOP_create_ioreq_server:
        this.serverExists = true;
        payload.set([3, 0], 4);
        break;
      case dm.XEN_DMOP_get_ioreq_server_info:
        new DataView(payload.buffer, payload.byteOffset).setUint32(4, 40, true);
        break;
      case dm.XEN_DMOP_set_ioreq_server_state:
        this.setEnabled(payload[2] !== 0);
        break;
      case dm.XEN_DMOP_destroy_ioreq_server:
        this.serverExists = false;
        break;
      case dm.XEN_DMOP_nr_vcpus:
        new DataView(payload.buffer, payload.byteOffset).setUint32(0, this.nrVcpus, true);
        break;
      case dm.XEN_DMOP_map_io_range_to_ioreq_server:
        this.ranges.add(this.rangeName(payload));
        break;
      case dm.XEN_DMOP_unmap_io_range_from_ioreq_server:
        if (!this.ranges.delete(this.rangeName(payload))) throw new XenDeviceError(ERRNO.ENOENT, 'unmap');
        break;
      case dm.XEN_DMOP_track_dirty_vram:
        for (const page of this.dirty.splice(0)) (bufs[1] as Uint8Array)[page >>> 3]! |= 1 << (page & 7);
        break;
      case dm.XEN_DMOP_relocate_memory: {
        const { size, src_gfn, dst_gfn } = decode(dm.xen_dm_op_relocate_memory, payload);
        const frames = Array.from({ length: size }, (_, i) => this.p2m.get(src_gfn + BigInt(i)));
        if (frames.includes(undefined)) throw new XenDeviceError(ERRNO.EINVAL, 'relocate');
        for (const i of frames.keys()) this.p2m.delete(src_gfn + BigInt(i));
        for (const [i, frame] of frames.entries()) this.p2m.set(dst_gfn + BigInt(i), frame as number);
        break;
      }
      default:
    }
  }

  private rangeName(payload: Uint8Array): string {
    const { type, start, end } = decode(dm.xen_dm_op_ioreq_server_range, payload);
    return `${['port', 'memory', 'pci'][type]} ${start.toString(16)}-${end.toString(16)}`;
  }

  private setEnabled(enabled: boolean): void {
    this.enabled = enabled;
    const view = new DataView(this.ioreqPage.buffer);
    for (let v = 0; v < this.nrVcpus; v++) ioreq.fields.vp_eport.set(view, v * 32, 50 + v);
  }

  /** Fills a vCPU's slot as Xen does and notifies. */
  post(vcpu: number, request: Post, state = STATE_IOREQ_READY): void {
    const slot = encode(ioreq, {
      addr: request.addr ?? 0n,
      data: request.data ?? 0n,
      count: request.count ?? 1,
      size: request.size ?? 1,
      vp_eport: 50 + vcpu,
      _pad0: 0,
      flags: {
        state,
        data_is_ptr: request.dataIsPtr ? 1 : 0,
        dir: request.isRead ? 1 : 0,
        df: request.df ? 1 : 0,
      },
      type: request.type ?? 0,
    });
    this.ioreqPage.set(slot, vcpu * 32);
    this.evtchn.raise(50 + vcpu);
  }

  slot(vcpu = 0) {
    return ioreq.read(new DataView(this.ioreqPage.buffer), vcpu * 32);
  }

  /** Xen's side of the end of a request. @returns the data */
  finish(vcpu = 0): bigint {
    const { data } = this.slot(vcpu);
    const at = vcpu * 32 + ioreq.fields.flags.offset;
    this.ioreqPage[at] = ((this.ioreqPage[at] as number) & 0xf0) | STATE_IOREQ_NONE;
    return data;
  }

  /** Appends raw slots to the buffered ring. */
  buffer(...slots: { type?: number; isRead?: boolean; size?: number; addr?: number; data?: number }[]): void {
    const words = new Uint32Array(this.ring.buffer);
    for (const s of slots) {
      const at = 2 + 2 * ((words[1] as number) % 511);
      words[at] = packBufIoreq(s.type ?? 1, s.isRead ? 1 : 0, s.size ?? 0, s.addr ?? 0);
      words[at + 1] = s.data ?? 0;
      words[1]!++;
    }
    this.evtchn?.raise(40);
  }
}

/** Waits until something holds, letting promises and the event loop run. */
export async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 1000; i++) {
    if (condition()) return;
    await new Promise((resolve) => setImmediate(resolve));
  }
  throw new Error('waited in vain');
}
