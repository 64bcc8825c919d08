/** An open file of one of dom0's Xen devices, as the drivers implement it. */
import type { Operation } from '../boundary/operation.js';
import type { Process } from './process.js';

export interface DeviceFile {
  readonly device: string;
  /** The domain that the file has been restricted to, if it has. */
  readonly restrictedTo?: number | undefined;
  /**
   * One ioctl. A driver trusts nothing of `arg` or of the process's memory.
   * @returns the call's result, or an operation that may be preempted and yields it
   * @throws XenError with the errno that Linux gives
   */
  ioctl(cmd: number, arg: number, process: Process): number | Operation;
  /** Data written to the file; only event channels take any. @returns the bytes taken */
  write(data: Uint8Array): number;
  /** The last descriptor is gone: drop everything the file held. */
  release(): void;
}
