/**
 * The connection protocol between a client's library and the host. native/protocol.h is the same in C and explains it;
 * a test compares the two.
 */
import { address, s32, struct, u16, u32, u64 } from '../abi/layout.js';

export const POSTERN_MAGIC = 0x6e727450;
export const POSTERN_VERSION = 1;

export const POSTERN_HELLO = 1;
export const POSTERN_OPEN = 2;
export const POSTERN_IOCTL = 3;
export const POSTERN_MMAP = 4;
export const POSTERN_MUNMAP = 5;

export const POSTERN_AREA_MASK = 7;
export const POSTERN_AREA_NONE = 0;
export const POSTERN_AREA_FRESH = 1;
export const POSTERN_AREA_FRESH_PART = 2;
export const POSTERN_AREA_HOLE = 3;
export const POSTERN_AREA_MAPPED = 4;
export const POSTERN_AREA_FRESH_INSIDE = 5;

export const postern_request = struct('postern_request', {
  magic: u32,
  kind: u16,
  flags: u16,
  process: u32,
  call: u32,
  token: u64,
  arg: address,
  cmd: u32,
  nr_blocks: u32,
});

export const POSTERN_BLOCK_DATA = 1;
export const POSTERN_BLOCK_WRITABLE = 2;
export const POSTERN_MAX_BLOCKS = 24;
export const POSTERN_MAX_DATA = 0x20000;

export const postern_block = struct('postern_block', { address: address, size: u32, flags: u32 });

export const POSTERN_REPLY_SCATTERED = 1;

export const postern_reply = struct('postern_reply', {
  magic: u32,
  call: u32,
  ret: s32,
  flags: u16,
  nr_out: u16,
  nr_runs: u32,
  length: u32,
  process: u32,
  reserved: u32,
  token: u64,
});

export const postern_out = struct('postern_out', { block: u32, offset: u32, length: u32 });
export const postern_run = struct('postern_run', { page: u32, nr_pages: u32, file: u32, frame: u32 });

export const POSTERN_MAX_FILES = 64;
export const POSTERN_MAX_GFNS = 8192;

/** The longest message there can be, in bytes. */
export const MAX_MESSAGE = postern_request.size + POSTERN_MAX_BLOCKS * postern_block.size + POSTERN_MAX_DATA;
