/** Linux's /dev/xen/gntdev: the part that device models probe at start-up. @spec linux:uapi/xen/gntdev.h */
import { address, struct, u32 } from '../layout.js';
import { ioctlNone } from './ioctl.js';

export const ioctl_gntdev_set_max_grants = struct('ioctl_gntdev_set_max_grants', { count: u32 });
export const ioctl_gntdev_grant_copy = struct('ioctl_gntdev_grant_copy', { count: u32, segments: address });

export const IOCTL_GNTDEV_SET_MAX_GRANTS = ioctlNone('G', 3, ioctl_gntdev_set_max_grants.size);
export const IOCTL_GNTDEV_GRANT_COPY = ioctlNone('G', 8, ioctl_gntdev_grant_copy.size);
