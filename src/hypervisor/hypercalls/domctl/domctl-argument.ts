/**
 * The argument of a domctl: one copy of the caller's struct, changed here and copied back where the operation has
 * something to say.
 */
import { encode, type Layout } from '../../../abi/layout.js';
import { xen_domctl } from '../../../abi/xen/domctl.js';
import type { GuestMemory } from '../../../boundary/guest-buffer.js';

const ARGUMENT_OFFSET = xen_domctl.fields.u.offset;

export class DomctlArgument {
  private readonly bytes = new Uint8Array(xen_domctl.size);
  private readonly view = new DataView(this.bytes.buffer);

  /** @throws XenError EFAULT */
  constructor(
    private readonly memory: GuestMemory,
    private readonly address: bigint,
  ) {
    memory.copyFrom(address, this.bytes);
  }

  get cmd(): number {
    return xen_domctl.fields.cmd.get(this.view, 0);
  }

  get interfaceVersion(): number {
    return xen_domctl.fields.interface_version.get(this.view, 0);
  }

  get domid(): number {
    return xen_domctl.fields.domain.get(this.view, 0);
  }

  set domid(domid: number) {
    xen_domctl.fields.domain.set(this.view, 0, domid);
  }

  /** The member of the union that the operation is about. */
  read<T>(layout: Layout<T>): T {
    return layout.read(this.view, ARGUMENT_OFFSET);
  }

  write<T>(layout: Layout<T>, value: T): void {
    this.bytes.set(encode(layout, value), ARGUMENT_OFFSET);
  }

  /** @throws XenError EFAULT */
  copyBack(): void {
    this.memory.copyTo(this.address, this.bytes);
  }
}
