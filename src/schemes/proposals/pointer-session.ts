/**
 * What the proposals share that keep the interface of 2016: the call names one struct, and pointers are inside it. The
 * restriction to a domain is common to all but today's pass-through, and as strict as the product's: the comparison is
 * about memory.
 *
 *     ioctl argument   0 domid   8 address of the struct
 */
import { XenError } from '../../boundary/xen-error.js';
import type { AddressSpace } from '../model/address-space.js';
import type { ModelProcess } from '../model/process.js';
import type { World } from '../model/world.js';
import { blockSizes, OLD_STRUCT_SIZE, PAYLOAD, STRUCT_SIZE } from '../operations.js';
import { attempt, type CallLayout, type DmCall, type PreparedCall, type Result, type Session } from '../proposal.js';

const ARGUMENT = 0n;
const STRUCT = 64n;
const PTR = 8n;

/** An open file, which more than one process may hold. */
export interface PointerFile {
  /** The ioctl's work: checks, then has the hypervisor do it. @throws XenError */
  dmOp(process: ModelProcess, domid: number, struct: bigint): number;
  declare?(process: ModelProcess, address: bigint, size: number): number;
  /** Memory in a certain place, where calls must use it. */
  allocate?(process: ModelProcess, nrPages: number): bigint;
  /** What has to be written for "the memory at `address`" where it isn't the address. */
  handleFor?(process: ModelProcess, address: bigint, isHonest: boolean): bigint;
  /** The word that says "restricted" in the struct, where the program has to set it. */
  readonly flagInStruct?: number;
  /** Where nothing is restricted at all. */
  readonly isUnrestrictable?: boolean;
  restrictedTo: number | undefined;
}

export class PointerSession implements Session {
  private readonly scratch: bigint;

  constructor(
    private readonly world: World,
    private readonly file: PointerFile,
    readonly process: ModelProcess,
  ) {
    this.scratch = file.allocate?.(process, 1) ?? process.allocate(1, 'call');
    this.declare(this.scratch, 4096);
  }

  declare(address: bigint, size: number): Result {
    return attempt(() => this.file.declare?.(this.process, address, size) ?? 0);
  }

  memory(nrPages: number): bigint {
    const address = this.file.allocate?.(this.process, nrPages) ?? this.process.allocate(nrPages, 'block');
    this.declare(address, nrPages * 4096);
    return address;
  }

  restrict(domid: number): Result {
    const { file } = this;
    return attempt(() => {
      if (file.isUnrestrictable) return 0;
      if (file.restrictedTo !== undefined && file.restrictedTo !== domid) {
        throw new XenError('EINVAL', `file is restricted to domain ${file.restrictedTo} already`);
      }
      file.restrictedTo = domid;
      return 0;
    });
  }

  hypercall(): Result {
    return attempt(() => {
      if (!this.file.isUnrestrictable) throw new XenError('EPERM', 'file is restricted: no plain hypercalls');
      this.world.breach('restriction', 'a plain hypercall went through');
      return 0;
    });
  }

  inherit(process: ModelProcess): Session {
    return new PointerSession(this.world, this.file, process);
  }

  prepare(call: DmCall): PreparedCall {
    const { process, file, scratch } = this;
    const struct = call.first?.address ?? scratch + STRUCT;
    const handleFor = (address: bigint) => file.handleFor?.(process, address, call.isHonest ?? false) ?? address;
    writeWhatFits(process, struct, this.encode(call, handleFor));
    const argument = new Uint8Array(16);
    const view = new DataView(argument.buffer);
    view.setUint16(0, call.domid, true);
    view.setBigUint64(8, file.allocate ? handleFor(struct) : struct, true);
    process.write(scratch + ARGUMENT, argument);
    const where: CallLayout = {
      struct,
      domid: scratch,
      handles: [0n, 1n].map((i) => ({ address: struct + BigInt(STRUCT_SIZE) + i * PTR })),
      ...(file.flagInStruct !== undefined && { flag: struct + 4n }),
      handleFor,
    };
    return { where, go: () => this.go() };
  }

  private encode(call: DmCall, handleFor: (address: bigint) => bigint): Uint8Array {
    const bytes = new Uint8Array(OLD_STRUCT_SIZE);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, call.op, true);
    if (!call.leaveOutFlag) view.setUint32(4, this.file.flagInStruct ?? 0, true);
    bytes.set((call.payload ?? new Uint8Array(0)).subarray(0, 24), PAYLOAD);
    const told = call.count === undefined ? call.blocks : call.blocks?.slice(0, Math.max(call.count - 1, 0));
    told?.slice(0, 2).forEach(({ address }, i) => {
      view.setBigUint64(STRUCT_SIZE + i * 8, BigInt.asUintN(64, handleFor(address)), true);
    });
    return bytes;
  }

  private go(): Result {
    const { world, file, process } = this;
    return world.scheduler.during(() =>
      attempt(() => {
        const argument = new Uint8Array(16);
        world.copyVirtual(actorOf(process), process.space, this.scratch + ARGUMENT, argument, 'read');
        const view = new DataView(argument.buffer);
        const domid = view.getUint16(0, true);
        if (!file.isUnrestrictable && file.restrictedTo !== undefined && file.restrictedTo !== domid) {
          throw new XenError('EPERM', `file is restricted to domain ${file.restrictedTo}, call is for ${domid}`);
        }
        return file.dmOp(process, domid, view.getBigUint64(8, true));
      }),
    );
  }
}

export function actorOf(process: ModelProcess): 'attacker' | 'other' {
  return process.owner === 'other' ? 'other' : 'attacker';
}

/** access_ok. */
export function requireUser(world: World, address: bigint, size: number): void {
  const { userEnd } = world.platform;
  world.scheduler.point('kernel checks a range');
  if (BigInt(size) > userEnd || address > userEnd - BigInt(size)) {
    throw new XenError('EFAULT', `${size} bytes at 0x${address.toString(16)} are not in user space`);
  }
}

/** The hypervisor's copy of a struct in the caller's memory: one copy, of the largest struct. */
export function fetchStruct(world: World, process: ModelProcess, address: bigint, hasFlags = false): Uint8Array {
  const struct = new Uint8Array(OLD_STRUCT_SIZE);
  world.copyVirtual(actorOf(process), process.space, address, struct, 'read');
  if (!hasFlags) struct.fill(0, 4, 8); // nobody looks at the word
  return struct;
}

/** Results go back to where the struct came from. */
export function returnStruct(world: World, process: ModelProcess, address: bigint, struct: Uint8Array): void {
  const at = address + BigInt(PAYLOAD);
  world.copyVirtual(actorOf(process), process.space, at, struct.subarray(PAYLOAD, STRUCT_SIZE), 'write');
}

/** A handle field of a struct, with the size that the operation gives the block. */
export function handleOf(struct: Uint8Array, index: number): { handle: bigint; size: number } | undefined {
  const view = new DataView(struct.buffer);
  const size = blockSizes(view.getUint32(0, true), struct)[index - 1];
  if (size === undefined || index > 2) return undefined;
  return { handle: view.getBigUint64(STRUCT_SIZE + (index - 1) * 8, true), size };
}

/** Names memory as the platform's hypercalls do; an honest program doesn't know where its memory lies physically. */
export function nameMemory(world: World, space: AddressSpace, address: bigint, isHonest: boolean): bigint {
  if (world.platform.addressing === 'virtual' || isHonest) return address;
  return world.physicalOf(space, address);
}

function writeWhatFits(process: ModelProcess, address: bigint, bytes: Uint8Array): void {
  for (let i = 0; i < bytes.length; i++) {
    const at = address + BigInt(i);
    if (process.space.walkUser(at)) process.write(at, bytes.subarray(i, i + 1));
  }
}
