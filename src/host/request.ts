/**
 * One request of a client, and the user memory it brought along. The message is the client's memory as it was when the
 * call was made: copied once, by the kernel, into a buffer that nobody else can reach. Nothing in it is trusted: every
 * count and length is checked here against what arrived, or the connection is at fault.
 */
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

const REQUEST = postern_request.fields;
const BLOCK_SIZE = postern_block.size;
const NO_DATA = -1;
const NOTHING = new Uint8Array(0);

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
  /** What the call has written, in the order it did. */
  readonly outputs: Output[] = [];
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
    if (REQUEST.magic.get(v, 0) !== POSTERN_MAGIC) throw new ProtocolViolation('message without the magic number');
    this.kind = REQUEST.kind.get(v, 0);
    this.flags = REQUEST.flags.get(v, 0);
    this.process = REQUEST.process.get(v, 0);
    this.call = REQUEST.call.get(v, 0);
    this.tokenLow = v.getUint32(REQUEST.token.offset, true);
    this.tokenHigh = v.getUint32(REQUEST.token.offset + 4, true);
    this.arg = REQUEST.arg.get(v, 0);
    this.cmd = REQUEST.cmd.get(v, 0);
    this.nrBlocks = REQUEST.nr_blocks.get(v, 0);
    this.outputs.length = 0;
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
      this.addresses[i] = postern_block.fields.address.get(v, at);
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
      into.set(this.bytes.subarray(at + offset, at + offset + into.length));
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
      if (at !== NO_DATA) this.bytes.set(from, at + offset); // what the call reads again is what it wrote
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
   * The output as the bytes of the last block from its start on, where all of it can be said that way: what lies in
   * between goes back as it came. Undefined where it has to be said piece by piece.
   */
  straightOutput(): Uint8Array | undefined {
    const { outputs } = this;
    if (outputs.length === 0) return NOTHING;
    const last = this.nrBlocks - 1;
    if (outputs.some((output) => output.block !== last)) return undefined;
    const only = outputs.length === 1 && outputs[0]?.offset === 0;
    if (only) return this.output.subarray(0, this.outputLength);
    const end = Math.max(...outputs.map((output) => output.offset + output.length));
    return this.blockBytes(last)?.subarray(0, end);
  }

  private record(block: number, offset: number, from: Uint8Array): void {
    const same = this.outputs.find((o) => o.block === block && o.offset === offset && o.length === from.length);
    if (same) {
      this.output.set(from, same.from);
      return;
    }
    if (this.outputLength + from.length > this.output.length) {
      const grown = new Uint8Array(Math.max(this.output.length * 2, this.outputLength + from.length));
      grown.set(this.output.subarray(0, this.outputLength));
      this.output = grown;
    }
    this.output.set(from, this.outputLength);
    this.outputs.push({ block, offset, length: from.length, from: this.outputLength });
    this.outputLength += from.length;
  }
}
