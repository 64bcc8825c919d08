/**
 * The guest-handle array as the minutes have it: the kernel checks every element with access_ok and knows nothing else.
 * The first block is copied into zeroed memory of the largest op's size, after a check that it isn't larger; there is no
 * smallest size. Further elements are ignored, and one that is missing is NULL to the operation's code.
 *
 * `flaws` are ways to get it wrong, one each, for the deliberately broken forms.
 */
import type { GuestBuffer } from '../../boundary/guest-buffer.js';
import { XenError } from '../../boundary/xen-error.js';
import type { ModelProcess } from '../model/process.js';
import type { Actor, World } from '../model/world.js';
import { type Blocks, execute, PAYLOAD, STRUCT_SIZE } from '../operations.js';
import { attempt, type DmCall, markedParts, type Proposal, type Result } from '../proposal.js';
import { type ArrayFile, ArraySession } from './array-session.js';
import { AuditedBuffer, RawBuffer } from './copying.js';
import { actorOf, requireUser } from './pointer-session.js';

export type Flaw =
  | 'audits-first-only'
  | 'audits-start-only'
  | 'audits-wrapped-end'
  | 'reads-array-twice'
  | 'reads-domid-twice'
  | 'garbage-for-missing'
  | 'not-zeroed'
  | 'copies-out-whole'
  | 'no-size-bound'
  | 'not-preemptible'
  | 'restricts-again'
  | 'restricts-process'
  | 'restricts-first-open'
  | 'no-domid-check'
  | 'hypercalls-allowed'
  | 'no-pinning'
  | 'no-count-bound'
  | 'asserts-on-missing';

type Flaws = ReadonlySet<Flaw>;

/** For 'restricts-first-open': where a file has been restricted. */
const restrictedOnce = new WeakSet<World>();

// kernel part: begin
class MinutedFile implements ArrayFile {
  readonly countBytes = 4;
  private restrictedTo: number | undefined;
  private restrictedProcess: ModelProcess | undefined;

  constructor(
    private readonly world: World,
    private readonly flaws: Flaws,
    private readonly hypervisor: MinutedHypervisor,
  ) {}

  restrict(process: ModelProcess, domid: number): number {
    if (this.restrictedTo !== undefined && this.restrictedTo !== domid && !this.flaws.has('restricts-again')) {
      throw new XenError('EINVAL', `file is restricted to domain ${this.restrictedTo} already`);
    }
    if (this.flaws.has('restricts-first-open') && restrictedOnce.has(this.world)) return 0;
    if (this.flaws.has('restricts-first-open')) restrictedOnce.add(this.world);
    this.restrictedTo = domid;
    this.restrictedProcess = process;
    return 0;
  }

  hypercall(): number {
    if (this.restrictedTo !== undefined && !this.flaws.has('hypercalls-allowed')) {
      throw new XenError('EPERM', 'file is restricted: no plain hypercalls');
    }
    this.world.breach('restriction', 'a plain hypercall went through');
    return 0;
  }

  ioctlDmOp(process: ModelProcess, argument: bigint): number {
    const { world, flaws } = this;
    let view = this.fetch(process, argument, 16);
    let domid = view.getUint16(0, true);
    this.requireDomain(process, domid);
    if (flaws.has('reads-domid-twice')) {
      view = this.fetch(process, argument, 16);
      domid = view.getUint16(0, true);
    }
    const count = view.getUint32(4, true);
    if (count === 0) return flaws.has('garbage-for-missing') ? this.hypervisor.call(actorOf(process), domid, []) : 0;
    if (count > 16 && flaws.has('no-count-bound')) world.breach('no-crash', `${count} handles copied into room for 16`);
    world.kernelAllocates(count * 16);
    const array = view.getBigUint64(8, true);
    const blocks = this.audit(process, array, count);
    try {
      return this.hypervisor.call(actorOf(process), domid, blocks);
    } finally {
      process.space.unpinAll();
    }
  }

  private requireDomain(process: ModelProcess, domid: number): void {
    const { flaws, restrictedTo } = this;
    if (restrictedTo === undefined || flaws.has('no-domid-check')) return;
    if (flaws.has('restricts-process') && process !== this.restrictedProcess) return;
    if (domid === restrictedTo) return;
    throw new XenError('EPERM', `file is restricted to domain ${restrictedTo}, call is for ${domid}`);
  }

  private fetch(process: ModelProcess, address: bigint, size: number): DataView {
    requireUser(this.world, address, size);
    const bytes = new Uint8Array(size);
    this.world.copyVirtual(actorOf(process), process.space, address, bytes, 'read');
    return new DataView(bytes.buffer);
  }

  private audit(process: ModelProcess, array: bigint, count: number): GuestBuffer[] {
    const { flaws } = this;
    let view = this.fetch(process, array, count * 16);
    for (let i = 0; i < count; i++) {
      if (i > 0 && flaws.has('audits-first-only')) break;
      this.check(view.getBigUint64(i * 16, true), view.getBigUint64(i * 16 + 8, true));
    }
    if (flaws.has('reads-array-twice')) view = this.fetch(process, array, count * 16);
    return Array.from({ length: count }, (_, i) => {
      const address = view.getBigUint64(i * 16, true);
      const size = Number(view.getBigUint64(i * 16 + 8, true));
      if (!flaws.has('no-pinning')) this.pin(process, address, size);
      return this.buffer(process, address, size);
    });
  }

  private buffer(process: ModelProcess, address: bigint, size: number): GuestBuffer {
    const { world, flaws } = this;
    if (world.platform.addressing === 'physical' && flaws.has('no-pinning')) {
      return new RawBuffer(world, actorOf(process), process.space, world.physicalOf(process.space, address), size);
    }
    return new AuditedBuffer(world, actorOf(process), process.space, address, size);
  }

  private check(address: bigint, size: bigint): void {
    const { world, flaws } = this;
    if (flaws.has('audits-start-only')) return requireUser(world, address, 0);
    if (flaws.has('audits-wrapped-end')) {
      const end = BigInt.asUintN(world.platform.addressBits, address + size);
      if (end > world.platform.userEnd) throw new XenError('EFAULT', 'range ends outside user space');
      return;
    }
    if (size > world.platform.userEnd) throw new XenError('EFAULT', `${size} bytes are more than user space has`);
    requireUser(world, address, Number(size));
  }

  private pin(process: ModelProcess, address: bigint, size: number): void {
    if (this.world.platform.addressing === 'virtual' || size > 1 << 20) return;
    const end = address + BigInt(size);
    for (let page = address - (address % 4096n); page < end; page += 4096n) {
      const isKernels = page >= this.world.platform.kernelBase; // only a broken audit lets one through
      if (!isKernels && !process.space.pin(page)) {
        throw new XenError('EFAULT', `nothing writable at 0x${page.toString(16)}`);
      }
    }
  }
}
// kernel part: end

// hypervisor part: begin
class MinutedHypervisor {
  /** What the last call left where the array of handles lies: with a flaw, the next call finds it there. */
  private leftOver: readonly GuestBuffer[] = [];

  constructor(
    private readonly world: World,
    private readonly flaws: Flaws,
  ) {}

  call(actor: Actor, domid: number, blocks: readonly GuestBuffer[]): number {
    const { world, flaws } = this;
    const before = flaws.has('garbage-for-missing') ? this.leftOver.map((buffer) => takenOver(buffer, actor)) : [];
    if (flaws.has('garbage-for-missing')) this.leftOver = blocks;
    const first = blocks[0] ?? before[0];
    if (!first) throw new XenError('ENODATA', 'no blocks');
    const struct = this.copyIn(first);
    const get = (index: number) => {
      if (blocks[index] === undefined && flaws.has('asserts-on-missing')) throw new Error(`no block ${index}`);
      return blocks[index] ?? (flaws.has('garbage-for-missing') ? before[index] : undefined);
    };
    const reach: Blocks = { get, nested: (index) => get(Number(index)), unchecked: get };
    const result = execute(world, actor, domid, struct, reach, !flaws.has('not-preemptible'));
    const size = flaws.has('copies-out-whole') ? STRUCT_SIZE : Math.min(first.size, STRUCT_SIZE);
    if (size > PAYLOAD) this.copyOut(first, struct.subarray(PAYLOAD, size));
    return result;
  }

  private copyIn(first: GuestBuffer): Uint8Array {
    const { world, flaws } = this;
    const stack = new Uint8Array(flaws.has('no-size-bound') ? STRUCT_SIZE + 4096 : STRUCT_SIZE);
    if (flaws.has('not-zeroed')) new BigUint64Array(stack.buffer).fill(world.stackMark);
    if (first.size > STRUCT_SIZE && !flaws.has('no-size-bound')) {
      throw new XenError('E2BIG', `the first block has ${first.size} bytes, an op at most ${STRUCT_SIZE}`);
    }
    const size = Math.min(first.size, stack.length);
    if (size > STRUCT_SIZE)
      world.breach('no-crash', `${size - STRUCT_SIZE} bytes of the hypervisor's stack overwritten`);
    first.copyFrom(0, stack.subarray(0, size));
    return stack.slice(0, STRUCT_SIZE);
  }

  private copyOut(first: GuestBuffer, payload: Uint8Array): void {
    // The flaw is to write as much as the operation's struct has, whatever size the kernel has checked.
    const target = this.flaws.has('copies-out-whole') ? unbounded(first) : first;
    target.copyTo(PAYLOAD, payload);
  }
}
// hypervisor part: end

/** A handle that another call left behind, used by this one. */
function takenOver(buffer: GuestBuffer, actor: Actor): GuestBuffer {
  return buffer instanceof AuditedBuffer ? buffer.on(actor) : buffer;
}

function unbounded(buffer: GuestBuffer): GuestBuffer {
  return buffer instanceof AuditedBuffer ? buffer.withoutSize() : buffer;
}

function minuted(flaws: Flaws): Pick<Proposal, 'open' | 'kernelCall'> {
  const hypervisors = new WeakMap<World, MinutedHypervisor>();
  const hypervisorOf = (world: World) => {
    const found = hypervisors.get(world) ?? new MinutedHypervisor(world, flaws);
    hypervisors.set(world, found);
    return found;
  };
  return {
    open: (world, process) => new ArraySession(world, new MinutedFile(world, flaws, hypervisorOf(world)), process),
    kernelCall: (world, call) => kernelCall(world, hypervisorOf(world), call),
  };
}

function kernelCall(world: World, hypervisor: MinutedHypervisor, call: DmCall): Result {
  const struct = new Uint8Array(STRUCT_SIZE);
  new DataView(struct.buffer).setUint32(0, call.op, true);
  struct.set(call.payload ?? new Uint8Array(0), PAYLOAD);
  const { space } = world.attacker;
  const all = [{ address: world.kernelBuffer, size: BigInt(STRUCT_SIZE) }, ...(call.blocks ?? [])];
  world.copyVirtual('kernel', space, world.kernelBuffer, struct, 'write');
  const blocks = all.map(({ address, size }) => new AuditedBuffer(world, 'kernel', space, address, Number(size)));
  return attempt(() => hypervisor.call('kernel', call.domid, blocks));
}

const sources = markedParts('array-minuted');

export const arrayMinuted: Proposal = {
  id: 'array-minuted',
  name: 'Guest-handle array, as minuted',
  product: false,
  summary: 'the call passes an array of (address, size) that the kernel audits; block i means what the operation says',
  ...minuted(new Set()),
  sources,
};

/** The same with something left out or done twice. */
export function flawedArray(name: string, ...flaws: Flaw[]): Proposal {
  return {
    id: `array-minuted/${flaws.join('+')}`,
    name,
    product: false,
    summary: name,
    brokenFormOf: 'array-minuted',
    ...minuted(new Set(flaws)),
    sources,
  };
}
