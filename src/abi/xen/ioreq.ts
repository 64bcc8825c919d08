/**
 * I/O requests: what Xen and a device model say to each other through two shared pages of an ioreq server. The
 * synchronous page holds one request a vCPU, the buffered page a ring of small writes that nobody waits for.
 *
 *     synchronous slot (32 bytes)              buffered slot (8 bytes)
 *      0 addr   8 data   16 count   20 size     byte 0      type
 *     24 vp_eport   28 _pad0                    byte 1      pad:1 dir:1 size:2, then addr:20 up to bit 31
 *     30 state:4 data_is_ptr:1 dir:1 df:1 _:1   bytes 4-7   data
 *     31 type
 *
 * Whoever reads a page trusts nothing of it: the other side can write it at any time.
 *
 * @spec xen:public/hvm/ioreq.h
 */
import { array, type Layout, struct, u8, u16, u32, u64 } from '../layout.js';

export const IOREQ_WRITE = 0;
export const IOREQ_READ = 1;

export const STATE_IOREQ_NONE = 0;
export const STATE_IOREQ_READY = 1;
export const STATE_IOREQ_INPROCESS = 2;
export const STATE_IORESP_READY = 3;

export const IOREQ_TYPE_PIO = 0;
/** Memory-mapped I/O. */
export const IOREQ_TYPE_COPY = 1;
export const IOREQ_TYPE_PCI_CONFIG = 2;
export const IOREQ_TYPE_TIMEOFFSET = 7;
/** Drop what is cached of guest memory mappings. */
export const IOREQ_TYPE_INVALIDATE = 8;

export const IOREQ_BUFFER_SLOT_NUM = 511;

/** The byte of bitfields of a synchronous request. */
export interface IoreqFlags {
  state: number;
  data_is_ptr: number;
  dir: number;
  df: number;
}

const STATE_MASK = 0xf;
const DATA_IS_PTR_SHIFT = 4;
const DIR_SHIFT = 5;
const DF_SHIFT = 6;

export function packIoreqFlags(f: IoreqFlags): number {
  return (
    (f.state & STATE_MASK) |
    ((f.data_is_ptr & 1) << DATA_IS_PTR_SHIFT) |
    ((f.dir & 1) << DIR_SHIFT) |
    ((f.df & 1) << DF_SHIFT)
  );
}

const ioreq_flags: Layout<IoreqFlags> = {
  size: 1,
  align: 1,
  read(view, offset) {
    const byte = view.getUint8(offset);
    return {
      state: byte & STATE_MASK,
      data_is_ptr: (byte >> DATA_IS_PTR_SHIFT) & 1,
      dir: (byte >> DIR_SHIFT) & 1,
      df: (byte >> DF_SHIFT) & 1,
    };
  },
  write: (view, offset, value) => view.setUint8(offset, packIoreqFlags(value)),
};

/** `flags` stands for the bitfields, which C cannot name an offset of; every other field is C's. */
export const ioreq = struct('ioreq', {
  addr: u64,
  data: u64,
  count: u32,
  size: u32,
  vp_eport: u32,
  _pad0: u16,
  flags: ioreq_flags,
  type: u8,
});

/** The word of a slot that holds _pad0, the bitfields and the type: what a state change must be seen in one piece. */
export const IOREQ_STATE_WORD = 28;
/** Where the state lies in that word. */
export const IOREQ_STATE_SHIFT = 16;
export const IOREQ_STATE_MASK = STATE_MASK;

/** One slot a vCPU, as many as fit; C declares one and indexes beyond it. */
export const shared_iopage = struct('shared_iopage', { vcpu_ioreq: array(ioreq, 1) });

/** A slot of the buffered ring, unpacked. An access of 8 bytes takes two: the upper half's data is in the second. */
export interface BufIoreq {
  type: number;
  dir: number;
  /** log2 of the number of bytes. */
  size: number;
  /** 20 bits. */
  addr: number;
  data: number;
}

/** Everything but the data, as one word. */
export function packBufIoreq(type: number, dir: number, size: number, addr: number): number {
  return ((type & 0xff) | ((dir & 1) << 9) | ((size & 3) << 10) | (addr << 12)) >>> 0;
}

/** All bitfields but `type` share their word with it, so the codec takes the struct as a whole. */
export const buf_ioreq: Layout<BufIoreq> & { readonly cName: string } = {
  cName: 'buf_ioreq',
  size: 8,
  align: 4,
  read(view, offset) {
    const word = view.getUint32(offset, true);
    return {
      type: word & 0xff,
      dir: (word >>> 9) & 1,
      size: (word >>> 10) & 3,
      addr: word >>> 12,
      data: view.getUint32(offset + 4, true),
    };
  },
  write(view, offset, value) {
    view.setUint32(offset, packBufIoreq(value.type, value.dir, value.size, value.addr), true);
    view.setUint32(offset + 4, value.data, true);
  },
};

export const buffered_iopage = struct('buffered_iopage', {
  read_pointer: u32,
  write_pointer: u32,
  buf_ioreq: array(buf_ioreq, IOREQ_BUFFER_SLOT_NUM),
});
