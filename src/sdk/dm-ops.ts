/**
 * The twenty device-model operations as typed calls: encodes the `xen_dm_op`, makes the call, decodes what Xen wrote
 * back. It checks nothing that Xen checks: Xen's errno is the answer.
 *
 * Every method throws XenDeviceError with Xen's errno; those named below are what a caller is likely to meet.
 *
 * @spec xen:hvm/dm_op.h
 */
import { encode, type Layout } from '../abi/layout.js';
import * as abi from '../abi/xen/dm-op.js';
import { DirtyBitmap } from './dirty-bitmap.js';
import type { PrivcmdFile } from './xen-devices.js';

/** Offset of the union in `struct xen_dm_op`. */
const PAYLOAD = 8;

/** What a server can be asked to claim. Ranges are inclusive; PCI ranges are SBDF numbers. */
export type RangeKind = 'port' | 'memory' | 'pci';

const RANGE_TYPE: Record<RangeKind, number> = {
  port: abi.XEN_DMOP_IO_RANGE_PORT,
  memory: abi.XEN_DMOP_IO_RANGE_MEMORY,
  pci: abi.XEN_DMOP_IO_RANGE_PCI,
};

/** Frame numbers of a server's pages in guest memory, present only where they were asked for. */
export interface IoreqServerInfo {
  /** Port to bind for the buffered ring; 0 where the server has none. */
  readonly bufioreqPort: number;
  readonly ioreqGfn: bigint;
  readonly bufioreqGfn: bigint;
}

/** Consecutive guest frames. */
export interface FrameRange {
  readonly firstGfn: bigint;
  readonly nrFrames: number;
}

/** An event for `injectEvent`. @spec xen:hvm/dm_op.h struct xen_dm_op_inject_event */
export interface GuestEvent {
  /** 0 to 255. */
  readonly vector: number;
  /** XEN_DMOP_EVENT_*: 0 external interrupt, 2 NMI, 3 hardware exception, 4 software interrupt, … */
  readonly type: number;
  /** Length of the instruction that causes a software event, in bytes. */
  readonly insnLen?: number;
  /** Left out where the event carries none. */
  readonly errorCode?: number;
  /** Faulting address of a page fault, pending debug state of #DB. */
  readonly cr2?: bigint;
}

export class DmOps {
  constructor(
    private readonly privcmd: PrivcmdFile,
    readonly domid: number,
  ) {}

  private call<T>(op: number, layout: Layout<T>, value: T, ...more: Uint8Array[]): T {
    const head = new Uint8Array(abi.xen_dm_op.size);
    const view = new DataView(head.buffer);
    view.setUint32(0, op, true);
    layout.write(view, PAYLOAD, value);
    this.privcmd.dmOp(this.domid, [head, ...more]);
    return layout.read(view, PAYLOAD);
  }

  /**
   * @param handleBufioreq HVM_IOREQSRV_BUFIOREQ_*: 0 off, 1 legacy, 2 atomic
   * @returns the server's id @throws ENOSPC when the domain has 8, EINVAL
   */
  createIoreqServer(handleBufioreq: number): number {
    const value = { handle_bufioreq: handleBufioreq, pad: [0, 0, 0], id: 0 };
    return this.call(abi.XEN_DMOP_create_ioreq_server, abi.xen_dm_op_create_ioreq_server, value).id;
  }

  /** @param withGfns put the server's pages into guest memory, as device models did before resource mapping */
  getIoreqServerInfo(id: number, withGfns = false): IoreqServerInfo {
    const flags = withGfns ? 0 : abi.XEN_DMOP_no_gfns;
    const value = { id, flags, bufioreq_port: 0, ioreq_gfn: 0n, bufioreq_gfn: 0n };
    const out = this.call(abi.XEN_DMOP_get_ioreq_server_info, abi.xen_dm_op_get_ioreq_server_info, value);
    return { bufioreqPort: out.bufioreq_port, ioreqGfn: out.ioreq_gfn, bufioreqGfn: out.bufioreq_gfn };
  }

  /** Claims `start` to `end` inclusive. @throws EEXIST where this server has part of it, ENOMEM beyond 256 ranges */
  mapIoRange(id: number, kind: RangeKind, start: bigint, end: bigint): void {
    const value = { id, pad: 0, type: RANGE_TYPE[kind], start, end };
    this.call(abi.XEN_DMOP_map_io_range_to_ioreq_server, abi.xen_dm_op_ioreq_server_range, value);
  }

  /** @throws ENOENT where the server does not have all of it */
  unmapIoRange(id: number, kind: RangeKind, start: bigint, end: bigint): void {
    const value = { id, pad: 0, type: RANGE_TYPE[kind], start, end };
    this.call(abi.XEN_DMOP_unmap_io_range_from_ioreq_server, abi.xen_dm_op_ioreq_server_range, value);
  }

  setIoreqServerState(id: number, enabled: boolean): void {
    const value = { id, enabled: enabled ? 1 : 0, pad: 0 };
    this.call(abi.XEN_DMOP_set_ioreq_server_state, abi.xen_dm_op_set_ioreq_server_state, value);
  }

  destroyIoreqServer(id: number): void {
    this.call(abi.XEN_DMOP_destroy_ioreq_server, abi.xen_dm_op_destroy_ioreq_server, { id, pad: 0 });
  }

  /**
   * Starts tracking `nrFrames` frames or, when they are already tracked, says which changed since the last call. The
   * first call on a range reports every page. One range a domain; 0 frames end the tracking.
   * @throws E2BIG beyond 32,768 frames
   */
  trackDirtyVram(firstGfn: bigint, nrFrames: number): DirtyBitmap {
    // Xen asks for a bitmap also where nothing is to be reported, so there is always at least one word of it.
    const bitmap = new Uint8Array(Math.max(1, Math.ceil(nrFrames / 64)) * 8);
    const value = { nr: nrFrames, pad: 0, first_pfn: firstGfn };
    this.call(abi.XEN_DMOP_track_dirty_vram, abi.xen_dm_op_track_dirty_vram, value, bitmap);
    return new DirtyBitmap(firstGfn, nrFrames, bitmap);
  }

  /** Sets INTx pin `intx` (0 to 3, A to D) of a device on bus 0 of segment 0. @throws EINVAL elsewhere */
  setPciIntxLevel(device: number, intx: number, asserted: boolean, bus = 0, segment = 0): void {
    const value = { domain: segment, bus, device, intx, level: asserted ? 1 : 0 };
    this.call(abi.XEN_DMOP_set_pci_intx_level, abi.xen_dm_op_set_pci_intx_level, value);
  }

  /** @param irq 0 to 15 */
  setIsaIrqLevel(irq: number, asserted: boolean): void {
    const value = { isa_irq: irq, level: asserted ? 1 : 0 };
    this.call(abi.XEN_DMOP_set_isa_irq_level, abi.xen_dm_op_set_isa_irq_level, value);
  }

  /** Arm's interrupt lines. @throws EOPNOTSUPP on x86 */
  setIrqLevel(irq: number, asserted: boolean): void {
    const value = { irq, level: asserted ? 1 : 0, pad: [0, 0, 0] };
    this.call(abi.XEN_DMOP_set_irq_level, abi.xen_dm_op_set_irq_level, value);
  }

  /** Routes PCI link 0 to 3 to ISA interrupt 1 to 15, or nowhere with 0. */
  setPciLinkRoute(link: number, isaIrq: number): void {
    this.call(abi.XEN_DMOP_set_pci_link_route, abi.xen_dm_op_set_pci_link_route, { link, isa_irq: isaIrq });
  }

  /**
   * Tells Xen about frames that the device model wrote through its own mapping: log-dirty modes do not see those.
   * @throws EINVAL for a frame that is not there, while the domain's log-dirty mode is on
   */
  modifiedMemory(ranges: readonly FrameRange[]): void {
    if (ranges.length === 0) return;
    const extent = abi.xen_dm_op_modified_memory_extent;
    const extents = new Uint8Array(ranges.length * extent.size);
    ranges.forEach((range, i) => {
      extents.set(encode(extent, { nr: range.nrFrames, pad: 0, first_pfn: range.firstGfn }), i * extent.size);
    });
    const value = { nr_extents: ranges.length, opaque: 0 };
    this.call(abi.XEN_DMOP_modified_memory, abi.xen_dm_op_modified_memory, value, extents);
  }

  /** @param memType hvmmem_type_t: 0 ram_rw, 1 ram_ro, 2 mmio_dm @throws EINVAL for holes and other types */
  setMemType(range: FrameRange, memType: number): void {
    const value = { nr: range.nrFrames, mem_type: memType, pad: 0, first_pfn: range.firstGfn };
    this.call(abi.XEN_DMOP_set_mem_type, abi.xen_dm_op_set_mem_type, value);
  }

  /** @throws EINVAL where there is no such vCPU, EBUSY while another event is waiting */
  injectEvent(vcpu: number, event: GuestEvent): void {
    const value = {
      vcpuid: vcpu,
      vector: event.vector,
      type: event.type,
      insn_len: event.insnLen ?? 0,
      pad0: 0,
      error_code: event.errorCode ?? 0xffffffff,
      pad1: 0,
      cr2: event.cr2 ?? 0n,
    };
    this.call(abi.XEN_DMOP_inject_event, abi.xen_dm_op_inject_event, value);
  }

  /** Delivers a message-signalled interrupt: `address` 0xfeexxxxx. @throws ERANGE for vector 0, EINVAL */
  injectMsi(address: bigint, data: number): void {
    this.call(abi.XEN_DMOP_inject_msi, abi.xen_dm_op_inject_msi, { data, pad: 0, addr: address });
  }

  /**
   * Sends writes to frames of type `ioreq_server` to server `id`; `flags` 0 ends it.
   * @param flags XEN_DMOP_IOREQ_MEM_ACCESS_WRITE (2) or 0 @throws EBUSY while another server has it
   */
  mapMemTypeToIoreqServer(id: number, memType: number, flags: number): void {
    const value = { id, type: memType, flags, opaque: 0n };
    this.call(abi.XEN_DMOP_map_mem_type_to_ioreq_server, abi.xen_dm_op_map_mem_type_to_ioreq_server, value);
  }

  /** @param reason SHUTDOWN_*: 0 poweroff, 1 reboot, 2 suspend, 3 crash, 4 watchdog */
  remoteShutdown(reason: number): void {
    this.call(abi.XEN_DMOP_remote_shutdown, abi.xen_dm_op_remote_shutdown, { reason });
  }

  /** Moves frames within the guest's physical memory; mappings of them stay on the same memory. */
  relocateMemory(from: FrameRange, toGfn: bigint): void {
    // Xen counts in 16 bits: more frames than that go in several calls.
    for (let done = 0; done < from.nrFrames; ) {
      const size = Math.min(0xffff, from.nrFrames - done);
      const value = { size, pad: 0, src_gfn: from.firstGfn + BigInt(done), dst_gfn: toGfn + BigInt(done) };
      this.call(abi.XEN_DMOP_relocate_memory, abi.xen_dm_op_relocate_memory, value);
      done += size;
    }
  }

  /** @param type XEN_DMOP_MEM_CACHEATTR_*: 0 UC, 1 WC, 4 WT, 5 WP, 6 WB, 7 UCM; 0xffffffff removes @throws EBUSY */
  pinMemoryCacheattr(firstGfn: bigint, lastGfn: bigint, type: number): void {
    const value = { start: firstGfn, end: lastGfn, type, pad: 0 };
    this.call(abi.XEN_DMOP_pin_memory_cacheattr, abi.xen_dm_op_pin_memory_cacheattr, value);
  }

  /** vCPUs are 0 to this number less one; fixed when the domain was made. */
  nrVcpus(): number {
    return this.call(abi.XEN_DMOP_nr_vcpus, abi.xen_dm_op_nr_vcpus, { vcpus: 0 }).vcpus;
  }
}
