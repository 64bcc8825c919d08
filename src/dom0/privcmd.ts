/**
 * /dev/xen/privcmd, as Linux's driver behaves. It audits where a call's buffers lie and whom the call is for, and knows
 * nothing of what the call does: no operation number appears here, and this layer cannot import one.
 *
 *              RESTRICT(domid)
 *   unrestricted ───────────▶ restricted to domid      (for the open file's life: dup, fork and fd passing share it)
 *   HYPERCALL ok               HYPERCALL EPERM; DM_OP and the MMAPs only for that domid
 *
 * @spec linux:drivers/xen/privcmd.c
 */
import { PAGE_SIZE } from '../abi/ids.js';
import { address, decode, u16 } from '../abi/layout.js';
import {
  IOCTL_PRIVCMD_DM_OP,
  IOCTL_PRIVCMD_HYPERCALL,
  IOCTL_PRIVCMD_MMAP,
  IOCTL_PRIVCMD_MMAP_RESOURCE,
  IOCTL_PRIVCMD_MMAPBATCH,
  IOCTL_PRIVCMD_MMAPBATCH_V2,
  IOCTL_PRIVCMD_RESTRICT,
  privcmd_dm_op,
  privcmd_dm_op_buf,
  privcmd_hypercall,
} from '../abi/linux/privcmd.js';
import type { Hypercalls } from '../boundary/hypercalls.js';
import type { Operation } from '../boundary/operation.js';
import { XenError } from '../boundary/xen-error.js';
import type { DeviceFile } from './device-file.js';
import { mmap, mmapBatchV1, mmapBatchV2, mmapResource } from './privcmd-mmap.js';
import type { Platform, Process } from './process.js';
import { UserBuffer } from './user-buffer.js';

/** Module parameters of Linux's driver, with its defaults. */
export interface PrivcmdLimits {
  readonly dmOpMaxNrBufs: number;
  readonly dmOpBufMaxSize: number;
}

export const PRIVCMD_LIMITS: PrivcmdLimits = { dmOpMaxNrBufs: 16, dmOpBufMaxSize: 4096 };

/** Where a DM_OP's argument struct is copied to: the call is decoded before anything else can happen. */
const ARGUMENT = new Uint8Array(privcmd_dm_op.size);
const ARGUMENT_VIEW = new DataView(ARGUMENT.buffer);
const DOM_AT = privcmd_dm_op.fields.dom.offset;
const NUM_AT = privcmd_dm_op.fields.num.offset;
const UBUFS_AT = privcmd_dm_op.fields.ubufs.offset;
/** The same for the list of buffers where there is just one, as in most calls. */
const ONE_BUFFER = new Uint8Array(privcmd_dm_op_buf.size);
const ONE_BUFFER_VIEW = new DataView(ONE_BUFFER.buffer);

/** "No domain": the restriction's initial value. @spec xen:DOMID_INVALID */
const UNRESTRICTED = 0x7ff4;

export class PrivcmdFile implements DeviceFile {
  readonly device = 'privcmd';
  private domid = UNRESTRICTED;

  constructor(
    private readonly hypercalls: Hypercalls,
    private readonly platform: Platform,
    private readonly limits: PrivcmdLimits = PRIVCMD_LIMITS,
  ) {}

  ioctl(cmd: number, arg: number, process: Process): number | Operation {
    switch (cmd) {
      case IOCTL_PRIVCMD_DM_OP:
        return this.dmOp(arg, process);
      case IOCTL_PRIVCMD_HYPERCALL:
        return this.hypercall(arg, process);
      case IOCTL_PRIVCMD_MMAP:
        return mmap(this, arg, process);
      case IOCTL_PRIVCMD_MMAPBATCH:
        return mmapBatchV1(this, arg, process);
      case IOCTL_PRIVCMD_MMAPBATCH_V2:
        return mmapBatchV2(this, arg, process);
      case IOCTL_PRIVCMD_MMAP_RESOURCE:
        return mmapResource(this, arg, process);
      case IOCTL_PRIVCMD_RESTRICT:
        return this.restrict(arg, process);
      default:
        throw new XenError('ENOTTY', 'not an ioctl of privcmd');
    }
  }

  write(): number {
    throw new XenError('EINVAL', 'privcmd takes no data');
  }

  release(): void {}

  get restrictedTo(): number | undefined {
    return this.domid === UNRESTRICTED ? undefined : this.domid;
  }

  /** What the mapping calls need of the file. */
  get calls(): Hypercalls {
    return this.hypercalls;
  }

  /** Copies in one struct of the caller's. */
  copyIn(process: Process, from: number, size: number): Uint8Array {
    if (!this.platform.accessOk(from, size)) throw new XenError('EFAULT', 'argument outside user space');
    const bytes = new Uint8Array(size);
    process.memory.copyIn(from, bytes);
    return bytes;
  }

  assertAccess(from: number, size: number): void {
    if (!this.platform.accessOk(from, size)) throw new XenError('EFAULT', 'range outside user space');
  }

  /** Every call that names a domain comes through here. */
  assertDomain(domid: number): void {
    if (this.domid !== UNRESTRICTED && this.domid !== domid) {
      throw new XenError('EPERM', `file is restricted to domain ${this.domid}, call is for ${domid}`);
    }
  }

  private restrict(arg: number, process: Process): number {
    const domid = decode(u16, this.copyIn(process, arg, u16.size));
    if (this.domid !== UNRESTRICTED && this.domid !== domid) {
      throw new XenError('EINVAL', `file is restricted to domain ${this.domid} already`);
    }
    this.domid = domid;
    return 0;
  }

  private hypercall(arg: number, process: Process): Operation {
    if (this.domid !== UNRESTRICTED) throw new XenError('EPERM', 'file is restricted: no plain hypercalls');
    const call = decode(privcmd_hypercall, this.copyIn(process, arg, privcmd_hypercall.size));
    return this.hypercalls.hypercall(Number(BigInt.asUintN(32, call.op)), call.arg, process.hypercallMemory);
  }

  /** The audit: count, each size, each whole range in user space, then writable; never what is in the buffers. */
  private dmOp(arg: number, process: Process): number | Operation {
    this.assertAccess(arg, privcmd_dm_op.size);
    process.memory.copyIn(arg, ARGUMENT);
    const domid = ARGUMENT_VIEW.getUint16(DOM_AT, true);
    const num = ARGUMENT_VIEW.getUint16(NUM_AT, true);
    this.assertDomain(domid);
    if (num === 0) return 0;
    if (num > this.limits.dmOpMaxNrBufs) {
      throw new XenError('E2BIG', `${num} buffers, at most ${this.limits.dmOpMaxNrBufs} pass privcmd`);
    }
    const ubufs = address.read(ARGUMENT_VIEW, UBUFS_AT);
    if (num === 1) {
      this.assertAccess(ubufs, ONE_BUFFER.length);
      process.memory.copyIn(ubufs, ONE_BUFFER);
      return this.hypercalls.dmOp(domid, this.auditBuffers(ONE_BUFFER_VIEW, num, process));
    }
    const list = this.copyIn(process, ubufs, num * privcmd_dm_op_buf.size);
    return this.hypercalls.dmOp(domid, this.auditBuffers(new DataView(list.buffer), num, process));
  }

  private auditBuffers(view: DataView, num: number, process: Process): UserBuffer[] {
    const buffers: UserBuffer[] = [];
    for (let i = 0; i < num; i++) {
      const uptr = address.read(view, i * privcmd_dm_op_buf.size);
      const size = address.read(view, i * privcmd_dm_op_buf.size + 8);
      if (size > this.limits.dmOpBufMaxSize) {
        throw new XenError('E2BIG', `buffer ${i} has ${size} bytes, at most ${this.limits.dmOpBufMaxSize} pass`);
      }
      if (!this.platform.accessOk(uptr, size)) throw new XenError('EFAULT', `buffer ${i} is not in user space`);
      buffers.push(new UserBuffer(process.memory, uptr, size));
    }
    for (const { address, size } of buffers) {
      // Linux counts the pages to pin, and takes none at all for a failure.
      if (size === 0 && address % PAGE_SIZE === 0) throw new XenError('EFAULT', 'empty buffer at the start of a page');
      process.memory.pinForWrite(address, size);
    }
    return buffers;
  }
}
