/**
 * The ioreq servers of one domain: at most eight, named by the lowest free id, each owned by the domain that created it.
 * This is the control side, driven by DM operations; the dispatcher is the side of the vCPUs.
 *
 * Numbers come from device models: every one is checked here.
 *
 * @spec xen:common/ioreq.c
 */

import { PAGE_SIZE } from '../../abi/ids.js';
import { HVM_IOREQSRV_BUFIOREQ_ATOMIC } from '../../abi/xen/dm-op.js';
import { ioreq } from '../../abi/xen/ioreq.js';
import { XenError } from '../../boundary/xen-error.js';
import type { Domain } from '../domain.js';
import type { LogDirty } from '../log-dirty.js';
import { IoreqDispatcher } from './ioreq-dispatcher.js';
import { IoreqGfns } from './ioreq-gfns.js';
import { IoreqServer } from './ioreq-server.js';
import { MemTypeClaim } from './mem-type-claim.js';
import type { RangeSet } from './range-set.js';

export const MAX_NR_IOREQ_SERVERS = 8;

/** What get_ioreq_server_info tells; what isn't there is undefined. */
export interface IoreqServerInfo {
  readonly bufioreqPort: number | undefined;
  readonly ioreqGfn: bigint | undefined;
  readonly bufioreqGfn: bigint | undefined;
}

export class IoreqServers {
  readonly gfns = new IoreqGfns();
  readonly memType: MemTypeClaim;
  readonly dispatcher: IoreqDispatcher;
  private readonly servers: (IoreqServer | undefined)[] = Array.from({ length: MAX_NR_IOREQ_SERVERS }, () => undefined);
  /** Those there are, highest id first; made anew when one comes or goes, so that nobody walks a list that changes. */
  private inOrder: readonly IoreqServer[] = [];
  private vcpuIds: number[] = [];

  constructor(
    readonly domain: Domain,
    private readonly logDirty: LogDirty,
  ) {
    this.memType = new MemTypeClaim(domain.p2m);
    this.dispatcher = new IoreqDispatcher(this);
  }

  /** All servers, the most recent ids first: the order in which they are asked for a request. */
  [Symbol.iterator](): IterableIterator<IoreqServer> {
    return this.inOrder.values();
  }

  private set(id: number, server: IoreqServer | undefined): void {
    this.servers[id] = server;
    this.inOrder = this.servers.filter((each) => each !== undefined).reverse();
  }

  get size(): number {
    return this.inOrder.length;
  }

  /** The server with an id, whoever owns it. */
  get(id: number): IoreqServer | undefined {
    return this.servers[id];
  }

  /** @returns the new server's id. @throws XenError EINVAL, ENOSPC, or why its channels could not be had */
  create(emulator: Domain, bufioreqHandling: number): number {
    if (bufioreqHandling > HVM_IOREQSRV_BUFIOREQ_ATOMIC) throw new XenError('EINVAL', 'unknown handling of bufioreqs');
    // Without vCPUs there is no channel whose allocation would say so.
    if (this.domain.isDying) throw new XenError('EINVAL', `domain ${this.domain.domid} is dying`);
    const id = this.servers.indexOf(undefined);
    if (id < 0) throw new XenError('ENOSPC', `${MAX_NR_IOREQ_SERVERS} ioreq servers exist`);
    const onNotify = (vcpuId: number) => this.dispatcher.poll(vcpuId);
    const around = { domain: this.domain, gfns: this.gfns, logDirty: this.logDirty, onNotify };
    const server = new IoreqServer(around, id, emulator, bufioreqHandling);
    try {
      for (const vcpuId of this.vcpuIds) server.addVcpu(vcpuId);
    } catch (error) {
      server.destroy();
      throw error;
    }
    this.set(id, server);
    return id;
  }

  /** @throws XenError ENOENT, EPERM */
  destroy(emulator: Domain, id: number): void {
    this.discard(this.owned(emulator, id));
  }

  /** @throws XenError ENOENT, EPERM, and with gfns EINVAL, ENOMEM */
  info(emulator: Domain, id: number, withGfns: boolean): IoreqServerInfo {
    const server = this.owned(emulator, id);
    if (withGfns) server.mapGfns();
    return {
      bufioreqPort: server.handlesBufioreq ? server.bufioreqPort : undefined,
      ioreqGfn: withGfns ? server.ioreqPage?.gfn : undefined,
      bufioreqGfn: withGfns ? server.bufioreqPage?.gfn : undefined,
    };
  }

  /** @throws XenError EINVAL, ENOENT, EPERM, EEXIST, ENOMEM */
  mapRange(emulator: Domain, id: number, type: number, start: bigint, end: bigint): void {
    const ranges = this.rangesOf(emulator, id, type, start, end);
    if (!ranges.add(start, end)) throw new XenError('EEXIST', 'part of the range is claimed already');
  }

  /** Any part of what was mapped may be unmapped. @throws XenError EINVAL, ENOENT, EPERM, ENOMEM */
  unmapRange(emulator: Domain, id: number, type: number, start: bigint, end: bigint): void {
    const ranges = this.rangesOf(emulator, id, type, start, end);
    if (!ranges.remove(start, end)) throw new XenError('ENOENT', 'part of the range is not claimed');
  }

  /** @throws XenError ENOENT, EPERM */
  setState(emulator: Domain, id: number, isEnabled: boolean): void {
    const server = this.owned(emulator, id);
    if (isEnabled) server.enable();
    else {
      server.disable();
      this.dispatcher.pollAll(); // a guest frame that was given back is empty now
    }
  }

  /** Gives a server the memory type, or takes it away. @throws XenError ENOENT, EPERM, EBUSY, EINVAL */
  mapMemType(emulator: Domain, id: number, forward: boolean): void {
    const server = this.owned(emulator, id);
    if (forward) this.memType.take(server);
    else this.memType.release(server);
  }

  /** XENMEM_acquire_resource's size, of any server's pages: the buffered ring and the slots. */
  get resourceMaxFrames(): number {
    return 1 + Math.ceil((this.domain.maxVcpus * ioreq.size) / PAGE_SIZE);
  }

  /**
   * mfns of the pages as a resource; they are made when first asked for. A refusal leaves the server as it was.
   * @throws XenError EINVAL, ENOENT, EPERM, ENOMEM
   */
  resourceFrames(emulator: Domain, id: number, frame: bigint, nrFrames: number): number[] {
    if (id > 0xffff) throw new XenError('EINVAL', `no ioreq server can have the id ${id}`);
    const server = this.owned(emulator, id);
    const frames: number[] = [];
    for (let i = 0; i < nrFrames; i++) {
      const wanted = Number(BigInt.asUintN(32, frame + BigInt(i)));
      server.checkResourceFrame(wanted); // ends a long list at the first frame that isn't there
      frames.push(wanted);
    }
    return frames.map((wanted) => server.resourceFrame(wanted));
  }

  /** A vCPU has been created. @throws XenError ENOSPC, EINVAL; no server has it then */
  addVcpu(vcpuId: number): void {
    const done: IoreqServer[] = [];
    for (const server of this) {
      try {
        server.addVcpu(vcpuId);
      } catch (error) {
        for (const other of done) other.removeVcpu(vcpuId);
        throw error;
      }
      done.push(server);
    }
    this.vcpuIds.push(vcpuId);
  }

  /** The domain dies: before its memory and its event channels go. */
  destroyAll(): void {
    for (const server of this) this.discard(server);
    this.vcpuIds = [];
  }

  private discard(server: IoreqServer): void {
    if (this.memType.server === server) this.memType.release(server);
    this.set(server.id, undefined);
    server.destroy();
    this.dispatcher.pollAll();
  }

  /** @throws XenError ENOENT, EPERM */
  private owned(emulator: Domain, id: number): IoreqServer {
    const server = this.servers[id];
    if (!server) throw new XenError('ENOENT', `no ioreq server ${id}`);
    if (server.emulator !== emulator) throw new XenError('EPERM', `ioreq server ${id} belongs to another domain`);
    return server;
  }

  private rangesOf(emulator: Domain, id: number, type: number, start: bigint, end: bigint): RangeSet {
    if (start > end) throw new XenError('EINVAL', 'the range ends before it starts');
    const ranges = this.owned(emulator, id).ranges[type];
    if (!ranges) throw new XenError('EINVAL', `no I/O ranges of type ${type}`);
    return ranges;
  }
}
