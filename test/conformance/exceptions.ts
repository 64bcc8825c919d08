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

export const EXCEPTIONS: readonly Exception[] = [];
