/** A domain's physical-to-machine map: gfn to mfn and type. (stub: signatures only) */
export const P2M_INVALID = -1;

/** @spec xen p2m types, as far as they can be observed */
export type P2mType = 'ram_rw' | 'ram_ro' | 'ram_logdirty' | 'mmio_dm' | 'ioreq_server';

export class P2m {
  /** mfn at gfn, or P2M_INVALID for a hole. */
  mfn(_gfn: number): number {
    throw new Error('stub');
  }
  /** Type at gfn; a hole is `mmio_dm`. */
  type(_gfn: number): P2mType {
    throw new Error('stub');
  }
  set(_gfn: number, _mfn: number, _type: P2mType): void {
    throw new Error('stub');
  }
  /** Removes the entry and returns its mfn (P2M_INVALID for a hole). */
  remove(_gfn: number): number {
    throw new Error('stub');
  }
  /** Changes the type where it is `from`; false where it is something else. */
  changeType(_gfn: number, _from: P2mType, _to: P2mType): boolean {
    throw new Error('stub');
  }
  /** Highest gfn ever mapped (Xen's max_mapped_pfn), -1 when none. */
  get maxMappedGfn(): number {
    throw new Error('stub');
  }
}
