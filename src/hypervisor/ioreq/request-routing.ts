/**
 * Which ioreq server a request goes to: the one with the highest id among the enabled ones that claim all of it. A port
 * access to 0xcfc–0xcff with the enable bit set in the PCI address register (0xcf8) is a configuration cycle of a device
 * and goes by that device's address.
 *
 * Addresses, sizes and repetitions are the guest's; ranges that wrap are claimed by nobody.
 *
 * @spec xen:common/ioreq.c ioreq_server_select, xen:arch/x86/hvm/ioreq.c arch_ioreq_server_get_type_addr
 * @deviates AMD's extended configuration space through 0xcf8 (families 0x10 to 0x16) is not decoded: no such processor is
 * presented to guests
 */
import { XEN_DMOP_IO_RANGE_MEMORY, XEN_DMOP_IO_RANGE_PCI, XEN_DMOP_IO_RANGE_PORT } from '../../abi/xen/dm-op.js';
import { IOREQ_TYPE_COPY, IOREQ_TYPE_PCI_CONFIG, IOREQ_TYPE_PIO } from '../../abi/xen/ioreq.js';
import type { IoRequest } from './io-request.js';
import type { IoreqServer } from './ioreq-server.js';

const MAX_U64 = 0xffff_ffff_ffff_ffffn;
const PCI_DATA_FIRST = 0xcfcn;
const PCI_DATA_LAST = 0xcffn;
const CF8_ENABLED = 0x8000_0000;

/** A request as a device model is to see it. */
export interface Route {
  readonly server: IoreqServer | undefined;
  /** IOREQ_TYPE_*. */
  readonly type: number;
  readonly addr: bigint;
}

/**
 * @param servers in the order in which they are asked
 * @param count repetitions, already limited
 * @param cf8 the PCI address register
 */
export function route(servers: Iterable<IoreqServer>, request: IoRequest, count: number, cf8: number): Route {
  const { addr } = request;
  if (request.space === 'memory') {
    const span = BigInt((count - 1) * request.size);
    const first = request.df ? addr - span : addr;
    const last = (request.df ? addr : addr + span) + BigInt(request.size - 1);
    return { server: claimant(servers, XEN_DMOP_IO_RANGE_MEMORY, first, last), type: IOREQ_TYPE_COPY, addr };
  }
  if (addr >= PCI_DATA_FIRST && addr <= PCI_DATA_LAST && cf8 & CF8_ENABLED) {
    const sbdf = BigInt((cf8 >>> 8) & 0xffff);
    const register = BigInt(cf8 & 0xfc) | (addr & 3n);
    const server = claimant(servers, XEN_DMOP_IO_RANGE_PCI, sbdf, sbdf);
    return { server, type: IOREQ_TYPE_PCI_CONFIG, addr: (sbdf << 32n) | register };
  }
  const last = addr + BigInt(request.size - 1);
  return { server: claimant(servers, XEN_DMOP_IO_RANGE_PORT, addr, last), type: IOREQ_TYPE_PIO, addr };
}

function claimant(servers: Iterable<IoreqServer>, type: number, first: bigint, last: bigint): IoreqServer | undefined {
  if (first < 0n || last > MAX_U64 || first > last) return undefined;
  for (const server of servers) if (server.isEnabled && server.ranges[type]!.contains(first, last)) return server;
  return undefined;
}
