/**
 * A client of the connection protocol that says whatever it is told to, byte by byte: the hostile one, and the
 * well-behaved one beside it that must not notice.
 */
import koffi from 'koffi';
import { ERRNO } from '../../dist/abi/errno.js';
import { IOCTL_EVTCHN_BIND_UNBOUND_PORT, IOCTL_EVTCHN_NOTIFY } from '../../dist/abi/linux/evtchn.js';
import { IOCTL_PRIVCMD_DM_OP } from '../../dist/abi/linux/privcmd.js';
import {
  allocateNative,
  errno,
  libc,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  POLLIN,
  SOCK_SEQPACKET,
} from '../../dist/host/libc.js';
import {
  MAX_MESSAGE,
  POSTERN_BLOCK_DATA,
  POSTERN_BLOCK_WRITABLE,
  POSTERN_HELLO,
  POSTERN_IOCTL,
  POSTERN_MAGIC,
  POSTERN_OPEN,
  POSTERN_VERSION,
  postern_block,
  postern_reply,
  postern_request,
} from '../../dist/host/protocol.js';
import { connectUnix, receiveWithFiles, sendWithFiles } from '../../dist/host/unix-socket.js';

const shutdown = koffi.load('libc.so.6').func('int shutdown(int fd, int how)') as (fd: number, how: number) => number;
const ANSWER_LIMIT_MS = 10_000;
const scratch = allocateNative(MAX_MESSAGE + 0x80000);
const pollfd = allocateNative(4096);

/** Where the memory blocks of requests claim to be; nobody ever looks there. */
export const SOMEWHERE = 0x7f00_0000_0000;

export interface Block {
  readonly address?: number;
  readonly data?: Uint8Array;
  /** What the header says, where it lies. */
  readonly size?: number;
  readonly flags?: number;
}

export interface Message {
  readonly magic?: number;
  readonly kind: number;
  readonly flags?: number;
  readonly process?: number;
  readonly call?: number;
  readonly token?: bigint;
  readonly arg?: bigint;
  readonly cmd?: number;
  readonly blocks?: readonly Block[];
  /** What the header says, where it lies. */
  readonly nrBlocks?: number;
}

/** The bytes of a message, true to what it says. */
export function encodeMessage(message: Message): Buffer {
  const { blocks = [] } = message;
  const headers = Buffer.alloc(postern_request.size + blocks.length * postern_block.size);
  headers.writeUInt32LE(message.magic ?? POSTERN_MAGIC, 0);
  headers.writeUInt16LE(message.kind, 4);
  headers.writeUInt16LE(message.flags ?? 0, 6);
  headers.writeUInt32LE(message.process ?? 0, 8);
  headers.writeUInt32LE(message.call ?? 1, 12);
  headers.writeBigUInt64LE(message.token ?? 0n, 16);
  headers.writeBigUInt64LE(message.arg ?? 0n, 24);
  headers.writeUInt32LE(message.cmd ?? 0, 32);
  headers.writeUInt32LE(message.nrBlocks ?? blocks.length, 36);
  const data: Uint8Array[] = [];
  for (const [i, block] of blocks.entries()) {
    const at = postern_request.size + i * postern_block.size;
    headers.writeBigUInt64LE(BigInt(block.address ?? SOMEWHERE), at);
    headers.writeUInt32LE(block.size ?? block.data?.length ?? 0, at + 8);
    headers.writeUInt32LE(block.flags ?? (block.data ? POSTERN_BLOCK_DATA | POSTERN_BLOCK_WRITABLE : 0), at + 12);
    if (block.data) data.push(block.data);
  }
  return Buffer.concat([headers, ...data]);
}

/** One packet connection to the host. */
export class RawConnection {
  /** Called before anything is waited for: where the host is in this thread, it gets its turn here. */
  static pump: () => void = () => {};
  readonly fd: number;
  private isOpen = true;

  constructor(path: string) {
    this.fd = connectUnix(path, SOCK_SEQPACKET);
  }

  /** @returns whether the kernel took it; a full queue or a closed connection does not */
  send(bytes: Uint8Array, files: readonly number[] = []): boolean {
    scratch.bytes.set(bytes);
    if (files.length > 0) return sendWithFiles(this.fd, scratch, bytes.length, files) === bytes.length;
    return libc.send(this.fd, scratch.address, bytes.length, MSG_DONTWAIT | MSG_NOSIGNAL) === bytes.length;
  }

  /** The next packet; undefined once the host has closed the connection. */
  receive(limitMs = ANSWER_LIMIT_MS): Buffer | undefined {
    if (!this.isReadable(limitMs)) throw new Error(`no answer within ${limitMs} ms`);
    const files: number[] = [];
    const n = receiveWithFiles(this.fd, scratch, files);
    for (const file of files) libc.close(file);
    return n > 0 ? Buffer.from(scratch.bytes.subarray(0, n)) : undefined;
  }

  isReadable(limitMs = 0): boolean {
    RawConnection.pump();
    pollfd.view.setInt32(0, this.fd, true);
    pollfd.view.setUint32(4, POLLIN, true);
    for (const deadline = Date.now() + limitMs; ; ) {
      const n = libc.poll(pollfd.address, 1, Math.max(0, deadline - Date.now()));
      if (n >= 0 || errno() !== ERRNO.EINTR) return n > 0; // a signal, such as that of a child, is no answer
    }
  }

  /** Reads until the host closes the connection. @returns whether it did */
  isClosedByHost(limitMs = ANSWER_LIMIT_MS): boolean {
    for (;;) {
      if (!this.isReadable(limitMs)) return false;
      if (this.receive() === undefined) return true;
    }
  }

  /** Tells the host that nothing more will be sent; answers could still come. */
  endSending(): void {
    shutdown(this.fd, 1);
  }

  close(): void {
    if (this.isOpen) libc.close(this.fd);
    this.isOpen = false;
  }
}

export interface Reply {
  readonly call: number;
  readonly ret: number;
  readonly bytes: Buffer;
}

/** A client process: its own connection, and what the host said of it. */
export class RawProcess {
  readonly own: RawConnection;
  readonly id: number;
  readonly token: bigint;
  private readonly files: RawConnection[] = [];
  private nextCall = 1;

  constructor(readonly path: string) {
    this.own = new RawConnection(path);
    this.own.send(encodeMessage({ kind: POSTERN_HELLO, arg: BigInt(POSTERN_VERSION) }));
    const welcome = this.own.receive();
    if (welcome === undefined) throw new Error('the host refused a well-behaved client');
    this.id = postern_reply.fields.process.get(new DataView(welcome.buffer, welcome.byteOffset), 0);
    this.token = welcome.readBigUInt64LE(postern_reply.fields.token.offset);
  }

  /** A message of this process, without its answer. */
  message(message: Message): Buffer {
    return encodeMessage({ process: this.id, token: this.token, ...message });
  }

  call(on: RawConnection, message: Message): Reply {
    const call = this.nextCall++;
    on.send(this.message({ ...message, call }));
    return this.answer(call);
  }

  /** The next answer, which must be this call's. */
  answer(call: number): Reply {
    const bytes = this.own.receive();
    if (bytes === undefined) throw new Error('the host closed the connection of a well-behaved client');
    const reply = { call: bytes.readUInt32LE(4), ret: bytes.readInt32LE(8), bytes };
    if (reply.call !== call) throw new Error(`an answer to call ${reply.call} came for call ${call}`);
    return reply;
  }

  open(device: string): RawConnection {
    const file = new RawConnection(this.path);
    this.files.push(file);
    const { ret } = this.call(file, { kind: POSTERN_OPEN, blocks: [{ data: Buffer.from(device) }] });
    if (ret !== 0) throw new Error(`open ${device}: ${ret}`);
    return file;
  }

  ioctl(file: RawConnection, cmd: number, argument: Uint8Array, more: readonly Block[] = []): Reply {
    const blocks = [{ data: argument }, ...more];
    return this.call(file, { kind: POSTERN_IOCTL, cmd, arg: BigInt(SOMEWHERE), blocks });
  }

  close(): void {
    for (const file of this.files) file.close();
    this.own.close();
  }
}

/** The blocks of a DM_OP with these buffers, as the library sends them. */
export function dmOpBlocks(domid: number, buffers: readonly Uint8Array[]): Block[] {
  const list = SOMEWHERE + 0x1000;
  const argument = Buffer.alloc(16);
  argument.writeUInt16LE(domid, 0);
  argument.writeUInt16LE(buffers.length, 2);
  argument.writeBigUInt64LE(BigInt(list), 8);
  const entries = Buffer.alloc(buffers.length * 16);
  const blocks: Block[] = [{ data: argument }, { address: list, data: entries }];
  for (const [i, data] of buffers.entries()) {
    const address = SOMEWHERE + 0x100000 * (i + 1);
    entries.writeBigUInt64LE(BigInt(address), i * 16);
    entries.writeBigUInt64LE(BigInt(data.length), i * 16 + 8);
    blocks.push({ address, data });
  }
  return blocks;
}

export function dmOp(process: RawProcess, file: RawConnection, domid: number, buffers: readonly Uint8Array[]): Reply {
  const [argument, ...more] = dmOpBlocks(domid, buffers) as [{ data: Uint8Array }, ...Block[]];
  return process.ioctl(file, IOCTL_PRIVCMD_DM_OP, argument.data, more);
}

/** Someone who does nothing wrong, and counts on the host. */
export class GoodClient extends RawProcess {
  private readonly privcmd = this.open('privcmd');
  private readonly evtchn = this.open('evtchn');

  /** XEN_DMOP_nr_vcpus. @returns the number, or the call's negative errno */
  nrVcpus(domid: number): number {
    const op = Buffer.alloc(64);
    op.writeUInt32LE(20, 0);
    const { ret, bytes } = dmOp(this, this.privcmd, domid, [op]);
    return ret < 0 ? ret : bytes.readUInt32LE(postern_reply.size + 8);
  }

  /** A channel of its own, rung once. */
  ring(domid: number): number {
    const remote = Buffer.alloc(4);
    remote.writeUInt32LE(domid);
    const port = this.ioctl(this.evtchn, IOCTL_EVTCHN_BIND_UNBOUND_PORT, remote).ret;
    const argument = Buffer.alloc(4);
    argument.writeUInt32LE(port);
    return port < 0 ? port : this.ioctl(this.evtchn, IOCTL_EVTCHN_NOTIFY, argument).ret;
  }
}
