/** Linux's /dev/xen/privcmd. @spec linux:uapi/xen/privcmd.h */
import { address, array, s32, struct, u16, u32, u64 } from '../layout.js';
import { ioctlNone } from './ioctl.js';

export const privcmd_hypercall = struct('privcmd_hypercall', { op: u64, arg: array(u64, 5) });

export const privcmd_mmap_entry = struct('privcmd_mmap_entry', { va: address, mfn: u64, npages: address });
export const privcmd_mmap = struct('privcmd_mmap', { num: s32, dom: u16, entry: address });

export const privcmd_mmapbatch = struct('privcmd_mmapbatch', { num: s32, dom: u16, addr: address, arr: address });
export const privcmd_mmapbatch_v2 = struct('privcmd_mmapbatch_v2', {
  num: u32,
  dom: u16,
  addr: address,
  arr: address,
  err: address,
});
/** MMAPBATCH (v1) reports an error in the frame's own top nibble. */
export const PRIVCMD_MMAPBATCH_MFN_ERROR = 0xf0000000;
export const PRIVCMD_MMAPBATCH_PAGED_ERROR = 0x80000000;

export const privcmd_dm_op_buf = struct('privcmd_dm_op_buf', { uptr: address, size: address });
export const privcmd_dm_op = struct('privcmd_dm_op', { dom: u16, num: u16, ubufs: address });

export const privcmd_mmap_resource = struct('privcmd_mmap_resource', {
  dom: u16,
  type: u32,
  id: u32,
  idx: u32,
  num: address,
  addr: address,
});

export const IOCTL_PRIVCMD_HYPERCALL = ioctlNone('P', 0, privcmd_hypercall.size);
export const IOCTL_PRIVCMD_MMAP = ioctlNone('P', 2, privcmd_mmap.size);
export const IOCTL_PRIVCMD_MMAPBATCH = ioctlNone('P', 3, privcmd_mmapbatch.size);
export const IOCTL_PRIVCMD_MMAPBATCH_V2 = ioctlNone('P', 4, privcmd_mmapbatch_v2.size);
export const IOCTL_PRIVCMD_DM_OP = ioctlNone('P', 5, privcmd_dm_op.size);
export const IOCTL_PRIVCMD_RESTRICT = ioctlNone('P', 6, 2);
export const IOCTL_PRIVCMD_MMAP_RESOURCE = ioctlNone('P', 7, privcmd_mmap_resource.size);
export const IOCTL_PRIVCMD_UNIMPLEMENTED = ioctlNone('P', 0xff, 0);
