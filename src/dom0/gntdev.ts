/**
 * /dev/xen/gntdev, as much of it as a device model probes at start-up: that it can be opened, and that it is there to
 * copy grants. Grants themselves are refused until domains have grant tables. @spec linux:drivers/xen/gntdev.c
 */
import { decode } from '../abi/layout.js';
import { IOCTL_GNTDEV_GRANT_COPY, IOCTL_GNTDEV_SET_MAX_GRANTS, ioctl_gntdev_grant_copy } from '../abi/linux/gntdev.js';
import { XenError } from '../boundary/xen-error.js';
import type { DeviceFile } from './device-file.js';
import type { Process } from './process.js';

export class GntdevFile implements DeviceFile {
  readonly device = 'gntdev';

  ioctl(cmd: number, arg: number, process: Process): number {
    switch (cmd) {
      case IOCTL_GNTDEV_SET_MAX_GRANTS:
        return 0; // Linux ignores it too since 5.6
      case IOCTL_GNTDEV_GRANT_COPY: {
        const bytes = new Uint8Array(ioctl_gntdev_grant_copy.size);
        process.memory.copyIn(arg, bytes);
        if (decode(ioctl_gntdev_grant_copy, bytes).count === 0) return 0;
        throw new XenError('EOPNOTSUPP', 'grants are not implemented yet');
      }
      default:
        throw new XenError('ENOTTY', 'not an ioctl of gntdev, or one of grants, which are not implemented yet');
    }
  }

  write(): number {
    throw new XenError('EINVAL', 'gntdev takes no data');
  }

  release(): void {}
}
