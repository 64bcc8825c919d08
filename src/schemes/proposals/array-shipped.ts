/**
 * The guest-handle array as shipped: the product's own privcmd (src/dom0/privcmd.ts) over a process of the model, and the
 * product's own hypervisor (src/hypervisor/hypercalls/dm-op). Here is only what stands for the machine between them: user
 * memory, copied with the kernel's rights.
 */
import { encode, u16 } from '../../abi/layout.js';
import {
  IOCTL_PRIVCMD_DM_OP,
  IOCTL_PRIVCMD_HYPERCALL,
  IOCTL_PRIVCMD_RESTRICT,
  privcmd_hypercall,
} from '../../abi/linux/privcmd.js';
import type { GuestBuffer } from '../../boundary/guest-buffer.js';
import type { Hypercalls } from '../../boundary/hypercalls.js';
import type { Operation } from '../../boundary/operation.js';
import { XenError } from '../../boundary/xen-error.js';
import { PrivcmdFile } from '../../dom0/privcmd.js';
import type { Platform as Audit, Process, UserMemory } from '../../dom0/process.js';
import { DmOpBuffers } from '../../hypervisor/hypercalls/dm-op/dm-op-buffers.js';
import type { ModelProcess } from '../model/process.js';
import type { World } from '../model/world.js';
import { NEW_OPERATIONS, PAYLOAD, runNew, STRUCT_SIZE } from '../operations.js';
import { attempt, type DmCall, type Proposal, type Result } from '../proposal.js';
import { type ArrayFile, ArraySession } from './array-session.js';
import { AuditedBuffer } from './copying.js';
import { actorOf } from './pointer-session.js';

/** A model process's memory as privcmd and the hypervisor reach it: with no checks but privcmd's own. */
class ModelUserMemory implements UserMemory {
  constructor(
    private readonly world: World,
    private readonly process: ModelProcess,
  ) {}

  copyIn(address: number, into: Uint8Array): void {
    this.world.kernelAllocates(into.length);
    this.world.copyVirtual(actorOf(this.process), this.process.space, BigInt(address), into, 'read');
  }

  copyOut(address: number, from: Uint8Array): void {
    this.world.copyVirtual(actorOf(this.process), this.process.space, BigInt(address), from, 'write');
  }

  pinForWrite(address: number, size: number): void {
    this.world.scheduler.point('kernel pins pages');
    if (size === 0) return;
    const first = BigInt(address) - (BigInt(address) % 4096n);
    for (let page = first; page < BigInt(address) + BigInt(size); page += 4096n) {
      if (page < this.world.platform.kernelBase && !this.process.space.pin(page)) {
        throw new XenError('EFAULT', `nothing writable at 0x${page.toString(16)}`);
      }
    }
  }
}

class ShippedFile implements ArrayFile {
  readonly countBytes = 2;
  private readonly file: PrivcmdFile;

  constructor(
    private readonly world: World,
    audit: Audit,
    private readonly canRestrict: boolean,
  ) {
    const calls = world.hypervisor.callsOfDom0();
    const checked: Audit = {
      accessOk(address, size) {
        world.scheduler.point('kernel checks a range');
        return audit.accessOk(address, size);
      },
    };
    this.file = new PrivcmdFile(world.hasNewOperations ? withNewOperations(world, calls) : calls, checked);
  }

  ioctlDmOp(process: ModelProcess, argument: bigint): number {
    return this.ioctl(process, IOCTL_PRIVCMD_DM_OP, argument);
  }

  restrict(process: ModelProcess, domid: number, scratch: bigint): number {
    process.write(scratch, encode(u16, domid));
    return this.canRestrict ? this.ioctl(process, IOCTL_PRIVCMD_RESTRICT, scratch) : 0;
  }

  hypercall(process: ModelProcess, op: number, args: readonly bigint[], scratch: bigint): number {
    const arg = Array.from({ length: 5 }, (_, i) => args[i] ?? 0n);
    process.write(scratch, encode(privcmd_hypercall, { op: BigInt(op), arg }));
    const ret = this.ioctl(process, IOCTL_PRIVCMD_HYPERCALL, scratch);
    this.world.breach('restriction', 'a plain hypercall went through');
    return ret;
  }

  private ioctl(process: ModelProcess, cmd: number, argument: bigint): number {
    try {
      const result = this.file.ioctl(cmd, Number(argument), this.asSeenByPrivcmd(process));
      return typeof result === 'number' ? result : this.world.runToEnd(result);
    } finally {
      process.space.unpinAll();
    }
  }

  private asSeenByPrivcmd(process: ModelProcess): Process {
    const { world } = this;
    const actor = actorOf(process);
    return {
      pid: process.pid,
      memory: new ModelUserMemory(world, process),
      addressSpace: {
        area: () => 'none',
        mapFrames: () => {
          throw new Error('no area to map into');
        },
      },
      hypercallMemory: {
        copyFrom: (address, into) => world.copyVirtual(actor, process.space, address, into, 'read'),
        copyTo: (address, from) => world.copyVirtual(actor, process.space, address, from, 'write'),
      },
    };
  }
}

/**
 * The product's hypervisor, one release later: with the operations that Xen doesn't have. What a new release adds is an
 * entry in the table of operations, and room for a third buffer.
 */
function withNewOperations(world: World, calls: Hypercalls): Hypercalls {
  const dmOp = (domid: number, buffers: readonly GuestBuffer[]): Operation => {
    const known = calls.dmOp(domid, buffers);
    return {
      run(preemption) {
        const framed = new DmOpBuffers(buffers);
        framed.open();
        const struct = new Uint8Array(framed.view.buffer, 0, STRUCT_SIZE).slice();
        framed.close();
        const op = new DataView(struct.buffer).getUint32(0, true);
        if (!NEW_OPERATIONS.some((number) => number === op)) return known.run(preemption);
        const get = (index: number) => buffers[index];
        const nested = (index: bigint) => buffers[Number(index)];
        return runNew(world, 'attacker', op, domid, struct, { get, nested, unchecked: get });
      },
    };
  };
  return {
    dmOp,
    hypercall: (op, args, memory) => calls.hypercall(op, args, memory),
    foreignFrames: (domid, gfns) => calls.foreignFrames(domid, gfns),
    resourceSize: (domid, type, id) => calls.resourceSize(domid, type, id),
    resourceFrames: (domid, type, id, frame, nr) => calls.resourceFrames(domid, type, id, frame, nr),
    events: calls.events,
  };
}

/** The kernel's own call: the same hypercall, with buffers that nobody has to audit. */
function kernelCall(world: World, call: DmCall): Result {
  const struct = new Uint8Array(STRUCT_SIZE);
  new DataView(struct.buffer).setUint32(0, call.op, true);
  struct.set(call.payload ?? new Uint8Array(0), PAYLOAD);
  const { space } = world.attacker;
  world.copyVirtual('kernel', space, world.kernelBuffer, struct, 'write');
  const all = [{ address: world.kernelBuffer, size: BigInt(STRUCT_SIZE) }, ...(call.blocks ?? [])];
  const buffers = all.map(({ address, size }) => new AuditedBuffer(world, 'kernel', space, address, Number(size)));
  return attempt(() => world.runToEnd(world.hypervisor.callsOfDom0().dmOp(call.domid, buffers)));
}

export const arrayShipped: Proposal = {
  id: 'array-shipped',
  name: 'Guest-handle array, as shipped',
  product: true,
  summary:
    'the same with bounds: 16 buffers of 4096 bytes pass the kernel, 2 the hypervisor; a short struct is refused',
  open: (world, process) => new ArraySession(world, new ShippedFile(world, world.platform.audit, true), process),
  kernelCall,
  sources: {
    kernel: [
      { file: 'src/dom0/privcmd.ts', from: 'private dmOp(' },
      { file: 'src/dom0/user-buffer.ts', from: 'export class' },
    ],
    hypervisor: [{ file: 'src/hypervisor/hypercalls/dm-op/dm-op-buffers.ts', from: 'export const PAYLOAD' }],
  },
};

/** The product's code with an audit that was got wrong, or without the restriction. */
function brokenShipped(id: string, name: string, audit: (world: World) => Audit, canRestrict = true): Proposal {
  return {
    ...arrayShipped,
    id: `array-shipped/${id}`,
    name,
    summary: name,
    product: false,
    brokenFormOf: 'array-shipped',
    open: (world, process) => new ArraySession(world, new ShippedFile(world, audit(world), canRestrict), process),
  };
}

export const BROKEN_SHIPPED: readonly Proposal[] = [
  brokenShipped('no-audit', 'Shipped array, access_ok always says yes', () => ({ accessOk: () => true })),
  brokenShipped('start-only', 'Shipped array, access_ok looks at the first byte only', ({ platform }) => ({
    accessOk: (address) => platform.audit.accessOk(address, 0),
  })),
  brokenShipped('unrestricted', 'Shipped array, RESTRICT does nothing', ({ platform }) => platform.audit, false),
];
