/** A hypervisor with domains in plain memory, and DM operations on them as a device model in dom0 makes them. */
import { encode, type Layout } from '../../dist/abi/layout.js';
import type { Extent } from '../../dist/boundary/extent.js';
import type { GuestBuffer } from '../../dist/boundary/guest-buffer.js';
import { NEVER_PREEMPT, PREEMPTED, type Preemption } from '../../dist/boundary/operation.js';
import { XenError } from '../../dist/boundary/xen-error.js';
import { type BuildOptions, createHvmDomain } from '../../dist/hypervisor/build-domain.js';
import type { Domain, HvmState } from '../../dist/hypervisor/domain.js';
import { beginDmOp } from '../../dist/hypervisor/hypercalls/dm-op/dm-op.js';
import { dmOperation } from '../../dist/hypervisor/hypercalls/dm-op/table.js';
import { Hypervisor } from '../../dist/hypervisor/hypervisor.js';

export const HEADER = 8;

function plainExtent(nrFrames: number): Extent {
  return { nrFrames, bytes: new Uint8Array(nrFrames * 4096), release() {} };
}

export function testHypervisor(): Hypervisor {
  return new Hypervisor({ extents: { allocate: plainExtent } });
}

export interface TestDomain {
  readonly hypervisor: Hypervisor;
  readonly domain: Domain;
  readonly hvm: HvmState;
}

/** An HVM domain with 2048 pages from pfn 0 and the special pages: 0x800 is the first hole. */
export function testDomain(options: BuildOptions = {}): TestDomain {
  const hypervisor = testHypervisor();
  return addDomain(hypervisor, options);
}

export function addDomain(hypervisor: Hypervisor, options: BuildOptions = {}): TestDomain {
  const domain = createHvmDomain(hypervisor, { memoryMiB: 8, vcpus: 2, ...options });
  return { hypervisor, domain, hvm: domain.hvm as HvmState };
}

/** Caller memory that counts how often each byte is copied in. */
export class TestBuffer implements GuestBuffer {
  readonly reads: Uint8Array;
  /** Reading beyond this fails, as memory that isn't mapped. */
  readableUpTo: number;
  isWritable = true;
  onRead: (() => void) | undefined;

  constructor(readonly bytes: Uint8Array) {
    this.reads = new Uint8Array(bytes.length);
    this.readableUpTo = bytes.length;
  }

  static zeros(size: number): TestBuffer {
    return new TestBuffer(new Uint8Array(size));
  }

  get size(): number {
    return this.bytes.length;
  }

  copyFrom(offset: number, into: Uint8Array): void {
    if (offset < 0 || offset + into.length > Math.min(this.size, this.readableUpTo)) {
      throw new XenError('EFAULT', 'test buffer');
    }
    into.set(this.bytes.subarray(offset, offset + into.length));
    for (let i = offset; i < offset + into.length; i++) this.reads[i]!++;
    this.onRead?.();
  }

  copyTo(offset: number, from: Uint8Array): void {
    if (!this.isWritable || offset < 0 || offset + from.length > this.size) throw new XenError('EFAULT', 'test buffer');
    this.bytes.set(from, offset);
  }
}

/** `OK`, or the name of the errno. Anything but a XenError is a bug and goes on up. */
export type Verdict = string;

export function verdictOf(action: () => unknown): Verdict {
  try {
    action();
    return 'OK';
  } catch (error) {
    if (error instanceof XenError) return error.code;
    throw error;
  }
}

/** Runs a call to its end. */
export function runRaw(
  hypervisor: Hypervisor,
  domid: number,
  buffers: readonly GuestBuffer[],
  preemption: Preemption = NEVER_PREEMPT,
  caller: Domain = hypervisor.dom0,
): { verdict: Verdict; slices: number } {
  const operation = beginDmOp(hypervisor, caller, domid, buffers);
  let slices = 1;
  const verdict = verdictOf(() => {
    while (operation.run(preemption) === PREEMPTED) slices++;
  });
  return { verdict, slices };
}

/** The first buffer of an operation: header and struct; fields that aren't given are 0. */
export function dmOpBytes(op: number, args: object, pad = 0): Uint8Array {
  const layout = dmOperation(op)?.layout as Layout<Record<string, unknown>> | undefined;
  if (!layout) throw new Error(`no operation ${op}`);
  const zeros = layout.read(new DataView(new ArrayBuffer(layout.size)), 0);
  const bytes = new Uint8Array(HEADER + layout.size);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, op, true);
  view.setUint32(4, pad, true);
  bytes.set(encode(layout, { ...zeros, ...args }), HEADER);
  return bytes;
}

export interface DmResult {
  readonly verdict: Verdict;
  readonly slices: number;
  /** The struct as the caller sees it afterwards. */
  // biome-ignore lint/suspicious/noExplicitAny: every operation has another struct
  readonly out: any;
}

/** One DM operation by name of its struct's fields. */
export function dm(
  { hypervisor, domain }: TestDomain,
  op: number,
  args: object = {},
  extra: readonly GuestBuffer[] = [],
  preemption: Preemption = NEVER_PREEMPT,
): DmResult {
  const first = new TestBuffer(dmOpBytes(op, args));
  const { verdict, slices } = runRaw(hypervisor, domain.domid, [first, ...extra], preemption);
  const layout = dmOperation(op)!.layout;
  return { verdict, slices, out: layout.read(new DataView(first.bytes.buffer), HEADER) };
}

/** Due every time it is asked. */
export const ALWAYS_PREEMPT: Preemption = { due: () => true };

/** Reads the memory at a gfn as the guest would see it. */
export function guestPage({ hypervisor, domain }: TestDomain, gfn: number): Uint8Array {
  return hypervisor.machine.frame(domain.p2m.mfn(gfn));
}
