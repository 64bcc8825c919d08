/**
 * XENMEM_acquire_resource: the frames of a resource of another domain, or how many there are. The control domain is PV:
 * it gets mfns, which its kernel maps.
 * @spec xen:common/memory.c acquire_resource
 */
import { MEMOP_EXTENT_SHIFT, xen_mem_acquire_resource } from '../../../abi/xen/memory.js';
import { XenError } from '../../../boundary/xen-error.js';
import { acquireResource, resourceMaxFrames } from '../../resources.js';
import { GuestArray } from '../guest-array.js';
import { readGuest, writeGuestField } from '../guest-struct.js';
import type { Implemented } from '../operation-table.js';
import type { MemoryOperation } from './memory-operation.js';

export const acquire_resource: Implemented<MemoryOperation> = {
  name: 'acquire_resource',
  status: 'partial',
  note: 'ioreq servers only, by the control domain only',
  run(call, address, start) {
    if (call.caller.kind === 'hvm') throw new XenError('EACCES', 'resources of others in an HVM physmap');
    const wanted = readGuest(call.memory, address, xen_mem_acquire_resource);
    if (wanted.pad !== 0) throw new XenError('EINVAL', 'padding set');
    if ((wanted.frame + BigInt(wanted.nr_frames)) >> 32n !== 0n) {
      throw new XenError('EINVAL', `frame ${wanted.frame} of a resource`);
    }
    const domain = call.hypervisor.resourceOwner(call.caller, wanted.domid);
    const maxFrames = resourceMaxFrames(domain, wanted.type);
    if (wanted.frame_list === 0n) {
      if (wanted.nr_frames !== 0 || start !== 0) throw new XenError('EINVAL', 'no list for the frames');
      writeGuestField(call.memory, address, xen_mem_acquire_resource.fields.nr_frames, maxFrames);
      return 0;
    }
    if (start >= wanted.nr_frames || wanted.nr_frames > 0xffffffff >>> MEMOP_EXTENT_SHIFT) {
      throw new XenError('EINVAL', `${wanted.nr_frames} frames from ${start} on`);
    }
    const first = wanted.frame + BigInt(start);
    const mfns = acquireResource(call.caller, domain, wanted.type, wanted.id, first, wanted.nr_frames - start);
    const list = new GuestArray(call.memory, wanted.frame_list, wanted.nr_frames);
    for (const [i, mfn] of mfns.entries()) list.write(start + i, BigInt(mfn));
    return 0;
  },
};
