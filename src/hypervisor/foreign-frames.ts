/**
 * Frames of a domain as another maps them: consecutive pages that are consecutive frames of one extent come as one run,
 * pages that are not there with an errno.
 * @spec xen:arch/x86/mm.c mod_l1_entry, get_page_from_l1e: what a PV dom0 is told for a page that cannot be mapped
 * @deviates another domain's frame asked for in a PV domain's name is EPERM like any that isn't its own, not EBUSY
 */
import { ERRNO } from '../abi/errno.js';
import type { FrameRun, Mapping, PageErrorRun } from '../boundary/extent.js';
import type { Domain } from './domain.js';
import type { MachineMemory } from './machine-memory.js';
import { P2M_INVALID } from './p2m.js';
import { gfnOf } from './physmap.js';

/** Frame numbers in page table entries have this many bits; all of them set means none. */
const FRAME_BITS = 40;
const NO_FRAME = (1n << BigInt(FRAME_BITS)) - 1n;

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** The mapping of a domain's gfns, in the order they are asked for. It holds the domain. */
export function mapForeign(domain: Domain, gfns: readonly bigint[]): Mapping {
  const builder = new MappingBuilder(domain.machine);
  for (const gfn of gfns) {
    const mfn = domain.p2m.mfn(gfnOf(gfn));
    if (mfn === P2M_INVALID) builder.addError(missingPage(domain, gfn));
    else builder.addFrame(mfn);
  }
  return builder.finish(domain);
}

/** The mapping of frames that are known to exist, of a resource of the domain. It holds the domain. */
export function mapFrames(domain: Domain, mfns: readonly number[]): Mapping {
  const builder = new MappingBuilder(domain.machine);
  for (const mfn of mfns) builder.addFrame(mfn);
  return builder.finish(domain);
}

/** A PV domain's frames go by their machine numbers: any other number is device memory that it has no access to. */
function missingPage(domain: Domain, gfn: bigint): number {
  return domain.kind === 'pv' && BigInt.asUintN(FRAME_BITS, gfn) !== NO_FRAME ? ERRNO.EPERM : ERRNO.EINVAL;
}

const NOTHING_HELD = (): void => {};

/** Keeps a domain findable. @returns what lets go of it, once, and refers to nothing else */
function hold(domain: Domain): () => void {
  let held = true;
  domain.hold();
  return () => {
    if (!held) throw new Error('mapping released twice');
    held = false;
    domain.drop();
  };
}

class MappingBuilder {
  readonly runs: Mutable<FrameRun>[] = [];
  readonly errors: Mutable<PageErrorRun>[] = [];
  private page = 0;
  /** The mfn that would continue the last run with the next page; 0 where none would. */
  private nextMfn = 0;

  constructor(private readonly machine: MachineMemory) {}

  finish(domain: Domain): Mapping {
    return { runs: this.runs, errors: this.errors, release: this.runs.length > 0 ? hold(domain) : NOTHING_HELD };
  }

  addFrame(mfn: number): void {
    if (mfn === this.nextMfn) {
      const last = this.runs[this.runs.length - 1] as Mutable<FrameRun>;
      last.nrPages++;
      this.nextMfn = last.frame + last.nrPages < last.extent.nrFrames ? mfn + 1 : 0;
    } else {
      const { extent, frame } = this.machine.place(mfn);
      this.runs.push({ page: this.page, nrPages: 1, extent, frame });
      this.nextMfn = frame + 1 < extent.nrFrames ? mfn + 1 : 0;
    }
    this.page++;
  }

  addError(errno: number): void {
    const last = this.errors[this.errors.length - 1];
    if (last && last.errno === errno && last.page + last.nrPages === this.page) last.nrPages++;
    else this.errors.push({ page: this.page, nrPages: 1, errno });
    this.nextMfn = 0;
    this.page++;
  }
}
