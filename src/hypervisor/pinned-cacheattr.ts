/**
 * Guest memory whose cacheability a toolstack or device model has pinned, whatever the guest's own tables say. Kept for
 * the vCPU engine that honours it.
 * @spec xen:arch/x86/hvm/mtrr.c hvm_set_mem_pinned_cacheattr
 */
import {
  XEN_DMOP_DELETE_MEM_CACHEATTR,
  XEN_DMOP_MEM_CACHEATTR_UC,
  XEN_DMOP_MEM_CACHEATTR_UCM,
  XEN_DMOP_MEM_CACHEATTR_WB,
  XEN_DMOP_MEM_CACHEATTR_WC,
  XEN_DMOP_MEM_CACHEATTR_WP,
  XEN_DMOP_MEM_CACHEATTR_WT,
} from '../abi/xen/dm-op.js';
import { XenError } from '../boundary/xen-error.js';

const MAX_RANGES = 64;

/** Xen compares frame numbers with the width of addresses. */
const PADDR_BITS = 40n;

const TYPES = new Set([
  XEN_DMOP_MEM_CACHEATTR_UC,
  XEN_DMOP_MEM_CACHEATTR_WC,
  XEN_DMOP_MEM_CACHEATTR_WT,
  XEN_DMOP_MEM_CACHEATTR_WP,
  XEN_DMOP_MEM_CACHEATTR_WB,
  XEN_DMOP_MEM_CACHEATTR_UCM,
]);

export interface PinnedRange {
  readonly start: bigint;
  readonly end: bigint;
  type: number;
}

export class PinnedCacheAttr {
  private readonly ranges: PinnedRange[] = [];

  /** @throws XenError EINVAL, ENOENT, EBUSY, ENOSPC */
  set(start: bigint, end: bigint, type: number): void {
    if (end < start || (start | end) >> PADDR_BITS !== 0n) throw new XenError('EINVAL', 'no such range of memory');
    const exact = this.ranges.findIndex((range) => range.start === start && range.end === end);
    if (type === XEN_DMOP_DELETE_MEM_CACHEATTR) {
      if (exact < 0) throw new XenError('ENOENT', 'no such range is pinned');
      this.ranges.splice(exact, 1);
      return;
    }
    if (!TYPES.has(type)) throw new XenError('EINVAL', `no cache attribute ${type}`);
    if (exact >= 0) {
      this.ranges[exact]!.type = type;
      return;
    }
    if (this.ranges.some((range) => range.start <= end && start <= range.end)) {
      throw new XenError('EBUSY', 'the range overlaps one that is pinned');
    }
    if (this.ranges.length >= MAX_RANGES) throw new XenError('ENOSPC', `${MAX_RANGES} ranges are pinned`);
    this.ranges.push({ start, end, type });
  }

  /** What is pinned at a frame, undefined where nothing is. */
  at(gfn: bigint): number | undefined {
    return this.ranges.find((range) => range.start <= gfn && gfn <= range.end)?.type;
  }
}
