/**
 * The vCPUs' side of ioreq servers: sends a guest's access to the device model that claims it, and takes the answer.
 *
 *     idle ── start ──> waiting: slot READY (set here) ──> INPROCESS ──> RESP_READY (set by the device model)
 *      ^                   │                                                 │ data taken, slot NONE (set here)
 *      └───────────────────┴── domain crashed: a state that goes back ───────┘
 *
 * A vCPU waits for one access at a time, but for a broadcast it waits for every server. Wake-ups may be spurious: the
 * slot's state is what counts, read once a wake-up. The requests are a guest's; everything in the slots after `post` is
 * the device model's, who harms its own domain at most.
 *
 * @spec xen:common/ioreq.c ioreq_send, wait_for_io, vcpu_ioreq_handle_completion, ioreq_broadcast
 */
import {
  IOREQ_READ,
  IOREQ_TYPE_COPY,
  IOREQ_TYPE_INVALIDATE,
  IOREQ_TYPE_TIMEOFFSET,
  IOREQ_WRITE,
  packIoreqFlags,
  STATE_IOREQ_INPROCESS,
  STATE_IOREQ_NONE,
  STATE_IOREQ_READY,
  STATE_IORESP_READY,
} from '../../abi/xen/ioreq.js';
import { SHUTDOWN_crash } from '../../abi/xen/xen.js';
import { appendBuffered, fitsBufferedRing } from './buffered-ring.js';
import { limitRepetitions, readClaimedMemory, unclaimedAccess, withoutData } from './io-repetitions.js';
import { allOnes, type IoCompletion, type IoRequest } from './io-request.js';
import type { IoreqServer, ServerVcpu } from './ioreq-server.js';
import type { IoreqServers } from './ioreq-servers.js';
import { type Route, route } from './request-routing.js';

const PCI_ADDRESS_PORT = 0xcf8n;

/** What one vCPU waits for. `request` is undefined for a broadcast. */
interface Waiting {
  readonly request: IoRequest | undefined;
  readonly count: number;
  readonly onComplete: IoCompletion;
  /** Requests are still being posted: answers that are there already have to wait. */
  isPosting: boolean;
  nrPosted: number;
  nrAnswered: number;
  data: bigint;
}

/** What goes to a device model, whatever it came from. */
interface Outgoing {
  readonly type: number;
  readonly addr: bigint;
  readonly data: bigint;
  readonly count: number;
  readonly size: number;
  readonly dir: number;
  readonly df: boolean;
  readonly dataIsPtr: boolean;
}

const BROADCAST = { addr: 0n, count: 1, dir: IOREQ_WRITE, df: false, dataIsPtr: false };

export class IoreqDispatcher {
  /** Why the domain was crashed, for the trace. */
  crashReason: string | undefined;
  private readonly waiting = new Map<number, Waiting>();
  private readonly mustInvalidate = new Set<number>();
  /** The PCI address register that configuration cycles go by. */
  private cf8 = 0;

  constructor(private readonly servers: IoreqServers) {}

  /** Whether a vCPU waits for a device model. It may not start another access then. */
  isWaiting(vcpuId: number): boolean {
    return this.waiting.has(vcpuId);
  }

  /** The server that a request would go to now. */
  select(request: IoRequest): IoreqServer | undefined {
    return route(this.servers, request, limitRepetitions(request), this.cf8).server;
  }

  /** Begins an access. `onComplete` is called once, before this returns where no device model is needed. */
  start(vcpuId: number, request: IoRequest, onComplete: IoCompletion): void {
    if (this.waiting.has(vcpuId)) throw new Error(`vCPU ${vcpuId} waits already`);
    const { size } = request;
    if (size !== 1 && size !== 2 && size !== 4 && size !== 8) {
      onComplete(withoutData(request, 1, 'unhandled'));
      return;
    }
    this.latchPciAddress(request);
    const count = limitRepetitions(request);
    const { domain } = this.servers;
    if (request.space === 'memory' && domain.p2m.type(Number(request.addr >> 12n)) === 'ioreq_server') {
      const server = this.servers.memType.server;
      if (!server) onComplete(withoutData(request, 0, 'retry'));
      else if (!request.isWrite) onComplete(readClaimedMemory(domain, request, count));
      else this.sendTo({ server, type: IOREQ_TYPE_COPY, addr: request.addr }, vcpuId, request, count, onComplete);
      return;
    }
    const target = route(this.servers, request, count, this.cf8);
    if (target.server) this.sendTo(target, vcpuId, request, count, onComplete);
    else onComplete(unclaimedAccess(domain, request, count));
  }

  /** Looks whether what a vCPU waits for has come. Whoever wakes it calls this; calling it in vain is harmless. */
  poll(vcpuId: number): void {
    const waiting = this.waiting.get(vcpuId);
    if (!waiting || waiting.isPosting) return;
    let nrPending = 0;
    for (const server of this.servers) {
      const vcpu = server.vcpus[vcpuId];
      if (!vcpu?.isPending) continue;
      const refusal = this.takeAnswer(server, vcpuId, vcpu, waiting);
      if (refusal !== undefined) {
        this.crash(vcpuId, refusal);
        return;
      }
      if (vcpu.isPending) nrPending++;
    }
    if (nrPending === 0) this.finish(vcpuId, waiting);
  }

  /** `poll` for every vCPU, after a server has changed under those that wait. */
  pollAll(): void {
    for (const vcpuId of [...this.waiting.keys()]) this.poll(vcpuId);
  }

  /** Every vCPU's next completion waits until device models have dropped what they cache of mappings. */
  requestMapcacheInvalidate(): void {
    for (let id = 0; id < this.servers.domain.nrVcpus; id++) this.mustInvalidate.add(id);
  }

  /** Has every enabled server drop what it caches of mappings, now, while this vCPU waits. */
  invalidateMapcache(vcpuId: number, onComplete: IoCompletion): void {
    if (this.waiting.has(vcpuId)) throw new Error(`vCPU ${vcpuId} waits already`);
    const out: Outgoing = { ...BROADCAST, type: IOREQ_TYPE_INVALIDATE, size: 4, data: allOnes(8) };
    const waiting = this.begin(vcpuId, undefined, 1, onComplete);
    for (const server of this.servers) if (server.isEnabled) this.post(server, vcpuId, out, waiting);
    waiting.isPosting = false;
    this.poll(vcpuId);
  }

  /** Tells device models that the guest has set its clock, through their buffered rings. @returns how many missed it */
  sendTimeOffset(seconds: bigint): number {
    if (seconds === 0n) return 0;
    const out: Outgoing = { ...BROADCAST, type: IOREQ_TYPE_TIMEOFFSET, size: 8, data: BigInt.asUintN(64, seconds) };
    let failed = 0;
    for (const server of this.servers) {
      if (server.isEnabled && server.handlesBufioreq && !this.sendBuffered(server, out)) failed++;
    }
    return failed;
  }

  private sendTo(target: Route, vcpuId: number, request: IoRequest, count: number, onComplete: IoCompletion): void {
    const server = target.server as IoreqServer;
    const out: Outgoing = {
      type: target.type,
      addr: target.addr,
      data: request.isWrite || request.dataIsPtr ? request.data : 0n,
      count,
      size: request.size,
      dir: request.isWrite ? IOREQ_WRITE : IOREQ_READ,
      df: request.df === true,
      dataIsPtr: request.dataIsPtr === true,
    };
    if (request.buffered && request.isWrite && this.sendBuffered(server, out)) {
      onComplete({ data: 0n, outcome: 'served', count });
      return;
    }
    if (!server.ioreqPage) {
      onComplete(withoutData(request, count, 'unhandled'));
      return;
    }
    const waiting = this.begin(vcpuId, request, count, onComplete);
    const refusal = this.post(server, vcpuId, out, waiting);
    waiting.isPosting = false;
    if (refusal === undefined) {
      this.poll(vcpuId);
    } else if (request.space === 'port') {
      this.crash(vcpuId, refusal); // Xen has no way to fail a port access
    } else {
      this.waiting.delete(vcpuId);
      onComplete(withoutData(request, count, 'unhandled'));
    }
  }

  private begin(vcpuId: number, request: IoRequest | undefined, count: number, onComplete: IoCompletion): Waiting {
    const waiting = { request, count, onComplete, isPosting: true, nrPosted: 0, nrAnswered: 0, data: 0n };
    this.waiting.set(vcpuId, waiting);
    return waiting;
  }

  /** Fills the slot and wakes the device model. @returns why the slot cannot be used, else undefined */
  private post(server: IoreqServer, vcpuId: number, out: Outgoing, waiting: Waiting): string | undefined {
    const page = server.ioreqPage;
    const vcpu = server.vcpus[vcpuId];
    if (!page || !vcpu) return 'the server has no slot for this vCPU';
    const state = page.state(vcpuId);
    if (state !== STATE_IOREQ_NONE) return `device model left a slot in state ${state}`;
    if (page.port(vcpuId) !== vcpu.port) return `device model changed a slot's event channel`;
    vcpu.isPending = true;
    vcpu.lastState = STATE_IOREQ_READY;
    waiting.nrPosted++;
    const flags = packIoreqFlags({
      state: STATE_IOREQ_READY,
      data_is_ptr: out.dataIsPtr ? 1 : 0,
      dir: out.dir,
      df: out.df ? 1 : 0,
    });
    const { addr, data, count, size, type } = out;
    page.post(vcpuId, { addr, data, count, size, port: vcpu.port, flags, type });
    this.servers.domain.evtchn.notifyViaXen(vcpu.port);
    return undefined;
  }

  /** Looks at one slot. @returns what the device model has done wrong, else undefined */
  private takeAnswer(server: IoreqServer, vcpuId: number, vcpu: ServerVcpu, waiting: Waiting): string | undefined {
    const page = server.ioreqPage;
    const state = page ? page.state(vcpuId) : STATE_IOREQ_NONE;
    if (!page || state === STATE_IOREQ_NONE) {
      vcpu.isPending = false; // the device model is going away: no answer
      return undefined;
    }
    if (state < vcpu.lastState) return `ioreq state went from ${vcpu.lastState} to ${state}`;
    vcpu.lastState = state;
    switch (state) {
      case STATE_IOREQ_READY:
      case STATE_IOREQ_INPROCESS:
        return undefined;
      case STATE_IORESP_READY:
        waiting.data = page.data(vcpuId);
        waiting.nrAnswered++;
        page.clearState(vcpuId);
        vcpu.isPending = false;
        return undefined;
      default:
        return `ioreq state ${state}`;
    }
  }

  private finish(vcpuId: number, waiting: Waiting): void {
    this.waiting.delete(vcpuId);
    const { request, count, onComplete } = waiting;
    if (!request) {
      onComplete({ data: 0n, outcome: waiting.nrAnswered < waiting.nrPosted ? 'lost' : 'served', count });
      return;
    }
    const { size } = request;
    const data = request.isWrite || request.dataIsPtr ? 0n : waiting.data & allOnes(size);
    const result =
      waiting.nrAnswered > 0 ? { data, outcome: 'served' as const, count } : withoutData(request, count, 'lost');
    if (this.mustInvalidate.delete(vcpuId)) this.invalidateMapcache(vcpuId, () => onComplete(result));
    else onComplete(result);
  }

  /** The domain cannot go on: its device model has broken the protocol. */
  private crash(vcpuId: number, reason: string): void {
    const waiting = this.waiting.get(vcpuId) as Waiting;
    this.waiting.delete(vcpuId);
    for (const server of this.servers) {
      const vcpu = server.vcpus[vcpuId];
      if (vcpu) vcpu.isPending = false;
    }
    this.crashReason ??= reason;
    this.servers.domain.shutdown(SHUTDOWN_crash);
    const { request, count, onComplete } = waiting;
    onComplete(request ? withoutData(request, count, 'crashed') : { data: 0n, outcome: 'crashed', count });
  }

  /**
   * @returns false where the ring is full or has no form for the request: then the synchronous page takes it.
   * @deviates Xen drops a write that the ring has no form for
   */
  private sendBuffered(server: IoreqServer, out: Outgoing): boolean {
    const page = server.bufioreqPage;
    if (!page || out.dataIsPtr || out.count !== 1 || !fitsBufferedRing(out.addr, out.size)) return false;
    if (!appendBuffered(page, server.isAtomic, out)) return false;
    this.servers.domain.evtchn.notifyViaXen(server.bufioreqPort);
    return true;
  }

  /** The guest chooses the device whose registers the data port gives access to. The write goes on as any other. */
  private latchPciAddress(request: IoRequest): void {
    if (request.space !== 'port' || !request.isWrite || request.dataIsPtr) return;
    if (request.addr === PCI_ADDRESS_PORT && request.size === 4) this.cf8 = Number(BigInt.asUintN(32, request.data));
  }
}
