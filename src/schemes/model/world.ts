/**
 * One dom0 with everything an attack may hit: a kernel with secrets, the attacker's process, another process, a second
 * domain; and the project's own hypervisor with a domain for each of the two processes. Made anew for every run.
 *
 * Copies are done with the kernel's rights, as Xen and privcmd do them: either half of the address space, any frame of
 * dom0's. Nothing here protects anything; that is what the proposals are for. Each copy is a point where the attacker's
 * second thread may run, and each is looked at: one that reaches memory of somebody else is recorded as a hit.
 */
import { PAGE_SIZE } from '../../abi/ids.js';
import type { Extent } from '../../boundary/extent.js';
import { type Operation, PREEMPTED } from '../../boundary/operation.js';
import { XenError } from '../../boundary/xen-error.js';
import { createHvmDomain } from '../../hypervisor/build-domain.js';
import type { Domain } from '../../hypervisor/domain.js';
import { Hypervisor } from '../../hypervisor/hypervisor.js';
import { AddressSpace, type Mapping } from './address-space.js';
import type { Breach, Hit, Invariant } from './breach.js';
import { type Frame, type Owner, PhysicalMemory } from './physical-memory.js';
import type { ModelPlatform } from './platform.js';
import { ModelProcess } from './process.js';
import { Random } from './random.js';
import { type Schedule, Scheduler } from './scheduler.js';

const PAGE = BigInt(PAGE_SIZE);

/** On whose behalf memory is copied. */
export type Actor = 'attacker' | 'other' | 'kernel';

export type Direction = 'read' | 'write';

/** What one call may cost: more is a breach. */
export const LIMITS = { kernelBytes: 32 * 1024, copies: 2048 } as const;

export class World {
  readonly random: Random;
  readonly scheduler: Scheduler;
  readonly memory: PhysicalMemory;
  readonly hypervisor: Hypervisor;
  /** The domain that the attacker's device model serves, and somebody else's. */
  readonly mine: Domain;
  readonly theirs: Domain;
  readonly attacker: ModelProcess;
  readonly other: ModelProcess;
  /** Addresses of kernel pages: something to read, something to write. The first is the lowest of the kernel half. */
  readonly secret: bigint;
  readonly canary: bigint;
  /** A page of the kernel's that its own calls use. */
  readonly kernelBuffer: bigint;
  /** A frame of the other domain. */
  readonly victim: Frame;
  /** What the hypervisor's stack happens to hold: 8 bytes over and over. */
  readonly stackMark: bigint;
  readonly hits: Hit[] = [];
  readonly breaches: Breach[] = [];
  readonly meter = { kernelBytes: 0, copies: 0, slices: 0, ranges: 0 };
  /** Whether the hypervisor has the operations that Xen doesn't. */
  hasNewOperations = false;
  private readonly kernelMap = new Map<bigint, Mapping>();
  private readonly theirsBefore: string;

  constructor(
    readonly platform: ModelPlatform,
    readonly seed: number,
    schedule: Schedule = [],
  ) {
    this.random = new Random(seed);
    this.scheduler = new Scheduler(schedule);
    this.memory = new PhysicalMemory(this.random.fork('memory'), platform.addressing === 'physical');
    this.stackMark = BigInt((this.random.u32() | 1) >>> 0) | (BigInt((this.random.u32() | 1) >>> 0) << 32n);
    this.hypervisor = new Hypervisor({ extents: { allocate: lazyExtent } });
    this.mine = createHvmDomain(this.hypervisor, { memoryMiB: 1, vcpus: 2 });
    this.theirs = createHvmDomain(this.hypervisor, { memoryMiB: 1, vcpus: 1 });
    this.attacker = this.process(100, 'attacker');
    this.other = this.process(200, 'other');
    const base = platform.kernelBase;
    this.secret = this.kernelPage(base, 'kernel secret');
    this.canary = this.kernelPage(base + 4n * PAGE, 'kernel canary');
    this.kernelBuffer = this.kernelPage(base + 8n * PAGE, "kernel's own buffer");
    const buffer = this.kernelMap.get(this.kernelBuffer / PAGE)!.frame;
    buffer.original = undefined;
    this.other.allocate(2, "other program's memory");
    this.victim = this.memory.allocate('victim', "other domain's memory");
    this.theirsBefore = fingerprint(this.theirs);
  }

  process(pid: number, owner: Owner): ModelProcess {
    return new ModelProcess(pid, owner, new AddressSpace(this.platform, this.kernelMap, this.memory), this.memory);
  }

  /** The kernel takes a frame, one that was freed last if there is any. @returns its address */
  kernelPage(address: bigint, label: string): bigint {
    this.kernelMap.set(address / PAGE, { frame: this.memory.allocate('kernel', label), writable: true });
    return address;
  }

  breach(invariant: Invariant, what: string): void {
    this.breaches.push({ invariant, what });
  }

  /** Copies from or to a process's virtual memory, either half. @throws XenError EFAULT */
  copyVirtual(actor: Actor, space: AddressSpace, address: bigint, bytes: Uint8Array, direction: Direction): void {
    this.announce(direction, bytes.length, address);
    const physical = this.platform.addressing === 'physical';
    this.eachPage(address, bytes, (va, offset, part) => {
      const wrapped = BigInt.asUintN(this.platform.addressBits, va);
      const mapping = (physical && space.pinned(wrapped)) || space.walk(wrapped);
      if (!mapping) throw new XenError('EFAULT', `nothing is mapped at ${hex(wrapped)}`);
      if (direction === 'write' && !mapping.writable) throw new XenError('EFAULT', `${hex(wrapped)} is read-only`);
      this.transfer(actor, mapping.frame, offset, part, direction, wrapped);
    });
  }

  /** Copies from or to dom0's physical memory. @throws XenError EFAULT where a frame isn't dom0's */
  copyPhysical(actor: Actor, address: bigint, bytes: Uint8Array, direction: Direction): void {
    this.announce(direction, bytes.length, address);
    this.eachPage(address, bytes, (pa, offset, part) => {
      const frame = this.memory.frames.get(Number(pa / PAGE));
      if (!frame || frame.owner === 'victim') throw new XenError('EFAULT', `${hex(pa)} is not memory of dom0's`);
      this.transfer(actor, frame, offset, part, direction, pa);
    });
  }

  /** Copies from or to frames that were resolved before, wherever they belong now. */
  copyFrames(actor: Actor, frames: readonly Frame[], offset: number, bytes: Uint8Array, direction: Direction): void {
    this.announce(direction, bytes.length, BigInt(offset));
    this.eachPage(BigInt(offset), bytes, (at, inPage, part) => {
      const frame = frames[Number(at / PAGE)];
      if (!frame) throw new XenError('EFAULT', `${at} is beyond the buffer`);
      const now = this.memory.frames.get(frame.pfn)!;
      this.transfer(actor, now, inPage, part, direction, BigInt(now.pfn) * PAGE + BigInt(inPage));
    });
  }

  /** Where a virtual address of the attacker's or the kernel's lies: what an attacker can work out or guess. */
  physicalOf(space: AddressSpace, address: bigint): bigint {
    const mapping = space.walk(address);
    return mapping ? BigInt(mapping.frame.pfn) * PAGE + (address % PAGE) : address;
  }

  /** The kernel allocates memory in the course of a call. */
  kernelAllocates(bytes: number): void {
    this.meter.kernelBytes += bytes;
    if (this.meter.kernelBytes <= LIMITS.kernelBytes) return;
    this.breach('bounded', `the kernel allocates ${this.meter.kernelBytes} bytes for one call`);
    throw new XenError('ENOMEM', 'the machine is out of memory'); // the run ends here; the breach stands
  }

  /** Runs an operation to its end, one slice as short as it lets itself be made. */
  runToEnd(operation: Operation, isPreemptible = true): number {
    const preemption = {
      due: () => {
        this.scheduler.point('hypervisor: the operation may be preempted');
        return isPreemptible;
      },
    };
    for (;;) {
      this.meter.slices++;
      const result = operation.run(preemption);
      if (result !== PREEMPTED) return result;
    }
  }

  /** What there is to find after a run, whatever the copies said. */
  inspect(): void {
    for (const frame of this.memory.frames.values()) {
      if (!frame.original || frame.owner === 'free') continue;
      if (!sameBytes(frame.bytes, frame.original)) {
        this.breach(invariantOf(frame.owner, 'write'), `${frame.label} has changed (frame ${frame.pfn})`);
      }
    }
    if (fingerprint(this.theirs) !== this.theirsBefore)
      this.breach('domain-isolation', "the other domain's state changed");
    this.findMarks();
  }

  /** Looks through the attacker's memory for words that belong to somebody else. */
  private findMarks(): void {
    const marks = new Map<bigint, string>([[this.stackMark, "the hypervisor's stack"]]);
    for (const { owner, original, label } of this.memory.frames.values()) {
      if (owner !== 'attacker' && original) marks.set(new DataView(original.buffer).getBigUint64(0, true), label);
    }
    const lows = new Map([...marks].map(([mark, label]) => [Number(mark & 0xffff_ffffn), { mark, label }]));
    for (const { owner, bytes } of this.memory.frames.values()) {
      if (owner !== 'attacker') continue;
      const words = new Uint32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4);
      for (let i = 0; i + 1 < words.length; i++) {
        if (words[i] === 0) continue;
        const found = lows.get(words[i] as number);
        if (!found || words[i + 1] !== Number(found.mark >> 32n)) continue;
        const isStack = found.mark === this.stackMark;
        this.breach(isStack ? 'hypervisor-secrecy' : 'kernel-secrecy', `the attacker's memory holds ${found.label}`);
        return;
      }
    }
  }

  private announce(direction: Direction, length: number, address: bigint): void {
    this.meter.copies++;
    if (this.meter.copies === LIMITS.copies) this.breach('bounded', `${LIMITS.copies} copies in one call`);
    if (!this.scheduler.isRecording) return this.scheduler.point('');
    this.scheduler.point(
      `kernel or hypervisor ${direction === 'read' ? 'copies in' : 'copies out'} ${length} bytes at ${hex(address)}`,
    );
  }

  private eachPage(
    from: bigint,
    bytes: Uint8Array,
    visit: (at: bigint, offset: number, part: Uint8Array) => void,
  ): void {
    for (let done = 0; done < bytes.length; ) {
      const at = from + BigInt(done);
      const offset = Number(at % PAGE);
      const length = Math.min(bytes.length - done, PAGE_SIZE - offset);
      visit(at, offset, bytes.subarray(done, done + length));
      done += length;
    }
  }

  private transfer(
    actor: Actor,
    frame: Frame,
    offset: number,
    part: Uint8Array,
    direction: Direction,
    address: bigint,
  ): void {
    if (actor === 'attacker' && frame.owner !== 'attacker') {
      const { pfn, owner } = frame;
      const label =
        owner === 'other' && !frame.label.startsWith('other') ? `other program's ${frame.label}` : frame.label;
      this.hits.push({ direction, owner, label, pfn, address, bytes: part.length });
      const verb = direction === 'read' ? 'read from' : 'written to';
      this.breach(
        invariantOf(owner, direction),
        `${part.length} bytes ${verb} ${label} (frame ${pfn}) at ${hex(address)}`,
      );
    }
    if (direction === 'read') part.set(frame.bytes.subarray(offset, offset + part.length));
    else frame.bytes.set(part, offset);
  }
}

function invariantOf(owner: Owner, direction: Direction): Invariant {
  if (owner === 'victim') return 'domain-isolation';
  if (owner === 'other') return 'process-isolation';
  return direction === 'read' ? 'kernel-secrecy' : 'kernel-integrity';
}

/** What anybody could tell of a domain from outside. */
function fingerprint({ shutdownCode, isShutDown, hvm, memory }: Domain): string {
  return [shutdownCode, isShutDown, hvm?.ioreq.size, hvm?.logDirty.isEnabled, memory.totPages].join();
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  const left = new Uint32Array(a.buffer, a.byteOffset, a.length / 4);
  const right = new Uint32Array(b.buffer, b.byteOffset, b.length / 4);
  for (let i = 0; i < left.length; i++) if (left[i] !== right[i]) return false;
  return true;
}

/** Memory that exists once something looks at it: most runs never do. */
function lazyExtent(nrFrames: number): Extent {
  let bytes: Uint8Array | undefined;
  return {
    nrFrames,
    get bytes() {
      bytes ??= new Uint8Array(nrFrames * PAGE_SIZE);
      return bytes;
    },
    release() {},
  };
}

export function hex(address: bigint): string {
  return `0x${address.toString(16)}`;
}
