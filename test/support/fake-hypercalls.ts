/** A hypervisor as dom0's drivers see one: it remembers what reaches it, and answers what a test tells it to. */
import type { Extent, Mapping, PageErrorRun } from '../../dist/boundary/extent.js';
import type { GuestBuffer, GuestMemory } from '../../dist/boundary/guest-buffer.js';
import type { EventChannelCalls, Hypercalls } from '../../dist/boundary/hypercalls.js';
import type { Operation } from '../../dist/boundary/operation.js';
import type { XenError } from '../../dist/boundary/xen-error.js';

const EXTENT: Extent = { nrFrames: 1 << 20, bytes: new Uint8Array(0), release() {} };

export class FakeEventChannels implements EventChannelCalls {
  /** Calls in order, such as `bindVirq 3` and `close 7`. */
  readonly log: string[] = [];
  nextPort = 7;
  /** The next bind fails so. */
  failure: XenError | undefined;
  onUnmask: ((port: number) => void) | undefined;

  bindInterdomain(remoteDomid: number, remotePort: number): number {
    return this.bind(`bindInterdomain ${remoteDomid} ${remotePort}`);
  }

  allocUnbound(remoteDomid: number): number {
    return this.bind(`allocUnbound ${remoteDomid}`);
  }

  bindVirq(virq: number): number {
    return this.bind(`bindVirq ${virq}`);
  }

  close(port: number): void {
    this.log.push(`close ${port}`);
  }

  send(port: number): void {
    this.log.push(`send ${port}`);
  }

  acknowledge(port: number): void {
    this.log.push(`acknowledge ${port}`);
  }

  unmask(port: number): void {
    this.log.push(`unmask ${port}`);
    this.onUnmask?.(port);
  }

  private bind(call: string): number {
    if (this.failure) throw this.failure;
    this.log.push(call);
    return this.nextPort++;
  }
}

export interface DmOpCall {
  readonly domid: number;
  readonly buffers: readonly GuestBuffer[];
}

export class FakeHypercalls implements Hypercalls {
  readonly events = new FakeEventChannels();
  readonly dmOps: DmOpCall[] = [];
  readonly hypercalls: { op: number; args: readonly bigint[]; memory: GuestMemory }[] = [];
  readonly foreign: { domid: number; gfns: readonly bigint[] }[] = [];
  readonly resources: unknown[][] = [];
  /** What an operation returns, or throws. */
  result = 0;
  failure: XenError | undefined;
  /** Frames that cannot be mapped, with their errno. */
  readonly holes = new Map<bigint, number>();

  /** Everything that arrived, events aside. */
  get nrCalls(): number {
    return this.dmOps.length + this.hypercalls.length + this.foreign.length + this.resources.length;
  }

  /** The domains that calls were for. */
  get domids(): number[] {
    return [...this.dmOps, ...this.foreign].map((call) => call.domid).concat(this.resources.map((r) => r[0] as number));
  }

  dmOp(domid: number, buffers: readonly GuestBuffer[]): Operation {
    this.dmOps.push({ domid, buffers });
    return this.operation();
  }

  hypercall(op: number, args: readonly bigint[], memory: GuestMemory): Operation {
    this.hypercalls.push({ op, args, memory });
    return this.operation();
  }

  foreignFrames(domid: number, gfns: readonly bigint[]): Mapping {
    this.foreign.push({ domid, gfns });
    if (this.failure) throw this.failure;
    const errors: PageErrorRun[] = [];
    const runs: Mapping['runs'][number][] = [];
    for (const [page, gfn] of gfns.entries()) {
      const errno = this.holes.get(gfn);
      if (errno !== undefined) errors.push({ page, nrPages: 1, errno });
      else runs.push({ page, nrPages: 1, extent: EXTENT, frame: Number(BigInt.asUintN(20, gfn)) });
    }
    return { runs, errors, release() {} };
  }

  resourceSize(domid: number, type: number, id: number): number {
    this.resources.push([domid, type, id]);
    if (this.failure) throw this.failure;
    return this.result;
  }

  resourceFrames(domid: number, type: number, id: number, frame: bigint, nrFrames: number): Mapping {
    this.resources.push([domid, type, id, frame, nrFrames]);
    if (this.failure) throw this.failure;
    return { runs: [{ page: 0, nrPages: nrFrames, extent: EXTENT, frame: 0 }], errors: [], release() {} };
  }

  private operation(): Operation {
    return {
      run: () => {
        if (this.failure) throw this.failure;
        return this.result;
      },
    };
  }
}
