/**
 * Frames of a domain as another maps them: consecutive pages that are consecutive frames of one extent come as one run,
 * pages that are not there with an errno.
 * @spec xen:arch/x86/mm.c get_page_from_l1e: a PV dom0 is told EINVAL for a page that cannot be mapped
 */
import { ERRNO } from '../abi/errno.js';
import type { FrameRun, Mapping, PageErrorRun } from '../boundary/extent.js';
import type { Domain } from './domain.js';
import type { MachineMemory } from './machine-memory.js';
import { P2M_INVALID } from './p2m.js';
import { gfnOf } from './physmap.js';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

/** The mapping of a domain's gfns, in the order they are asked for. */
export function mapForeign(domain: Domain, gfns: readonly bigint[]): Mapping {
  const builder = new MappingBuilder(domain.machine);
  for (const gfn of gfns) {
    const mfn = domain.p2m.mfn(gfnOf(gfn));
    if (mfn === P2M_INVALID) builder.addError(ERRNO.EINVAL);
    else builder.addFrame(mfn);
  }
  return builder;
}

/** The mapping of frames that are known to exist. */
export function mapFrames(machine: MachineMemory, mfns: readonly number[]): Mapping {
  const builder = new MappingBuilder(machine);
  for (const mfn of mfns) builder.addFrame(mfn);
  return builder;
}

class MappingBuilder implements Mapping {
  readonly runs: Mutable<FrameRun>[] = [];
  readonly errors: Mutable<PageErrorRun>[] = [];
  private page = 0;
  /** The mfn that would continue the last run with the next page; 0 where none would. */
  private nextMfn = 0;

  constructor(private readonly machine: MachineMemory) {}

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
