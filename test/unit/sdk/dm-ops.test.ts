/** Every device-model operation: what the SDK puts into the buffers, compared through the real layouts. */
import { describe, expect, it } from 'vitest';
import { ERRNO } from '../../../dist/abi/errno.js';
import { decode } from '../../../dist/abi/layout.js';
import * as dm from '../../../dist/abi/xen/dm-op.js';
import { DmOps } from '../../../dist/sdk/dm-ops.js';
import { XenDeviceError } from '../../../dist/sdk/xen-devices.js';
import { FakeXen } from './fake-xen.js';

const range = { id: 3, pad: 0, type: 1, start: 0xf0000000n, end: 0xf0000fffn };
const noPad = { pad: [0, 0, 0] };

// operation, how the SDK is asked, the layout, what must be in it
const TABLE: [string, (ops: DmOps) => unknown, { read(v: DataView, o: number): unknown }, unknown][] = [
  [
    'create_ioreq_server',
    (o) => o.createIoreqServer(2),
    dm.xen_dm_op_create_ioreq_server,
    { handle_bufioreq: 2, ...noPad, id: 0 },
  ],
  [
    'get_ioreq_server_info',
    (o) => o.getIoreqServerInfo(3),
    dm.xen_dm_op_get_ioreq_server_info,
    { id: 3, flags: 1, bufioreq_port: 0, ioreq_gfn: 0n, bufioreq_gfn: 0n },
  ],
  [
    'map_io_range_to_ioreq_server',
    (o) => o.mapIoRange(3, 'memory', 0xf0000000n, 0xf0000fffn),
    dm.xen_dm_op_ioreq_server_range,
    range,
  ],
  [
    'set_ioreq_server_state',
    (o) => o.setIoreqServerState(3, true),
    dm.xen_dm_op_set_ioreq_server_state,
    { id: 3, enabled: 1, pad: 0 },
  ],
  ['destroy_ioreq_server', (o) => o.destroyIoreqServer(3), dm.xen_dm_op_destroy_ioreq_server, { id: 3, pad: 0 }],
  [
    'track_dirty_vram',
    (o) => o.trackDirtyVram(0xf0000n, 100),
    dm.xen_dm_op_track_dirty_vram,
    { nr: 100, pad: 0, first_pfn: 0xf0000n },
  ],
  [
    'set_pci_intx_level',
    (o) => o.setPciIntxLevel(2, 1, true),
    dm.xen_dm_op_set_pci_intx_level,
    { domain: 0, bus: 0, device: 2, intx: 1, level: 1 },
  ],
  ['set_isa_irq_level', (o) => o.setIsaIrqLevel(4, false), dm.xen_dm_op_set_isa_irq_level, { isa_irq: 4, level: 0 }],
  ['set_irq_level', (o) => o.setIrqLevel(40, true), dm.xen_dm_op_set_irq_level, { irq: 40, level: 1, ...noPad }],
  ['set_pci_link_route', (o) => o.setPciLinkRoute(3, 11), dm.xen_dm_op_set_pci_link_route, { link: 3, isa_irq: 11 }],
  [
    'modified_memory',
    (o) => o.modifiedMemory([{ firstGfn: 7n, nrFrames: 2 }]),
    dm.xen_dm_op_modified_memory,
    { nr_extents: 1, opaque: 0 },
  ],
  [
    'set_mem_type',
    (o) => o.setMemType({ firstGfn: 0xc0n, nrFrames: 64 }, 1),
    dm.xen_dm_op_set_mem_type,
    { nr: 64, mem_type: 1, pad: 0, first_pfn: 0xc0n },
  ],
  [
    'inject_event',
    (o) => o.injectEvent(1, { vector: 13, type: 3, errorCode: 5 }),
    dm.xen_dm_op_inject_event,
    { vcpuid: 1, vector: 13, type: 3, insn_len: 0, pad0: 0, error_code: 5, pad1: 0, cr2: 0n },
  ],
  [
    'inject_msi',
    (o) => o.injectMsi(0xfee00000n, 0x41),
    dm.xen_dm_op_inject_msi,
    { data: 0x41, pad: 0, addr: 0xfee00000n },
  ],
  [
    'map_mem_type_to_ioreq_server',
    (o) => o.mapMemTypeToIoreqServer(3, 4, 2),
    dm.xen_dm_op_map_mem_type_to_ioreq_server,
    { id: 3, type: 4, flags: 2, opaque: 0n },
  ],
  ['remote_shutdown', (o) => o.remoteShutdown(1), dm.xen_dm_op_remote_shutdown, { reason: 1 }],
  [
    'relocate_memory',
    (o) => o.relocateMemory({ firstGfn: 1n, nrFrames: 2 }, 0x80n),
    dm.xen_dm_op_relocate_memory,
    { size: 2, pad: 0, src_gfn: 1n, dst_gfn: 0x80n },
  ],
  [
    'pin_memory_cacheattr',
    (o) => o.pinMemoryCacheattr(1n, 2n, 0xffffffff),
    dm.xen_dm_op_pin_memory_cacheattr,
    { start: 1n, end: 2n, type: 0xffffffff, pad: 0 },
  ],
  ['nr_vcpus', (o) => o.nrVcpus(), dm.xen_dm_op_nr_vcpus, { vcpus: 0 }],
];

const NUMBERS = new Map(
  Object.entries(dm).flatMap(([name, value]) => (name.startsWith('XEN_DMOP_') ? [[name.slice(9), value]] : [])),
);

function open(xen = new FakeXen(2)) {
  return { xen, ops: new DmOps(xen.openPrivcmd(), 1) };
}

describe('device-model operations', () => {
  it.each(TABLE)('%s encodes its struct', (name, ask, layout, expected) => {
    const { xen, ops } = open();
    ask(ops);
    const recorded = xen.ops.at(-1);
    expect(recorded?.op).toBe(NUMBERS.get(name));
    expect(decode(layout as typeof dm.xen_dm_op_nr_vcpus, recorded?.payload as Uint8Array)).toEqual(expected);
  });

  it('reaches all twenty operations', () => {
    const { xen, ops } = open();
    for (const [, ask] of TABLE) ask(ops);
    ops.mapIoRange(3, 'pci', 0x10n, 0x10n);
    ops.unmapIoRange(3, 'pci', 0x10n, 0x10n);
    expect([...new Set(xen.ops.map((o) => o.op))].sort((a, b) => a - b)).toEqual(
      Array.from({ length: 20 }, (_, i) => i + 1),
    );
  });

  it('decodes what comes back', () => {
    const { ops } = open(new FakeXen(7));
    expect(ops.createIoreqServer(0)).toBe(3);
    expect(ops.getIoreqServerInfo(3).bufioreqPort).toBe(40);
    expect(ops.nrVcpus()).toBe(7);
  });

  it('gives Xen a whole number of 64-bit words for the dirty bitmap, and always one', () => {
    const { xen, ops } = open();
    for (const nr of [0, 1, 64, 65, 4096]) ops.trackDirtyVram(0n, nr);
    expect(xen.ops.map((o) => o.buffers[1]?.length)).toEqual([8, 8, 8, 16, 512]);
  });

  it('passes modified extents in the second buffer and makes no call for none', () => {
    const { xen, ops } = open();
    ops.modifiedMemory([]);
    expect(xen.ops).toHaveLength(0);
    ops.modifiedMemory([
      { firstGfn: 1n, nrFrames: 2 },
      { firstGfn: 9n, nrFrames: 1 },
    ]);
    const extents = xen.ops[0]?.buffers[1] as Uint8Array;
    expect(extents).toHaveLength(32);
    expect(decode(dm.xen_dm_op_modified_memory_extent, extents.subarray(16))).toEqual({ nr: 1, pad: 0, first_pfn: 9n });
  });

  it('relocates more frames than a call counts in several calls', () => {
    const { xen, ops } = open();
    xen.failing.clear();
    for (let i = 0; i < 0x10001; i++) xen.p2m.set(BigInt(0x100000 + i), 0);
    ops.relocateMemory({ firstGfn: 0x100000n, nrFrames: 0x10001 }, 0x200000n);
    const calls = xen.ops.map((o) => decode(dm.xen_dm_op_relocate_memory, o.payload));
    expect(calls.map((c) => [c.size, c.src_gfn, c.dst_gfn])).toEqual([
      [0xffff, 0x100000n, 0x200000n],
      [2, 0x10ffffn, 0x20ffffn],
    ]);
  });

  it('lets Xen’s errno through', () => {
    const { xen, ops } = open();
    xen.failing.set(dm.XEN_DMOP_inject_msi, ERRNO.ERANGE);
    const call = () => ops.injectMsi(0n, 0);
    expect(call).toThrow(XenDeviceError);
    expect(call).toThrow(/ERANGE/);
  });
});
