/**
 * Guest frames set aside for ioreq servers whose device model maps them as guest memory: a window of up to 64 frames that
 * the toolstack names with HVM_PARAM_IOREQ_SERVER_PFN and HVM_PARAM_NR_IOREQ_SERVER_PAGES, then the two frames of
 * HVM_PARAM_IOREQ_PFN and HVM_PARAM_BUFIOREQ_PFN.
 *
 * Parameter values are the toolstack's: any 64-bit number, at any time.
 *
 * @spec xen:arch/x86/hvm/ioreq.c hvm_alloc_ioreq_gfn
 * @deviates where the window is used up and the two parameters have no value, ENOMEM and not frame 0; setting the
 * window's size again to the same value doesn't free frames that are in use
 */
import {
  HVM_PARAM_BUFIOREQ_PFN,
  HVM_PARAM_IOREQ_PFN,
  HVM_PARAM_IOREQ_SERVER_PFN,
  HVM_PARAM_NR_IOREQ_SERVER_PAGES,
} from '../../abi/xen/hvm-params.js';
import { XenError } from '../../boundary/xen-error.js';
import { IndexSet } from '../index-set.js';

const WINDOW_MAX = 64;

/** A frame on loan; `index` is its place in the window, -1 for one of the two parameters. */
export interface IoreqGfn {
  readonly gfn: bigint;
  readonly index: number;
}

interface ParamGfn extends IoreqGfn {
  isFree: boolean;
}

export class IoreqGfns {
  private base = 0n;
  private nrWindow = 0;
  private readonly free = new IndexSet(WINDOW_MAX, 'empty');
  private readonly params = new Map<number, ParamGfn>();

  /** What setting one of the four parameters does here; others are ignored. @throws XenError EINVAL */
  paramSet(param: number, value: bigint): void {
    switch (param) {
      case HVM_PARAM_IOREQ_SERVER_PFN:
        this.base = value;
        break;
      case HVM_PARAM_NR_IOREQ_SERVER_PAGES:
        if (value === 0n || value > BigInt(WINDOW_MAX)) throw new XenError('EINVAL', `1 to ${WINDOW_MAX} ioreq pages`);
        for (; this.nrWindow < Number(value); this.nrWindow++) this.free.add(this.nrWindow);
        break;
      case HVM_PARAM_IOREQ_PFN:
      case HVM_PARAM_BUFIOREQ_PFN:
        if (value !== 0n && !this.params.has(param)) this.params.set(param, { gfn: value, index: -1, isFree: true });
        break;
    }
  }

  /** @throws XenError ENOMEM */
  allocate(): IoreqGfn {
    const index = this.free.takeLowest();
    if (index >= 0) return { gfn: BigInt.asUintN(64, this.base + BigInt(index)), index };
    for (const param of [HVM_PARAM_IOREQ_PFN, HVM_PARAM_BUFIOREQ_PFN]) {
      const entry = this.params.get(param);
      if (!entry?.isFree) continue;
      entry.isFree = false;
      return entry;
    }
    throw new XenError('ENOMEM', 'no guest frame is left for ioreq servers');
  }

  release(loan: IoreqGfn): void {
    if (loan.index >= 0) this.free.add(loan.index);
    else for (const entry of this.params.values()) if (entry === loan) entry.isFree = true;
  }
}
