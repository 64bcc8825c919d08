/**
 * What both forms of the guest-handle array share: the call names an array of (address, size), and the struct is its
 * first element.
 *
 *     ioctl argument   0 domid   2 or 4 count   8 address of the array
 */
import { privcmd_dm_op_buf } from '../../abi/linux/privcmd.js';
import type { ModelProcess } from '../model/process.js';
import type { World } from '../model/world.js';
import { PAYLOAD, STRUCT_SIZE } from '../operations.js';
import { attempt, type Block, type DmCall, type PreparedCall, type Result, type Session } from '../proposal.js';

const ARRAY = 64n;
const STRUCT = 512n;
const ELEMENT = BigInt(privcmd_dm_op_buf.size);
/** As many elements as are written; a count may claim more. */
const MAX_WRITTEN = 20;

/** An open file. */
export interface ArrayFile {
  /** Bytes of the argument's count: Linux has 16 bits, the minutes don't say. */
  readonly countBytes: 2 | 4;
  ioctlDmOp(process: ModelProcess, argument: bigint): number;
  restrict(process: ModelProcess, domid: number, scratch: bigint): number;
  hypercall(process: ModelProcess, op: number, args: readonly bigint[], scratch: bigint): number;
}

export class ArraySession implements Session {
  private readonly scratch: bigint;

  constructor(
    private readonly world: World,
    private readonly file: ArrayFile,
    readonly process: ModelProcess,
  ) {
    this.scratch = process.allocate(1, 'call');
  }

  declare(): Result {
    return { ret: 0, reason: 'nothing has to be declared' };
  }

  memory(nrPages: number): bigint {
    return this.process.allocate(nrPages, 'block');
  }

  restrict(domid: number): Result {
    return attempt(() => this.file.restrict(this.process, domid, this.scratch + 2048n));
  }

  hypercall(op: number, args: readonly bigint[]): Result {
    return this.world.scheduler.during(() =>
      attempt(() => this.file.hypercall(this.process, op, args, this.scratch + 2048n)),
    );
  }

  inherit(process: ModelProcess): Session {
    return new ArraySession(this.world, this.file, process);
  }

  prepare(call: DmCall): PreparedCall {
    const { process, scratch } = this;
    const struct = call.first?.address ?? scratch + STRUCT;
    const size = call.first?.size ?? BigInt(STRUCT_SIZE);
    const blocks: Block[] = [{ address: struct, size }, ...(call.blocks ?? [])];
    this.writeStruct(struct, call);
    blocks.slice(0, MAX_WRITTEN).forEach((block, i) => {
      process.writeU64(scratch + ARRAY + BigInt(i) * ELEMENT, block.address);
      process.writeU64(scratch + ARRAY + BigInt(i) * ELEMENT + 8n, block.size);
    });
    process.write(scratch, this.argument(call.domid, call.count ?? blocks.length));
    const element = (i: number) => scratch + ARRAY + BigInt(i) * ELEMENT;
    return {
      where: {
        struct,
        domid: scratch,
        handles: [1, 2].map((i) => ({ address: element(i), size: element(i) + 8n })),
        // A handle inside a block is the number of another block.
        handleFor: (address) => {
          const index = blocks.findIndex((block) => block.address === address);
          return index < 0 ? address : BigInt(index);
        },
      },
      go: () => this.world.scheduler.during(() => attempt(() => this.file.ioctlDmOp(process, scratch))),
    };
  }

  private argument(domid: number, count: number): Uint8Array {
    const bytes = new Uint8Array(16);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, domid, true);
    if (this.file.countBytes === 2) view.setUint16(2, Math.min(count, 0xffff), true);
    else view.setUint32(4, count, true);
    view.setBigUint64(8, this.scratch + ARRAY, true);
    return bytes;
  }

  private writeStruct(at: bigint, { op, payload }: DmCall): void {
    const bytes = new Uint8Array(STRUCT_SIZE);
    new DataView(bytes.buffer).setUint32(0, op, true);
    bytes.set((payload ?? new Uint8Array(0)).subarray(0, STRUCT_SIZE - PAYLOAD), PAYLOAD);
    for (let i = 0; i < bytes.length; i++) {
      if (this.process.space.walkUser(at + BigInt(i))) this.process.write(at + BigInt(i), bytes.subarray(i, i + 1));
    }
  }
}
