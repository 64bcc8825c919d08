/**
 * privcmd's mapping calls: frames of another domain into an area the process has mmapped from privcmd before. Each
 * names one domain, which the restriction is checked against, and learns of nothing else.
 *
 * @spec linux:drivers/xen/privcmd.c privcmd_ioctl_mmap, _mmap_batch, _mmap_resource
 */
import { ERRNO, errnoName } from '../abi/errno.js';
import { PAGE_SIZE } from '../abi/ids.js';
import { address, decode, u64 } from '../abi/layout.js';
import {
  PRIVCMD_MMAPBATCH_MFN_ERROR,
  PRIVCMD_MMAPBATCH_PAGED_ERROR,
  privcmd_mmap,
  privcmd_mmap_entry,
  privcmd_mmap_resource,
  privcmd_mmapbatch,
  privcmd_mmapbatch_v2,
} from '../abi/linux/privcmd.js';
import type { Mapping } from '../boundary/extent.js';
import { XenError } from '../boundary/xen-error.js';
import type { PrivcmdFile } from './privcmd.js';
import type { Process } from './process.js';

/** The most frames one call may name, so that none holds the host for long; the library splits longer batches. */
const MAX_FRAMES = 1 << 14;

/** PRIVCMD_MMAP: runs of frames, adjacent in the area; all or nothing, as far as it got. */
export function mmap(file: PrivcmdFile, arg: number, process: Process): number {
  const call = decode(privcmd_mmap, file.copyIn(process, arg, privcmd_mmap.size));
  file.assertDomain(call.dom);
  if (call.num <= 0) return 0;
  const entries = readEntries(file, process, call.entry, call.num);
  const first = entries[0] as (typeof entries)[0];
  const nrPages = entries.reduce((sum, entry) => sum + entry.npages, 0);
  if (nrPages > MAX_FRAMES) throw new XenError('EINVAL', `${nrPages} pages in one call`);
  const state = process.addressSpace.area(first.va, nrPages);
  if (state !== 'fresh' && state !== 'fresh-part') throw new XenError('EINVAL', `area at ${first.va} is ${state}`);
  let va = first.va;
  const gfns: bigint[] = [];
  for (const entry of entries) {
    if (entry.va !== va) throw new XenError('EINVAL', 'entries are not adjacent');
    for (let i = 0; i < entry.npages; i++) gfns.push(entry.mfn + BigInt(i));
    va += entry.npages * PAGE_SIZE;
  }
  const mapping = file.calls.foreignFrames(call.dom, gfns);
  process.addressSpace.mapFrames(first.va, mapping);
  const error = mapping.errors[0];
  if (error) throw new XenError(errnoCode(error.errno), `frame ${gfns[error.page]} cannot be mapped`);
  return 0;
}

function readEntries(file: PrivcmdFile, process: Process, from: number, num: number) {
  if (num > MAX_FRAMES) throw new XenError('ENOMEM', `${num} entries in one call`);
  const bytes = file.copyIn(process, from, num * privcmd_mmap_entry.size);
  const view = new DataView(bytes.buffer);
  return Array.from({ length: num }, (_, i) => privcmd_mmap_entry.read(view, i * privcmd_mmap_entry.size));
}

/** PRIVCMD_MMAPBATCH: errors come back in the frame numbers' own top nibble. */
export function mmapBatchV1(file: PrivcmdFile, arg: number, process: Process): number {
  const call = decode(privcmd_mmapbatch, file.copyIn(process, arg, privcmd_mmapbatch.size));
  // The count is signed and the size is not: a negative count is more than any user space.
  file.assertAccess(call.arr, Number(BigInt.asUintN(64, BigInt(call.num) * BigInt(u64.size))));
  const { mapping, gfns } = mapBatch(file, process, call);
  if (mapping.errors.length > 0) {
    const marked = new BigUint64Array(gfns);
    for (const error of mapping.errors) {
      const nibble = error.errno === ERRNO.ENOENT ? PRIVCMD_MMAPBATCH_PAGED_ERROR : PRIVCMD_MMAPBATCH_MFN_ERROR;
      for (let i = error.page; i < error.page + error.nrPages; i++) marked[i] = (marked[i] as bigint) | BigInt(nibble);
    }
    process.memory.copyOut(call.arr, new Uint8Array(marked.buffer));
  }
  return batchResult(mapping);
}

/** PRIVCMD_MMAPBATCH_V2: one errno a page in an array of its own, zero where the page was mapped. */
export function mmapBatchV2(file: PrivcmdFile, arg: number, process: Process): number {
  const call = decode(privcmd_mmapbatch_v2, file.copyIn(process, arg, privcmd_mmapbatch_v2.size));
  file.assertAccess(call.err, call.num * 4);
  const { mapping } = mapBatch(file, process, call, () => {
    process.memory.copyOut(call.err, new Uint8Array(call.num * 4));
  });
  if (mapping.errors.length > 0) {
    const values = new Int32Array(call.num);
    for (const error of mapping.errors) values.fill(-error.errno, error.page, error.page + error.nrPages);
    process.memory.copyOut(call.err, new Uint8Array(values.buffer));
  }
  return batchResult(mapping);
}

interface BatchCall {
  readonly num: number;
  readonly dom: number;
  readonly addr: number;
  readonly arr: number;
}

function mapBatch(file: PrivcmdFile, process: Process, call: BatchCall, clearErrors?: () => void) {
  file.assertDomain(call.dom);
  if (call.num <= 0) throw new XenError('EINVAL', 'no frames named');
  if (call.num > MAX_FRAMES) throw new XenError('ENOMEM', `${call.num} frames in one call`);
  const gfns = readFrames(file, process, call.arr, call.num);
  clearErrors?.();
  const state = process.addressSpace.area(call.addr, call.num);
  if (state !== 'fresh' && state !== 'hole') {
    throw new XenError('EINVAL', `${call.num} pages at ${call.addr}: area is ${state}`);
  }
  const mapping = batchFrames(file, call.dom, gfns);
  process.addressSpace.mapFrames(call.addr, mapping);
  return { mapping, gfns };
}

/** A domain that does not exist fails page by page here, as the hypervisor refuses each of its frames. */
function batchFrames(file: PrivcmdFile, domid: number, gfns: readonly bigint[]): Mapping {
  try {
    return file.calls.foreignFrames(domid, gfns);
  } catch (error) {
    if (!(error instanceof XenError)) throw error;
    return { runs: [], errors: [{ page: 0, nrPages: gfns.length, errno: error.errno }], release() {} };
  }
}

function readFrames(file: PrivcmdFile, process: Process, from: number, num: number): bigint[] {
  const bytes = file.copyIn(process, from, num * u64.size);
  return Array.from(new BigUint64Array(bytes.buffer));
}

/** Errors of single pages are the caller's to look up; only paged-out frames fail the call as a whole. */
function batchResult(mapping: Mapping): number {
  if (mapping.errors.some((error) => error.errno === ERRNO.ENOENT)) {
    throw new XenError('ENOENT', 'some frames are paged out');
  }
  return 0;
}

/** PRIVCMD_MMAP_RESOURCE: with neither address nor count it asks for the resource's size. */
export function mmapResource(file: PrivcmdFile, arg: number, process: Process): number {
  const call = decode(privcmd_mmap_resource, file.copyIn(process, arg, privcmd_mmap_resource.size));
  file.assertDomain(call.dom);
  if ((call.addr === 0) !== (call.num === 0)) throw new XenError('EINVAL', 'address without count, or the reverse');
  if (call.addr === 0) {
    const size = new Uint8Array(address.size);
    address.write(new DataView(size.buffer), 0, file.calls.resourceSize(call.dom, call.type, call.id));
    process.memory.copyOut(arg + privcmd_mmap_resource.fields.num.offset, size);
    return 0;
  }
  if (call.num > MAX_FRAMES) throw new XenError('ENOMEM', `${call.num} frames in one call`);
  if (process.addressSpace.area(call.addr, call.num) === 'none') {
    throw new XenError('EINVAL', `no privcmd area at ${call.addr}`);
  }
  const mapping = file.calls.resourceFrames(call.dom, call.type, call.id, BigInt(call.idx), call.num);
  process.addressSpace.mapFrames(call.addr, mapping);
  return 0;
}

function errnoCode(errno: number): keyof typeof ERRNO {
  return errnoName(errno) as keyof typeof ERRNO;
}
