/**
 * The one error of the hypervisor's boundary: an errno that Xen defines for the situation, and the reason that the
 * trace shows. It is converted once, where a hypercall leaves; any other exception is a bug of ours.
 */
import { ERRNO, type ErrnoName } from '../abi/errno.js';

export class XenError extends Error {
  override readonly name = 'XenError';
  readonly errno: number;

  constructor(
    readonly code: ErrnoName,
    readonly reason: string,
  ) {
    super(`${code}: ${reason}`);
    this.errno = ERRNO[code];
  }
}
