/**
 * One request of a client, and the user memory it brought along. The message is the client's memory as it was when the
 * call was made: copied once, by the kernel, into a buffer that nobody else can reach. Nothing in it is trusted: every
 * count and length is checked here against what arrived, or the connection is at fault.
 */
import { address } from '../abi/layout.js';
import { XenError } from '../boundary/xen-error.js';
import type { UserMemory } from '../dom0/process.js';
import {
  POSTERN_BLOCK_DATA,
  POSTERN_BLOCK_WRITABLE,
  POSTERN_MAGIC,
  POSTERN_MAX_BLOCKS,
  POSTERN_MAX_DATA,
  postern_block,
  postern_request,
} from './protocol.js';

/** The connection broke the protocol: it is closed, and nobody else notices. */
export class ProtocolViolation extends Error {
  override readonly name = 'ProtocolViolation';
}

/** Offsets of the header's fields, read one by one: the decoder for any struct costs several times as much. */
const AT = {
  magic: postern_request.fields.magic.offset,
  kind: postern_request.fields.kind.offset,
  flags: postern_request.fields.flags.offset,
  process: postern_request.fields.process.offset,
  call: postern_request.fields.call.offset,
  token: postern_request.fields.token.offset,
  arg: postern_request.fields.arg.offset,
  cmd: postern_request.fields.cmd.offset,
  nrBlocks: postern_request.fields.nr_blocks.offset,
} as const;
const BLOCK_SIZE = postern_block.size;
const NO_DATA = -1;

/** Bytes to copy back to the caller: `length` at `offset` of a block, found at `from` of the request's output. */
export interface Output {
  block: number;
  offset: number;
  length: number;
  from: number;
}

export class Request implements UserMemory {
  kind = 0;
  flags = 0;
  process = 0;
  call = 0;
  tokenLow = 0;
  tokenHigh = 0;
  arg = 0;
  cmd = 0;
  nrBlocks = 0;
  private readonly addresses = new Float64Array(POSTERN_MAX_BLOCKS);
  private readonly sizes = new Uint32Array(POSTERN_MAX_BLOCKS);
  private readonly blockFlags = new Uint32Array(POSTERN_MAX_BLOCKS);
  private readonly dataAt = new Int32Array(POSTERN_MAX_BLOCKS);
  private bytes: Uint8Array;
  private view: DataView;
  /** What the call has written, in the order it did; the first `nrOutputs` count, the others are there for reuse. */
  readonly outputs: Output[] = [];
  nrOutputs = 0;
  output = new Uint8Array(256);
  outputLength = 0;

  /** @param bytes the buffer that messages are received into */
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Takes the message of `length` bytes that stands in the buffer. @throws ProtocolViolation */
  parse(length: number): void {
    const v = this.view;
    if (length < postern_request.size) throw new ProtocolViolation(`message of ${length} bytes`);
    if (v.getUint32(AT.magic, true) !== POSTERN_MAGIC) throw new ProtocolViolation('message without the magic number');
    this.kind = v.getUint16(AT.kind, true);
    this.flags = v.getUint16(AT.flags, true);
    this.process = v.getUint32(AT.process, true);
    this.call = v.getUint32(AT.call, true);
    this.tokenLow = v.getUint32(AT.token, true);
    this.tokenHigh = v.getUint32(AT.token + 4, true);
    this.arg = address.read(v, AT.arg);
    this.cmd = v.getUint32(AT.cmd, true);
    this.nrBlocks = v.getUint32(AT.nrBlocks, true);
    this.nrOutputs = 0;
    this.outputLength = 0;
    if (this.nrBlocks > POSTERN_MAX_BLOCKS) throw new ProtocolViolation(`${this.nrBlocks} blocks in one request`);
    this.parseBlocks(length);
  }

  private parseBlocks(length: number): void {
    const v = this.view;
    let data = postern_request.size + this.nrBlocks * BLOCK_SIZE;
    if (data > length) throw new ProtocolViolation('blocks missing');
    for (let i = 0; i < this.nrBlocks; i++) {
      const at = postern_request.size + i * BLOCK_SIZE;
      const size = v.getUint32(at + 8, true);
      const flags = v.getUint32(at + 12, true);
      if (size > POSTERN_MAX_DATA) throw new ProtocolViolation(`block of ${size} bytes`);
      this.addresses[i] = address.read(v, at);
      this.sizes[i] = size;
      this.blockFlags[i] = flags;
      this.dataAt[i] = NO_DATA;
      if (!(flags & POSTERN_BLOCK_DATA)) continue;
      this.dataAt[i] = data;
      data += size;
    }
    if (data !== length) throw new ProtocolViolation(`message of ${length} bytes, ${data} announced`);
  }

  /** A block's bytes, for messages whose blocks have fixed meanings. */
  blockBytes(block: number): Uint8Array | undefined {
    const at = this.dataAt[block] as number;
    if (block >= this.nrBlocks || at === NO_DATA) return undefined;
    return this.bytes.subarray(at, at + (this.sizes[block] as number));
  }

  /** Leaves the receive buffer behind: the request lives on while its operation is preempted. */
  detach(): void {
    this.bytes = this.bytes.slice();
    this.view = new DataView(this.bytes.buffer);
  }

  copyIn(address: number, into: Uint8Array): void {
    if (into.length === 0) return;
    for (let i = 0; i < this.nrBlocks; i++) {
      const offset = address - (this.addresses[i] as number);
      const at = this.dataAt[i] as number;
      if (offset < 0 || offset + into.length > (this.sizes[i] as number) || at === NO_DATA) continue;
      copyBytes(this.bytes, at + offset, into, 0, into.length);
      return;
    }
    throw new XenError('EFAULT', 'memory is not readable');
  }

  copyOut(address: number, from: Uint8Array): void {
    if (from.length === 0) return;
    for (let i = 0; i < this.nrBlocks; i++) {
      const offset = address - (this.addresses[i] as number);
      if (offset < 0 || offset + from.length > (this.sizes[i] as number)) continue;
      if (!((this.blockFlags[i] as number) & POSTERN_BLOCK_WRITABLE)) continue;
      const at = this.dataAt[i] as number;
      if (at !== NO_DATA) copyBytes(from, 0, this.bytes, at + offset, from.length); // read again, it is what was written
      this.record(i, offset, from);
      return;
    }
    throw new XenError('EFAULT', 'memory is not writable');
  }

  pinForWrite(address: number, size: number): void {
    if (size === 0) return;
    for (let i = 0; i < this.nrBlocks; i++) {
      if (this.addresses[i] !== address || this.sizes[i] !== size || this.dataAt[i] === NO_DATA) continue;
      if ((this.blockFlags[i] as number) & POSTERN_BLOCK_WRITABLE) return;
    }
    throw new XenError('EFAULT', 'buffer is not mapped, or not writable');
  }

  /**
   * Writes the output as the bytes of the last block from its start on, where all of it can be said that way: what lies
   * in between goes back as it came.
   * @returns the bytes written, or -1 where it has to be said piece by piece
   */
  writeStraight(into: Uint8Array, to: number): number {
    const last = this.nrBlocks - 1;
    let end = 0;
    for (let i = 0; i < this.nrOutputs; i++) {
      const { block, offset, length } = this.outputs[i] as Output;
      if (block !== last) return -1;
      end = Math.max(end, offset + length);
    }
    if (end === 0) return 0;
    const data = this.dataAt[last] as number;
    if (data !== NO_DATA) copyBytes(this.bytes, data, into, to, end);
    else if (this.nrOutputs === 1 && this.outputs[0]?.offset === 0) copyBytes(this.output, 0, into, to, end);
    else return -1;
    return end;
  }

  /** A little-endian u16 of block 0 for the trace; undefined where it is not there. */
  peekU16(offset: number): number | undefined {
    const at = this.dataAt[0] as number;
    if (this.nrBlocks === 0 || at === NO_DATA || offset + 2 > (this.sizes[0] as number)) return undefined;
    return this.view.getUint16(at + offset, true);
  }

  private record(block: number, offset: number, from: Uint8Array): void {
    for (let i = 0; i < this.nrOutputs; i++) {
      const same = this.outputs[i] as Output;
      if (same.block !== block || same.offset !== offset || same.length !== from.length) continue;
      this.output.set(from, same.from);
      for (let later = i + 1; later < this.nrOutputs; later++) this.overwrite(later, block, offset, from);
      return;
    }
    if (this.outputLength + from.length > this.output.length) {
      const grown = new Uint8Array(Math.max(this.output.length * 2, this.outputLength + from.length));
      grown.set(this.output.subarray(0, this.outputLength));
      this.output = grown;
    }
    copyBytes(from, 0, this.output, this.outputLength, from.length);
    const output = this.outputs[this.nrOutputs];
    if (!output) {
      this.outputs.push({ block, offset, length: from.length, from: this.outputLength });
    } else {
      output.block = block;
      output.offset = offset;
      output.length = from.length;
      output.from = this.outputLength;
    }
    this.nrOutputs++;
    this.outputLength += from.length;
  }

  /** The client applies outputs in order: what one of them holds of bytes that were written again must be the new ones. */
  private overwrite(output: number, block: number, offset: number, from: Uint8Array): void {
    const other = this.outputs[output] as Output;
    const start = Math.max(offset, other.offset);
    const end = Math.min(offset + from.length, other.offset + other.length);
    if (other.block !== block || start >= end) return;
    copyBytes(from, start - offset, this.output, other.from + start - other.offset, end - start);
  }
}

/** Most copies here are of a few dozen bytes, where a loop is cheaper than making the view that `set` needs. */
function copyBytes(from: Uint8Array, at: number, into: Uint8Array, to: number, length: number): void {
  if (length > 96) into.set(from.subarray(at, at + length), to);
  else for (let i = 0; i < length; i++) into[to + i] = from[at + i] as number;
}
