/**
 * Other domains as a daemon in dom0 sees them, through the device files of a host: which there are, and their memory.
 * What lies in their memory is theirs to change at any time; the host is trusted, as a kernel is.
 */
import { ERRNO } from '../../abi/errno.js';
import { PAGE_SIZE } from '../../abi/ids.js';
import { encode } from '../../abi/layout.js';
import {
  IOCTL_PRIVCMD_HYPERCALL,
  IOCTL_PRIVCMD_MMAPBATCH_V2,
  privcmd_hypercall,
  privcmd_mmapbatch_v2,
} from '../../abi/linux/privcmd.js';
import {
  XEN_DOMCTL,
  XEN_DOMCTL_INTERFACE_VERSION,
  XEN_DOMINF_dying,
  XEN_DOMINF_shutdown,
  xen_domctl,
  xen_domctl_getdomaininfo,
} from '../../abi/xen/domctl.js';
import { HYPERVISOR } from '../../abi/xen/xen.js';
import { XenError } from '../../boundary/xen-error.js';
import {
  checked,
  libc,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  MAP_SHARED,
  mapShared,
  nativeView,
  PROT_READ,
  PROT_WRITE,
} from '../../host/libc.js';
import { POSTERN_AREA_FRESH, POSTERN_IOCTL, POSTERN_MMAP } from '../../host/protocol.js';
import type { MappedPage } from '../../host/xenstore-rings.js';
import { blockAddress, type HostClient } from '../../sdk/host-client.js';
import { XenDeviceError } from '../../sdk/xen-devices.js';

const MAP_FIXED = 0x10;
const INFO = xen_domctl_getdomaininfo.fields;
const INFO_AT = xen_domctl.fields.u.offset;

export type DomainState = 'running' | 'shutdown' | 'gone';

export class HostDomains {
  private readonly privcmd: number;
  private readonly buffers: number;
  /** One page for hypercalls' arguments, where the host can follow pointers. */
  private readonly argument: ReturnType<typeof mapShared>;
  private readonly argumentAt: number;

  constructor(private readonly client: HostClient) {
    this.privcmd = client.open('privcmd');
    this.buffers = client.open('hypercall');
    this.argumentAt = reserve();
    const call = { kind: POSTERN_MMAP, name: 'mmap', arg: this.argumentAt, cmd: 1 };
    const { files } = client.transact(this.buffers, call);
    this.argument = mapShared(files[0] as number, PAGE_SIZE);
    for (const fd of files) libc.close(fd);
  }

  state(domid: number): DomainState {
    const { bytes, view } = this.argument;
    bytes.fill(0);
    xen_domctl.fields.cmd.set(view, 0, XEN_DOMCTL.getdomaininfo);
    xen_domctl.fields.interface_version.set(view, 0, XEN_DOMCTL_INTERFACE_VERSION);
    xen_domctl.fields.domain.set(view, 0, domid);
    try {
      this.hypercall(HYPERVISOR.domctl);
    } catch (error) {
      if (error instanceof XenDeviceError && error.errno === ERRNO.ESRCH) return 'gone';
      throw error;
    }
    if (INFO.domain.get(view, INFO_AT) !== domid) return 'gone'; // the answer is for the next one that there is
    const flags = INFO.flags.get(view, INFO_AT);
    if (flags & XEN_DOMINF_dying) return 'gone';
    return flags & XEN_DOMINF_shutdown ? 'shutdown' : 'running';
  }

  /** Maps one page of a domain's. @throws XenError */
  map(domid: number, gfn: number): MappedPage {
    const at = reserve();
    try {
      this.mapAt(at, domid, gfn);
    } catch (error) {
      libc.munmap(at, PAGE_SIZE);
      throw asXenError(error);
    }
    return {
      bytes: nativeView(at, PAGE_SIZE),
      unmap: () => {
        libc.munmap(at, PAGE_SIZE);
        try {
          this.client.unmapped(at, 1);
        } catch (error) {
          if (!(error instanceof XenDeviceError)) throw error; // the host has gone, and the domain with it
        }
      },
    };
  }

  close(): void {
    this.argument.unmap();
    libc.munmap(this.argumentAt, PAGE_SIZE);
    libc.close(this.buffers);
    libc.close(this.privcmd);
  }

  private mapAt(at: number, domid: number, gfn: number): void {
    const errors = new Int32Array(1);
    const batch = { num: 1, dom: domid, addr: at, arr: blockAddress(1), err: blockAddress(2) };
    const { runs, files } = this.client.transact(this.privcmd, {
      kind: POSTERN_IOCTL,
      name: `map page ${gfn} of domain ${domid}`,
      cmd: IOCTL_PRIVCMD_MMAPBATCH_V2,
      arg: blockAddress(0),
      flags: POSTERN_AREA_FRESH,
      blocks: [
        { bytes: encode(privcmd_mmapbatch_v2, batch) },
        { bytes: new Uint8Array(BigUint64Array.of(BigInt(gfn)).buffer) },
        { bytes: new Uint8Array(errors.buffer), writable: true, data: false },
      ],
    });
    try {
      const [run] = runs;
      if (!run) throw new XenError('EINVAL', `domain ${domid} has no page ${gfn}`);
      const file = files[run.file] as number;
      const flags = MAP_SHARED | MAP_FIXED;
      checked('mmap', libc.mmap(at, PAGE_SIZE, PROT_READ | PROT_WRITE, flags, file, run.frame * PAGE_SIZE));
    } finally {
      for (const fd of files) libc.close(fd);
    }
  }

  private hypercall(op: number): void {
    const arg = [BigInt(this.argumentAt), 0n, 0n, 0n, 0n];
    const bytes = encode(privcmd_hypercall, { op: BigInt(op), arg });
    const call = { kind: POSTERN_IOCTL, name: 'hypercall', cmd: IOCTL_PRIVCMD_HYPERCALL, arg: blockAddress(0) };
    this.client.transact(this.privcmd, { ...call, blocks: [{ bytes }] });
  }
}

/** A page of address space with nothing in it: the host keeps what a process has mapped by its address. */
function reserve(): number {
  return checked('mmap', libc.mmap(0, PAGE_SIZE, 0, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

/** What the host refused, for whoever asked for it. */
export function asXenError(error: unknown): unknown {
  if (!(error instanceof XenDeviceError)) return error;
  return new XenError(error.errno === ERRNO.ESRCH ? 'ESRCH' : 'EINVAL', error.message);
}
