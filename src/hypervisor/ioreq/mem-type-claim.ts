/**
 * The claim of one ioreq server on a type of memory: pages of type `ioreq_server` send their writes to it. At most one
 * server has the claim; while pages of the type are left from an earlier one, nobody else gets it.
 *
 * Whoever makes a page `ioreq_server` reports it here. Pages leave the type in many ways (set_mem_type, relocation,
 * being freed), so membership is checked when it is asked for.
 *
 * @spec xen:arch/x86/mm/p2m.c p2m_set_ioreq_server
 */

import type { Preemption } from '../../boundary/operation.js';
import { XenError } from '../../boundary/xen-error.js';
import type { P2m } from '../p2m.js';
import type { IoreqServer } from './ioreq-server.js';

/** Pages are put back in steps of this many. */
const RESET_STEP = 256;

export class MemTypeClaim {
  private owner: IoreqServer | undefined;
  private readonly gfns = new Set<number>();

  constructor(private readonly p2m: P2m) {}

  /** The server that writes go to. */
  get server(): IoreqServer | undefined {
    return this.owner;
  }

  /** Whether pages of the type are left. */
  get isOutstanding(): boolean {
    for (const gfn of this.gfns) {
      if (this.p2m.type(gfn) === 'ioreq_server') return true;
      this.gfns.delete(gfn);
    }
    return false;
  }

  /** @throws XenError EBUSY */
  take(server: IoreqServer): void {
    if (this.owner) throw new XenError('EBUSY', `server ${this.owner.id} has the memory type`);
    if (this.isOutstanding) throw new XenError('EBUSY', 'pages of the memory type are left from another server');
    this.owner = server;
  }

  /** @throws XenError EINVAL where the server doesn't have it */
  release(server: IoreqServer): void {
    if (this.owner !== server) throw new XenError('EINVAL', `server ${server.id} doesn't have the memory type`);
    this.owner = undefined;
  }

  /** A page has become `ioreq_server`. */
  addPage(gfn: number): void {
    this.gfns.add(gfn);
  }

  /**
   * Makes pages of the type from `firstGfn` on ordinary memory again, unless a server has the claim.
   * @returns false when preempted: call again
   */
  resetPages(firstGfn: bigint, preemption: Preemption): boolean {
    if (this.owner) return true;
    let sinceCheck = 0;
    for (const gfn of this.gfns) {
      if (BigInt(gfn) >= firstGfn) this.p2m.changeType(gfn, 'ioreq_server', 'ram_rw');
      if (this.p2m.type(gfn) !== 'ioreq_server') this.gfns.delete(gfn);
      if (++sinceCheck % RESET_STEP === 0 && preemption.due()) return false;
    }
    return true;
  }
}
