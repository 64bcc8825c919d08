/** The proposals in the order of the minutes, and the forms that are broken on purpose. */
import type { Proposal } from '../proposal.js';
import { approvedRanges } from './approved-ranges.js';
import { arrayMinuted, flawedArray } from './array-minuted.js';
import { arrayShipped, BROKEN_SHIPPED } from './array-shipped.js';
import { ioctlRanges, ioctlRangesWithoutBit } from './ioctl-ranges.js';
import { opAware } from './op-aware.js';
import { passThrough } from './pass-through.js';
import { physicalBuffers } from './physical-buffers.js';
import { restrictionArray } from './restriction-array.js';
import { specialArea } from './special-area.js';
import { WEAKENED } from './weakened.js';

export const PROPOSALS: readonly Proposal[] = [
  passThrough,
  opAware,
  approvedRanges,
  specialArea,
  physicalBuffers,
  ioctlRanges,
  restrictionArray,
  arrayMinuted,
  arrayShipped,
];

/** There only so that every attack is seen to succeed somewhere. */
export const BROKEN_FORMS: readonly Proposal[] = [
  ...BROKEN_SHIPPED,
  ioctlRangesWithoutBit,
  flawedArray('Only the first block is audited', 'audits-first-only'),
  flawedArray('Only the first byte of a block is audited', 'audits-start-only'),
  flawedArray('Only the end of a block is audited, after it has wrapped', 'audits-wrapped-end'),
  flawedArray('The array is read again after the audit', 'reads-array-twice'),
  flawedArray('The domid is read again after the check', 'reads-domid-twice'),
  flawedArray('A missing block is what the last call left there', 'garbage-for-missing'),
  flawedArray('A missing block is an assertion', 'asserts-on-missing'),
  flawedArray('A short struct is filled up with what lies on the stack', 'not-zeroed', 'copies-out-whole'),
  flawedArray('Results are copied out whole, whatever the size', 'copies-out-whole'),
  flawedArray('The struct has no largest size', 'no-size-bound'),
  flawedArray('Operations never look for other work', 'not-preemptible'),
  flawedArray('A restricted file can be restricted anew', 'restricts-again'),
  flawedArray('The restriction is the process’s and not the file’s', 'restricts-process'),
  flawedArray('Only the first file that is opened can be restricted', 'restricts-first-open'),
  flawedArray('The domid is not looked at', 'no-domid-check'),
  flawedArray('Plain hypercalls pass a restricted file', 'hypercalls-allowed'),
  flawedArray('What was audited is not pinned', 'no-pinning'),
  flawedArray('The hypervisor copies any number of handles', 'no-count-bound'),
  {
    ...arrayMinuted,
    id: 'array-minuted/reuses-domids',
    name: 'The next domain gets the domid of one that has just gone',
    brokenFormOf: 'array-minuted',
    reusesDomids: true,
  },
  ...WEAKENED,
];

export function proposal(id: string): Proposal | undefined {
  return [...PROPOSALS, ...BROKEN_FORMS].find((one) => one.id === id);
}
