/**
 * /dev/xen/hypercall: nothing but memory for hypercall arguments, handed out by mmap, which the process's address space
 * takes care of. @spec linux:drivers/xen/privcmd-buf.c
 */
import { XenError } from '../boundary/xen-error.js';
import type { DeviceFile } from './device-file.js';

export class HypercallBufferFile implements DeviceFile {
  readonly device = 'hypercall';

  ioctl(): number {
    throw new XenError('ENOTTY', '/dev/xen/hypercall has no ioctls');
  }

  write(): number {
    throw new XenError('EINVAL', '/dev/xen/hypercall takes no data');
  }

  release(): void {}
}
