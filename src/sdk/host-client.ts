/**
 * A client of the embedded host, in this process: the connection protocol as the interposition library speaks it
 * (native/protocol.h), for programs that are written against the SDK. The host is trusted, as a kernel is.
 */
import { ERRNO } from '../abi/errno.js';
import { allocateNative, errno, libc, MSG_NOSIGNAL, POLLIN, SOCK_SEQPACKET } from '../host/libc.js';
import {
  MAX_MESSAGE,
  POSTERN_BLOCK_DATA,
  POSTERN_BLOCK_WRITABLE,
  POSTERN_HELLO,
  POSTERN_MAGIC,
  POSTERN_MUNMAP,
  POSTERN_OPEN,
  POSTERN_REPLY_SCATTERED,
  POSTERN_VERSION,
  postern_block,
  postern_out,
  postern_reply,
  postern_request,
  postern_run,
} from '../host/protocol.js';
import { connectUnix, receiveWithFiles } from '../host/unix-socket.js';
import { XenDeviceError } from './xen-devices.js';

/** A range of this process's memory that a call may touch. Addresses are made up: the host never follows them. */
export interface Block {
  readonly bytes: Uint8Array;
  readonly writable?: boolean;
  /** Sent along unless the host is only to write it. */
  readonly data?: boolean;
}

/** The made-up address of a call's block. */
export function blockAddress(block: number): number {
  return 0x100000 * (block + 1);
}

/** Pages to map, as the host answers them. */
export interface Run {
  readonly page: number;
  readonly nrPages: number;
  readonly file: number;
  readonly frame: number;
}

export interface Answer {
  readonly ret: number;
  readonly runs: readonly Run[];
  /** Descriptors the host passed; the caller closes them. */
  readonly files: readonly number[];
}

export interface Call {
  readonly kind: number;
  /** For the error that a refusal becomes. */
  readonly name: string;
  readonly cmd?: number;
  readonly arg?: number;
  readonly flags?: number;
  readonly blocks?: readonly Block[];
}

const request = allocateNative(MAX_MESSAGE);
const reply = allocateNative(MAX_MESSAGE + 0x40000);
const REPLY = postern_reply.fields;

/** This process as the host knows it. Calls are synchronous: the answer comes before anything else happens. */
export class HostClient {
  private readonly fd: number;
  private readonly id: number;
  private readonly token: bigint;
  private calls = 0;

  /** @throws SystemError where nobody listens at the path */
  constructor(private readonly path: string) {
    this.fd = connectUnix(path, SOCK_SEQPACKET);
    this.id = 0;
    this.token = 0n;
    this.transact(this.fd, { kind: POSTERN_HELLO, name: 'hello', arg: POSTERN_VERSION });
    this.id = REPLY.process.get(reply.view, 0);
    this.token = REPLY.token.get(reply.view, 0);
  }

  /** Opens a device. @returns the descriptor that stands for the open file @throws XenDeviceError */
  open(device: string): number {
    const fd = connectUnix(this.path, SOCK_SEQPACKET);
    try {
      this.transact(fd, { kind: POSTERN_OPEN, name: `open ${device}`, blocks: [{ bytes: Buffer.from(device) }] });
    } catch (error) {
      libc.close(fd);
      throw error;
    }
    return fd;
  }

  /**
   * Opens what the host hands over as a descriptor, to be used without it from then on. @returns that, the caller's
   * @throws XenDeviceError
   */
  openHanded(device: string): number {
    const fd = connectUnix(this.path, SOCK_SEQPACKET);
    try {
      const call = { kind: POSTERN_OPEN, name: `open ${device}`, blocks: [{ bytes: Buffer.from(device) }] };
      const [handed] = this.transact(fd, call).files;
      if (handed === undefined) throw new XenDeviceError(ERRNO.ENODEV, `open ${device}`);
      return handed;
    } finally {
      libc.close(fd);
    }
  }

  /** Tells the host that this process has nothing of it mapped there any more. @throws XenDeviceError */
  unmapped(address: number, nrPages: number): void {
    this.transact(this.fd, { kind: POSTERN_MUNMAP, name: 'munmap', arg: address, cmd: nrPages });
  }

  close(): void {
    libc.close(this.fd);
  }

  /** One call on an open file. @throws XenDeviceError */
  transact(file: number, call: Call): Answer {
    const blocks = call.blocks ?? [];
    this.send(file, call, blocks);
    const files: number[] = [];
    if (call.kind === POSTERN_OPEN && !this.isAnswered(file)) {
      throw new XenDeviceError(ERRNO.ENFILE, `${call.name} (the host at ${this.path} takes no more connections)`);
    }
    const length = receiveWithFiles(this.fd, reply, files);
    const v = reply.view;
    if (length < postern_reply.size || REPLY.magic.get(v, 0) !== POSTERN_MAGIC || REPLY.call.get(v, 0) !== this.calls) {
      throw new XenDeviceError(ERRNO.EIO, `${call.name} (no answer from the host at ${this.path})`);
    }
    const at = this.takeOutputs(blocks);
    const ret = REPLY.ret.get(v, 0);
    if (ret < 0) {
      for (const fd of files) libc.close(fd);
      throw new XenDeviceError(-ret, call.name);
    }
    return { ret, runs: readRuns(REPLY.nr_runs.get(v, 0), at), files };
  }

  /** Waits for the answer to an open. A host that has no room closes the new connection instead. */
  private isAnswered(file: number): boolean {
    for (const [i, fd] of [this.fd, file].entries()) {
      request.view.setInt32(i * 8, fd, true);
      request.view.setInt32(i * 8 + 4, i === 0 ? POLLIN : 0, true); // the other one is only looked at for its end
    }
    while (libc.poll(request.address, 2, -1) < 0);
    return request.view.getInt16(6, true) !== 0;
  }

  private send(file: number, call: Call, blocks: readonly Block[]): void {
    const v = request.view;
    postern_request.write(v, 0, {
      magic: POSTERN_MAGIC,
      kind: call.kind,
      flags: call.flags ?? 0,
      process: this.id,
      call: call.kind === POSTERN_HELLO ? 0 : ++this.calls,
      token: this.token,
      arg: call.arg ?? 0,
      cmd: call.cmd ?? 0,
      nr_blocks: blocks.length,
    });
    let at = postern_request.size + blocks.length * postern_block.size;
    for (const [i, { bytes, writable, data }] of blocks.entries()) {
      const flags = (data === false ? 0 : POSTERN_BLOCK_DATA) | (writable ? POSTERN_BLOCK_WRITABLE : 0);
      const block = { address: blockAddress(i), size: bytes.length, flags };
      postern_block.write(v, postern_request.size + i * postern_block.size, block);
      if (data === false) continue;
      request.bytes.set(bytes, at);
      at += bytes.length;
    }
    if (libc.send(file, request.address, at, MSG_NOSIGNAL) !== at) {
      const number = errno();
      throw new XenDeviceError(number === ERRNO.EMSGSIZE ? number : ERRNO.EIO, `${call.name} (host ${this.path})`);
    }
  }

  /** Copies what the host wrote back into the blocks. @returns where in the reply the runs begin */
  private takeOutputs(blocks: readonly Block[]): number {
    const v = reply.view;
    let entry: number = postern_reply.size;
    const length = REPLY.length.get(v, 0);
    if (!(REPLY.flags.get(v, 0) & POSTERN_REPLY_SCATTERED)) {
      blocks.at(-1)?.bytes.set(reply.bytes.subarray(entry, entry + length));
      return entry + length;
    }
    const nrOut = REPLY.nr_out.get(v, 0);
    let data = entry + nrOut * postern_out.size;
    for (let i = 0; i < nrOut; i++, entry += postern_out.size) {
      const out = postern_out.read(v, entry);
      blocks[out.block]?.bytes.set(reply.bytes.subarray(data, data + out.length), out.offset);
      data += out.length;
    }
    return data;
  }
}

function readRuns(nrRuns: number, from: number): Run[] {
  return Array.from({ length: nrRuns }, (_, i) => {
    const run = postern_run.read(reply.view, from + i * postern_run.size);
    return { page: run.page, nrPages: run.nr_pages, file: run.file, frame: run.frame };
  });
}
