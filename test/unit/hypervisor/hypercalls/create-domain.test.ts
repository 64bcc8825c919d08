/** createdomain and what a toolstack does next: rows measured on real Xen 4.17. */
import { describe, expect, test } from 'vitest';
import * as D from '../../../../dist/abi/xen/domctl.js';
import { Toolstack } from '../../../support/toolstack.js';

const HVM = D.XEN_DOMCTL_CDF_hvm | D.XEN_DOMCTL_CDF_hap;
const EMU = D.XEN_X86_EMU_ALL & ~D.XEN_X86_EMU_VPCI;

function emulate(emulation_flags: number): object {
  return { emulation_flags, misc_flags: 0 };
}

describe('what createdomain refuses', () => {
  const xen = new Toolstack();
  xen.hvm();
  test.each<[string, object, string]>([
    ['no vCPUs', { max_vcpus: 0 }, 'EINVAL'],
    ['129 vCPUs', { max_vcpus: 129 }, 'EINVAL'],
    ['unknown flag 1<<8', { flags: HVM | (1 << 8) }, 'EINVAL'],
    ['HAP for PV', { flags: D.XEN_DOMCTL_CDF_hap, arch: emulate(0) }, 'EINVAL'],
    ['an IOMMU', { flags: HVM | D.XEN_DOMCTL_CDF_iommu }, 'EINVAL'],
    ['IOMMU options', { iommu_opts: 1 }, 'EINVAL'],
    ['nested virtualisation without HAP', { flags: D.XEN_DOMCTL_CDF_hvm | D.XEN_DOMCTL_CDF_nested_virt }, 'EINVAL'],
    ['a vPMU', { flags: HVM | D.XEN_DOMCTL_CDF_vpmu }, 'EINVAL'],
    ['S3 integrity', { flags: HVM | D.XEN_DOMCTL_CDF_s3_integrity }, 'EINVAL'],
    ['emulated device 1<<11', { arch: emulate(EMU | (1 << 11)) }, 'EINVAL'],
    ['vPCI', { arch: emulate(D.XEN_X86_EMU_ALL) }, 'EOPNOTSUPP'],
    ['bad emulation flags', { arch: emulate(2) }, 'EOPNOTSUPP'],
    ['HVM without HAP', { flags: D.XEN_DOMCTL_CDF_hvm }, 'EOPNOTSUPP'],
    ['emulated devices for PV', { flags: 0 }, 'EOPNOTSUPP'],
    ['grant version 0', { grant_opts: 0 }, 'EINVAL'],
    ['grant version 3', { grant_opts: 3 }, 'EINVAL'],
    ['grant options 0x10', { grant_opts: 0x12 }, 'EINVAL'],
    ['65 grant frames', { max_grant_frames: 65 }, 'EINVAL'],
    ['0 grant frames', { max_grant_frames: 0 }, 'EINVAL'],
    ['1025 maptrack frames', { max_maptrack_frames: 1025 }, 'EINVAL'],
    ['CPU pool 5', { cpupool_id: 5 }, 'ESRCH'],
    ['a trace buffer', { vmtrace_size: 4096 }, 'EINVAL'],
    ['unknown architecture flags', { arch: { emulation_flags: EMU, misc_flags: 2 } }, 'EINVAL'],
  ])('%s', (_, change, verdict) => {
    const domains = xen.hypervisor.domains.count;
    expect(xen.create(change).result).toBe(verdict);
    expect(xen.hypervisor.domains.count).toBe(domains);
  });
  test('a domid that exists', () => {
    expect(xen.create({}, 1).result).toBe('EEXIST');
  });
});

test.each<[string, object]>([
  ['HVM', {}],
  ['PVH: LAPIC only', { arch: emulate(D.XEN_X86_EMU_LAPIC) }],
  ['PV', { flags: 0, arch: emulate(0) }],
  ['PV with a PIT', { flags: 0, arch: emulate(D.XEN_X86_EMU_PIT) }],
  ['default limits', { max_grant_frames: -1, max_maptrack_frames: -1 }],
  ['128 vCPUs', { max_vcpus: 128 }],
])('createdomain makes %s', (_, change) => {
  expect(new Toolstack().create(change)).toMatchObject({ result: 0, domid: 1 });
});

describe('domids', () => {
  test('a failed creation uses one up, a chosen one does not move the search', () => {
    const xen = new Toolstack();
    expect(xen.create().domid).toBe(1);
    expect(xen.create({ max_vcpus: 0 }).result).toBe('EINVAL');
    expect(xen.create({}, 500).domid).toBe(500);
    expect(xen.create().domid).toBe(3);
    expect(xen.destroy(3)).toBe(0);
    expect(xen.create().domid).toBe(4);
  });

  test('they come round again, and run out', () => {
    const xen = new Toolstack();
    xen.create({}, 0x7fef);
    for (let domid = 1; domid < 0x7fef; domid++) xen.hypervisor.domains.chooseDomid(0);
    expect(xen.create({}, 0).domid).toBe(1);
    expect(xen.create({}, 0x7ff0).domid).toBe(2);
  });
});

describe('the life of a domain', () => {
  const xen = new Toolstack();
  const domid = xen.create({ max_vcpus: 2 }).domid;

  test('it starts paused, without pages or vCPUs', () => {
    expect(xen.info(domid)).toMatchObject({
      result: 0,
      domain: domid,
      flags: 0xffff010a,
      tot_pages: 0n,
      max_pages: 0n,
      shared_info_frame: 0xffffffffffffffffn,
      nr_online_vcpus: 0,
      max_vcpu_id: 0xffffffff,
      gpaddr_bits: 40,
      arch_config: { emulation_flags: 0x3ff, misc_flags: 0 },
    });
  });

  test.each<[string, () => unknown, unknown]>([
    ['max_vcpus 1 of 2', () => xen.maxVcpus(domid, 1), 'EINVAL'],
    ['max_vcpus 3 of 2', () => xen.maxVcpus(domid, 3), 'EINVAL'],
    ['log-dirty without vCPUs', () => shadow(2), 'EINVAL'],
    ['max_vcpus', () => xen.maxVcpus(domid, 2), 0],
    ['max_vcpus again', () => xen.maxVcpus(domid, 2), 0],
    ['max_vcpu_id', () => xen.info(domid).max_vcpu_id, 1],
    ['paging pool of 4 MiB + 1', () => pool(4194305n), 'EINVAL'],
    ['paging pool of 16 TiB', () => pool(1n << 44n), 'EINVAL'],
    ['paging pool of 4 MiB', () => pool(4194304n), 0],
    ['unpause', () => xen.unpause(domid), 0],
    ['it isn’t paused any more', () => xen.info(domid).flags, 0xffff0102],
    ['unpause again', () => xen.unpause(domid), 'EINVAL'],
    ['pause', () => xen.pause(domid), 0],
    ['pause dom0', () => xen.pause(0), 'EINVAL'],
    ['destroy dom0', () => xen.destroy(0), 'EINVAL'],
    ['pause 999', () => xen.pause(999), 'ESRCH'],
    ['max_vcpus of dom0', () => xen.maxVcpus(0, 1), 'EINVAL'],
    ['destroy', () => xen.destroy(domid), 0],
    ['destroy again', () => xen.destroy(domid), 'ESRCH'],
    ['info from a domid without domains after it', () => xen.info(600).result, 'ESRCH'],
    ['info from a reserved domid', () => xen.info(0x7ff0).result, 'EINVAL'],
  ])('%s', (_, action, expected) => {
    expect(action()).toBe(expected);
  });

  function shadow(op: number): unknown {
    return xen.domctl(D.XEN_DOMCTL.shadow_op, domid, D.xen_domctl_shadow_op, { op }).result;
  }
  function pool(size: bigint): unknown {
    return xen.domctl(D.XEN_DOMCTL.set_paging_mempool_size, domid, D.xen_domctl_paging_mempool, { size }).result;
  }

  test('255 pauses and no more', () => {
    const other = xen.create().domid;
    const results = Array.from({ length: 256 }, () => xen.pause(other));
    expect(results.filter((r) => r === 0)).toHaveLength(254);
    expect(results[254]).toBe('EOVERFLOW');
  });
});

test('a domctl of another interface version is refused', () => {
  const xen = new Toolstack();
  const { result } = xen.withStruct(36, [], D.xen_domctl, { cmd: 5, interface_version: 0x14 });
  expect(result).toBe('EACCES');
});

test('only the control domain has domctls', () => {
  const xen = new Toolstack();
  const domid = xen.hvm();
  xen.caller = xen.domain(domid);
  expect(xen.pause(domid)).toBe('EPERM');
  expect(xen.create().result).toBe('EPERM');
  expect(xen.info(0).result).toBe('EPERM');
});
