/**
 * Where this host answers differently from the recorded Xen, and why that is meant. docs/SUPPORT.md lists these. An entry
 * whose row has come to match fails the conformance test: it must be removed.
 */
export interface Exception {
  readonly program: string;
  readonly group: string;
  readonly call: string;
  /** What the row answers here: return, errno name if any, extra, separated by spaces. */
  readonly ours: string;
  readonly reason: string;
}

const XENBUS = 'oracle-xenbus';
const STREAM = 'the file is a stream to the host: a write cannot be refused, so the refusal comes as a reply';
const TOO_LONG = 'likewise: no reply could say it, so the file ends';

export const EXCEPTIONS: readonly Exception[] = [
  {
    program: XENBUS,
    group: 'xenbus requests',
    call: 'READ without nul: reply',
    ours: '7 type=16 EINVAL|',
    reason:
      "the host's store says what the protocol says of a malformed request; C xenstored, which is the same here, ENOENT",
  },
  {
    program: XENBUS,
    group: 'xenbus pieces',
    call: 'two requests: 2: reply',
    ours: '3 type=11 OK|',
    reason: 'Linux drops what follows the first request of a write without a word',
  },
  {
    program: XENBUS,
    group: 'xenbus transactions',
    call: 'END of none: reply',
    ours: '7 type=16 ENOENT|',
    reason: 'Linux warns in its log and never answers',
  },
  { program: XENBUS, group: 'xenbus refused', call: 'WATCH of a bad path: write', ours: '0', reason: STREAM },
  {
    program: XENBUS,
    group: 'xenbus refused',
    call: 'WATCH of a bad path: reply',
    ours: '7 type=16 EINVAL|',
    reason: STREAM,
  },
  { program: XENBUS, group: 'xenbus refused', call: 'READ with 4081 bytes: write', ours: '0', reason: TOO_LONG },
  {
    program: XENBUS,
    group: 'xenbus refused',
    call: 'READ with 4081 bytes: reply',
    ours: '0 end of file',
    reason: TOO_LONG,
  },
  { program: XENBUS, group: 'xenbus refused', call: 'header of 5000 bytes', ours: '16', reason: TOO_LONG },
  {
    program: XENBUS,
    group: 'xenbus refused',
    call: 'header of 5000 bytes: reply',
    ours: '0 end of file',
    reason: TOO_LONG,
  },
];
