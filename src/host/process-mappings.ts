/**
 * What a client process has mapped of other domains, by address, so that each mapping is released once nothing of it is
 * left: unmapped, mapped over, or gone with the process. The process says what it unmaps; one that doesn't keeps domains
 * findable after their end until it ends itself, as a mapping on Xen would.
 *
 * Ranges never overlap and are sorted. A mapping can have several: it may have holes, and parts of it may go first.
 * Their number is bounded, as a kernel bounds a process's areas.
 */
import { PAGE_SIZE } from '../abi/ids.js';
import type { FrameRun, Mapping } from '../boundary/extent.js';
import { XenError } from '../boundary/xen-error.js';

/** @spec linux:DEFAULT_MAX_MAP_COUNT, about */
const MAX_RANGES = 65536;

/** What is kept of a mapping: the rest of it is needed for the answer only. */
interface Mapped {
  readonly release: () => void;
  nrRanges: number;
}

interface Span {
  readonly start: number;
  readonly end: number;
}

interface Range extends Span {
  readonly mapped: Mapped;
}

interface Cut {
  /** Index of the first range that is overlapped. */
  readonly first: number;
  readonly overlapped: readonly Range[];
  readonly rests: readonly Range[];
}

export class ProcessMappings {
  private ranges: Range[] = [];

  constructor(private readonly maxRanges = MAX_RANGES) {}

  get nrRanges(): number {
    return this.ranges.length;
  }

  /**
   * Takes over a mapping that the process makes at `address`, in place of whatever was there.
   * @throws XenError ENOMEM where the process has too many; the mapping stays the caller's then
   */
  add(address: number, mapping: Mapping): void {
    const spans = spansOf(address, mapping.runs);
    if (spans.length === 0) return mapping.release();
    if (this.ranges.length + spans.length > this.maxRanges) {
      throw new XenError('ENOMEM', `process has ${this.ranges.length} ranges mapped already`);
    }
    const mapped: Mapped = { release: mapping.release, nrRanges: spans.length };
    const cut = this.cut(spans);
    const added = spans.map(({ start, end }) => ({ start, end, mapped }));
    this.apply(cut, [...cut.rests, ...added].sort(byStart));
  }

  /** The process has nothing mapped there any more. */
  unmap(address: number, nrPages: number): void {
    if (nrPages <= 0) return;
    const cut = this.cut([{ start: address, end: address + nrPages * PAGE_SIZE }]);
    // A cut in the middle makes one range more: at the limit it stays whole until all of it goes.
    if (cut.rests.length > cut.overlapped.length && this.ranges.length >= this.maxRanges) return;
    this.apply(cut, cut.rests);
  }

  /** The process is gone. */
  releaseAll(): void {
    const { ranges } = this;
    this.ranges = [];
    for (const { mapped } of ranges) letGo(mapped);
  }

  /** What is there from the first span to the last, and what of it lies outside the spans, which are sorted. */
  private cut(spans: readonly Span[]): Cut {
    const first = this.firstEndingAfter((spans[0] as Span).start);
    const end = (spans[spans.length - 1] as Span).end;
    let last = first;
    while (last < this.ranges.length && (this.ranges[last] as Range).start < end) last++;
    const overlapped = this.ranges.slice(first, last);
    const rests: Range[] = [];
    let next = 0; // the first span that may reach into the range: both lists only go up
    for (const range of overlapped) {
      let at = range.start;
      while (next < spans.length && (spans[next] as Span).end <= at) next++;
      for (let i = next; i < spans.length && (spans[i] as Span).start < range.end; i++) {
        const span = spans[i] as Span;
        if (span.start > at) rests.push({ start: at, end: span.start, mapped: range.mapped });
        at = span.end;
      }
      if (at < range.end) rests.push({ start: at, end: range.end, mapped: range.mapped });
    }
    return { first, overlapped, rests };
  }

  private apply({ first, overlapped, rests }: Cut, ranges: readonly Range[]): void {
    if (overlapped.length === 0 && ranges.length === 0) return;
    this.ranges = this.ranges.slice(0, first).concat(ranges, this.ranges.slice(first + overlapped.length));
    for (const { mapped } of rests) mapped.nrRanges++;
    for (const { mapped } of overlapped) letGo(mapped);
  }

  /** Index of the first range that ends after `address`. */
  private firstEndingAfter(address: number): number {
    let low = 0;
    let high = this.ranges.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.ranges[middle] as Range).end > address) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

function letGo(mapped: Mapped): void {
  mapped.nrRanges--;
  if (mapped.nrRanges === 0) mapped.release();
}

function byStart(a: Range, b: Range): number {
  return a.start - b.start;
}

/** Where the pages of a mapping are that are there, in as few spans as possible: runs are often adjacent pages. */
function spansOf(address: number, runs: readonly FrameRun[]): Span[] {
  const spans: { start: number; end: number }[] = [];
  for (const { page, nrPages } of runs) {
    const start = address + page * PAGE_SIZE;
    const end = start + nrPages * PAGE_SIZE;
    const last = spans[spans.length - 1];
    if (last?.end === start) last.end = end;
    else spans.push({ start, end });
  }
  return spans;
}
