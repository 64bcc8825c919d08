/**
 * What a new domain may be: the checks of createdomain, in Xen's order, and the making of it.
 *
 * The configuration comes from a toolstack and is checked whole before anything exists.
 *
 * @spec xen:common/domain.c sanitise_domain_config, xen:arch/x86/domain.c arch_sanitise_domain_config,
 *   emulation_flags_ok, xen:common/grant_table.c grant_table_init; HVM only with nested paging, as where Xen is built
 *   without shadow paging
 */
import type { TypeOf } from '../abi/layout.js';
import {
  XEN_DOMCTL_CDF_hap,
  XEN_DOMCTL_CDF_hvm,
  XEN_DOMCTL_CDF_iommu,
  XEN_DOMCTL_CDF_nested_virt,
  XEN_DOMCTL_CDF_oos_off,
  XEN_DOMCTL_CDF_s3_integrity,
  XEN_DOMCTL_CDF_vpmu,
  XEN_DOMCTL_CDF_xs_domain,
  XEN_DOMCTL_GRANT_version_mask,
  XEN_X86_EMU_ALL,
  XEN_X86_EMU_LAPIC,
  XEN_X86_EMU_PIT,
  XEN_X86_EMU_VPCI,
  XEN_X86_MSR_RELAXED,
  type xen_domctl_createdomain,
} from '../abi/xen/domctl.js';
import { XenError } from '../boundary/xen-error.js';

export type CreateDomainConfig = TypeOf<typeof xen_domctl_createdomain>;

/** @spec xen:asm-x86/hvm/domain.h HVM_MAX_VCPUS, xen:asm-x86/config.h MAX_VIRT_CPUS */
const HVM_MAX_VCPUS = 128;
const PV_MAX_VCPUS = 8192;

const KNOWN_FLAGS =
  XEN_DOMCTL_CDF_hvm |
  XEN_DOMCTL_CDF_hap |
  XEN_DOMCTL_CDF_s3_integrity |
  XEN_DOMCTL_CDF_oos_off |
  XEN_DOMCTL_CDF_xs_domain |
  XEN_DOMCTL_CDF_iommu |
  XEN_DOMCTL_CDF_nested_virt |
  XEN_DOMCTL_CDF_vpmu;

const GNTTAB_MAX_VERSION = 2;
const MAX_GRANT_FRAMES = 64;
const MAX_MAPTRACK_FRAMES = 1024;

function refuse(when: boolean, reason: string): void {
  if (when) throw new XenError('EINVAL', reason);
}

/** @throws XenError EINVAL, EOPNOTSUPP, ESRCH */
export function checkDomainConfig(config: CreateDomainConfig): void {
  const { flags } = config;
  const hvm = (flags & XEN_DOMCTL_CDF_hvm) !== 0;
  const hap = (flags & XEN_DOMCTL_CDF_hap) !== 0;
  refuse((flags & ~KNOWN_FLAGS) !== 0, `unknown creation flags 0x${flags.toString(16)}`);
  refuse((config.grant_opts & ~XEN_DOMCTL_GRANT_version_mask) !== 0, 'unknown grant options');
  refuse(config.max_vcpus < 1, 'no vCPUs');
  refuse(hap && !hvm, 'nested paging for a domain that is not HVM');
  refuse((flags & XEN_DOMCTL_CDF_iommu) !== 0 || config.iommu_opts !== 0, 'there is no IOMMU');
  refuse(config.vmtrace_size !== 0, 'there is no tracing of vCPUs');
  refuse((flags & XEN_DOMCTL_CDF_vpmu) !== 0, 'there is no virtual PMU');
  refuse(config.max_vcpus > (hvm ? HVM_MAX_VCPUS : PV_MAX_VCPUS), `too many vCPUs: ${config.max_vcpus}`);
  refuse((flags & XEN_DOMCTL_CDF_s3_integrity) !== 0, 'there is no measured boot');
  refuse((flags & XEN_DOMCTL_CDF_nested_virt) !== 0 && !hap, 'nested virtualisation needs nested paging');
  refuse((config.arch.misc_flags & ~XEN_X86_MSR_RELAXED) !== 0, 'unknown architecture flags');
  checkEmulationFlags(config.arch.emulation_flags, hvm);
  if (hvm && !hap) throw new XenError('EOPNOTSUPP', 'there is no shadow paging');
  checkGrantLimits(config);
  if (config.cpupool_id !== 0) throw new XenError('ESRCH', `no CPU pool ${config.cpupool_id}`);
}

function checkEmulationFlags(flags: number, hvm: boolean): void {
  refuse((flags & ~XEN_X86_EMU_ALL) !== 0, `unknown emulated devices 0x${flags.toString(16)}`);
  const possible = hvm ? [XEN_X86_EMU_ALL & ~XEN_X86_EMU_VPCI, XEN_X86_EMU_LAPIC] : [0, XEN_X86_EMU_PIT];
  if (!possible.includes(flags)) {
    throw new XenError('EOPNOTSUPP', `emulated devices 0x${flags.toString(16)} for ${hvm ? 'an HVM' : 'a PV'} domain`);
  }
}

function checkGrantLimits(config: CreateDomainConfig): void {
  const version = config.grant_opts & XEN_DOMCTL_GRANT_version_mask;
  refuse(version < 1 || version > GNTTAB_MAX_VERSION, `no grant table version ${version}`);
  // Negative frame counts ask for the maximum.
  refuse(config.max_grant_frames === 0 || config.max_grant_frames > MAX_GRANT_FRAMES, 'bad number of grant frames');
  refuse(config.max_maptrack_frames > MAX_MAPTRACK_FRAMES, 'too many maptrack frames');
}
