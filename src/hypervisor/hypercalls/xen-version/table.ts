/**
 * The version hypercall. This host speaks the interface of Xen 4.17, and says so.
 * @spec xen:common/kernel.c do_xen_version
 */

import { PAGE_SIZE } from '../../../abi/ids.js';
import {
  XEN_CAPABILITIES_INFO_LEN,
  XEN_CHANGESET_INFO_LEN,
  XEN_COMMANDLINE_LEN,
  XEN_EXTRAVERSION_LEN,
  XENFEAT,
  XENVER,
  xen_compile_info,
  xen_feature_info,
  xen_platform_parameters,
} from '../../../abi/xen/xen-version.js';
import { XenError } from '../../../boundary/xen-error.js';
import type { Domain } from '../../domain.js';
import type { Call } from '../call.js';
import { argument, readGuest, u32Argument, writeGuest } from '../guest-struct.js';
import { type Implemented, implementation, operationTable } from '../operation-table.js';

type VersionOperation = (call: Call, address: bigint) => number;

export const MAJOR = 4;
export const MINOR = 17;
export const EXTRAVERSION = '.0-postern';
const CAPABILITIES = 'xen-3.0-x86_64 hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ';
/** Where the hypervisor's half of a 64-bit PV guest's addresses begins. */
const HYPERVISOR_VIRT_START = 0xffff800000000000n;

function supported(name: string, run: VersionOperation): Implemented<VersionOperation> {
  return { name, status: 'supported', run };
}

/** Writes a fixed-size, zero-padded string. */
function text(name: string, size: number, value: string): Implemented<VersionOperation> {
  return supported(name, (call, address) => {
    call.memory.copyTo(address, ascii(value, size));
    return 0;
  });
}

function ascii(value: string, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let i = 0; i < Math.min(value.length, size - 1); i++) bytes[i] = value.charCodeAt(i);
  return bytes;
}

const version = supported('version', () => MAJOR * 0x10000 + MINOR);

const compile_info = supported('compile_info', (call, address) => {
  const { compiler, compile_by, compile_domain, compile_date } = xen_compile_info.fields;
  writeGuest(call.memory, address, xen_compile_info, {
    compiler: ascii('TypeScript', compiler.layout.size),
    compile_by: ascii('postern', compile_by.layout.size),
    compile_domain: ascii('', compile_domain.layout.size),
    compile_date: ascii('', compile_date.layout.size),
  });
  return 0;
});

const platform_parameters = supported('platform_parameters', (call, address) => {
  writeGuest(call.memory, address, xen_platform_parameters, { virt_start: HYPERVISOR_VIRT_START });
  return 0;
});

const get_features = supported('get_features', (call, address) => {
  const query = readGuest(call.memory, address, xen_feature_info);
  if (query.submap_idx !== 0) throw new XenError('EINVAL', `no features ${query.submap_idx}`);
  query.submap = features(call.caller);
  writeGuest(call.memory, address, xen_feature_info, query);
  return 0;
});

function features(domain: Domain): number {
  const bits: number[] = [XENFEAT.memory_op_vnode_supported];
  if (domain.kind === 'control') bits.push(XENFEAT.dom0, XENFEAT.pae_pgdir_above_4gb);
  if (domain.kind === 'hvm') {
    bits.push(XENFEAT.writable_page_tables, XENFEAT.auto_translated_physmap, XENFEAT.not_direct_mapped);
    bits.push(XENFEAT.hvm_safe_pvclock, XENFEAT.hvm_callback_vector);
  } else {
    bits.push(XENFEAT.mmu_pt_update_preserve_ad, XENFEAT.highmem_assist, XENFEAT.gnttab_map_avail_bits);
    bits.push(XENFEAT.direct_mapped);
  }
  return bits.reduce((submap, bit) => submap | (1 << bit), 0);
}

const pagesize = supported('pagesize', (_call, address) => {
  if (address !== 0n) throw new XenError('EINVAL', 'the page size has no argument');
  return PAGE_SIZE;
});

const guest_handle = supported('guest_handle', (call, address) => {
  call.memory.copyTo(address, call.caller.handle);
  return 0;
});

export const versionOperations = operationTable<VersionOperation>(
  XENVER,
  [
    version,
    text('extraversion', XEN_EXTRAVERSION_LEN, EXTRAVERSION),
    compile_info,
    text('capabilities', XEN_CAPABILITIES_INFO_LEN, CAPABILITIES),
    text('changeset', XEN_CHANGESET_INFO_LEN, 'unavailable'),
    platform_parameters,
    get_features,
    pagesize,
    guest_handle,
    text('commandline', XEN_COMMANDLINE_LEN, ''),
  ],
  { errno: 'ENODATA', note: 'the host has no build id' },
);

export function xen_version(call: Call, args: readonly bigint[]): number {
  const operation = implementation(versionOperations, u32Argument(args, 0), 'xen_version', 'ENOSYS');
  call.name = `xen_version/${operation.name}`;
  return operation.run(call, argument(args, 1));
}
