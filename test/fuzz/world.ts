/**
 * A host without an operating system: two domains, dom0's kernel and a process's memory. Domain 1 is the attacker's;
 * domain 2 and everything else must stay as they are, which `assertUntouched` finds out without knowing what they are
 * made of: it walks through every property of every object that is reachable.
 */
import { createHash } from 'node:crypto';

import { ERRNO } from '../../dist/abi/errno.js';
import type { Extent, Mapping } from '../../dist/boundary/extent.js';
import type { GuestMemory } from '../../dist/boundary/guest-buffer.js';
import { type Operation, PREEMPTED } from '../../dist/boundary/operation.js';
import { XenError } from '../../dist/boundary/xen-error.js';
import { Dom0Kernel } from '../../dist/dom0/kernel.js';
import type { AreaState, Process, UserMemory } from '../../dist/dom0/process.js';
import { createHvmDomain } from '../../dist/hypervisor/build-domain.js';
import { Domain } from '../../dist/hypervisor/domain.js';
import { Hypervisor } from '../../dist/hypervisor/hypervisor.js';
import { FuzzFailure } from './fuzzer.js';
import type { Random } from './random.js';

export const ATTACKED = 1;
export const VICTIM = 2;
/** Where the process's memory is: two pages to use, one of them read-only, then nothing. */
export const BASE = 0x10000;
export const USABLE = 0x4000;
const READ_ONLY_FROM = 0x3000;
const VICTIM_MIB = 4;

/** Objects that belong to no domain in particular: what is behind them is not the domain's state. */
const SHARED = new Set(['Hypervisor', 'MachineMemory', 'DomainTable']);

export class World {
  readonly hypervisor: Hypervisor;
  readonly kernel: Dom0Kernel;
  private readonly extents: Extent[] = [];
  private readonly victimMemory: Buffer[];
  private readonly victimExtents: readonly Extent[];
  private readonly untouched: string;

  constructor() {
    const allocate = (nrFrames: number): Extent => {
      const extent = { nrFrames, bytes: new Uint8Array(nrFrames * 4096), release() {} };
      this.extents.push(extent);
      return extent;
    };
    this.hypervisor = new Hypervisor({ extents: { allocate } });
    this.kernel = new Dom0Kernel(this.hypervisor.callsOfDom0());
    this.hypervisor.dom0.evtchn.onUpcall = (port) => this.kernel.upcall(port);
    createHvmDomain(this.hypervisor, { memoryMiB: 8, vcpus: 2, domid: ATTACKED });
    const before = this.extents.length;
    createHvmDomain(this.hypervisor, { memoryMiB: VICTIM_MIB, vcpus: 1, domid: VICTIM });
    this.victimExtents = this.extents.slice(before);
    for (const { bytes } of this.victimExtents) bytes.fill(0x5a, 0, VICTIM_MIB << 20);
    this.victimMemory = this.victimExtents.map(({ bytes }) => Buffer.from(bytes.subarray(0, VICTIM_MIB << 20)));
    this.untouched = this.stateOutside();
  }

  /** @throws FuzzFailure where anything but domain 1 is not as it was */
  assertUntouched(): void {
    for (const [i, { bytes }] of this.victimExtents.entries()) {
      const was = this.victimMemory[i] as Buffer;
      if (was.compare(bytes, 0, was.length) !== 0) throw new FuzzFailure("domain 2's memory has changed");
    }
    const now = this.stateOutside();
    if (now !== this.untouched)
      throw new FuzzFailure(`the state outside domain 1 has changed: ${firstDifference(this.untouched, now)}`);
  }

  private stateOutside(): string {
    const domains = [...this.hypervisor.domains].map((domain) => domain.domid).filter((domid) => domid !== ATTACKED);
    return `${domains}\n${domains.map((domid) => new Walk(this.hypervisor.domains.get(domid)).text).join('\n')}`;
  }
}

function firstDifference(before: string, after: string): string {
  const old = before.split('\n');
  const now = after.split('\n');
  const at = now.findIndex((line, i) => line !== old[i]);
  return `"${old[at]}" is "${now[at]}"`;
}

/** The state of one domain as text, a line a value. */
class Walk {
  private readonly lines: string[] = [];
  private readonly seen = new Set<object>();

  constructor(private readonly root: Domain) {
    this.visit(`domain ${root.domid}`, root);
  }

  get text(): string {
    return this.lines.join('\n');
  }

  private visit(path: string, value: unknown): void {
    if (typeof value === 'function') return;
    if (typeof value !== 'object' || value === null) {
      this.lines.push(`${path} = ${String(value)}`);
      return;
    }
    if (this.seen.has(value) || SHARED.has(value.constructor?.name)) return;
    this.seen.add(value);
    if (value instanceof Domain && value !== this.root) return;
    if (ArrayBuffer.isView(value)) {
      const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
      if (bytes.length <= 1 << 20) this.lines.push(`${path} = ${createHash('sha1').update(bytes).digest('hex')}`);
      return; // longer ones are memory, which is compared as such
    }
    if (value instanceof Map || value instanceof Set) {
      this.lines.push(`${path}.size = ${value.size}`);
      for (const [key, entry] of value.entries()) {
        const name = typeof key === 'object' ? '{}' : String(key);
        this.visit(`${path}.${name}`, entry);
      }
      return;
    }
    for (const [key, entry] of Object.entries(value)) this.visit(`${path}.${key}`, entry);
  }
}

/** A process's memory: a little that can be used, and everything else faults. */
export class FuzzMemory implements UserMemory, GuestMemory {
  readonly bytes = new Uint8Array(USABLE);

  copyIn(address: number, into: Uint8Array): void {
    if (into.length > 0) into.set(this.range(address, into.length, USABLE));
  }

  copyOut(address: number, from: Uint8Array): void {
    if (from.length > 0) this.range(address, from.length, READ_ONLY_FROM).set(from);
  }

  pinForWrite(address: number, size: number): void {
    if (size > 0) this.range(address, size, READ_ONLY_FROM);
  }

  copyFrom(address: bigint, into: Uint8Array): void {
    this.copyIn(Number(address), into);
  }

  copyTo(address: bigint, from: Uint8Array): void {
    this.copyOut(Number(address), from);
  }

  private range(address: number, length: number, end: number): Uint8Array {
    if (address < BASE || address + length > BASE + end) throw new XenError('EFAULT', 'fuzz memory');
    return this.bytes.subarray(address - BASE, address - BASE + length);
  }
}

export class FuzzProcess implements Process {
  readonly pid = 1;
  readonly memory = new FuzzMemory();
  readonly hypercallMemory = this.memory;
  state: AreaState = 'none';
  readonly addressSpace = {
    area: (): AreaState => this.state,
    mapFrames: (_address: number, _mapping: Mapping): void => {},
  };
}

/** Runs a call as the host does, giving up on one that goes on for ever, as the host does when its caller dies. */
export function finish(result: number | Operation, random: Random, maxSlices = 50): number {
  if (typeof result === 'number') return result;
  let asked = 0;
  const patience = 1 + random.below(200);
  for (let slice = 0; slice < maxSlices; slice++) {
    const ret = result.run({ due: () => ++asked % patience === 0 });
    if (ret !== PREEMPTED) return ret;
  }
  return 0;
}

/** @returns the call's result, negative for an errno that may come out @throws anything else */
export function errnoOf(call: () => number, allowed: ReadonlySet<string>): number {
  try {
    const ret = call();
    if (!Number.isInteger(ret) || ret < 0) throw new FuzzFailure(`a call returned ${ret}`);
    return ret;
  } catch (error) {
    if (!(error instanceof XenError)) throw error;
    if (!(error.code in ERRNO) || !allowed.has(error.code))
      throw new FuzzFailure(`errno ${error.code}: ${error.reason}`);
    if (!error.reason) throw new FuzzFailure(`${error.code} without a reason`);
    return -error.errno;
  }
}
