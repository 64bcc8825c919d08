/**
 * A process as dom0's drivers see one: sparse pages with protections, an address space that says whatever a test wants
 * it to, and a log of every access, so that a test can tell what was read, how often, and in which order.
 */
import { encode, type Layout } from '../../dist/abi/layout.js';
import type { Mapping } from '../../dist/boundary/extent.js';
import type { GuestMemory } from '../../dist/boundary/guest-buffer.js';
import { NEVER_PREEMPT, type Operation, PREEMPTED } from '../../dist/boundary/operation.js';
import { XenError } from '../../dist/boundary/xen-error.js';
import type { AddressSpace, AreaState, Process, UserMemory } from '../../dist/dom0/process.js';

const PAGE = 4096;
/** Where x86-64's user space ends; an address of its other half; both as a test names them. */
export const TASK_SIZE_MAX = 0x7fff_ffff_f000;
export const KERNEL = 0xffff_8000_0000_0000;

export interface Access {
  readonly kind: 'in' | 'out' | 'pin';
  readonly address: number;
  readonly size: number;
}

interface Page {
  readonly bytes: Uint8Array;
  readonly isReadable: boolean;
  readonly isWritable: boolean;
}

export class FakeMemory implements UserMemory {
  private readonly pages = new Map<number, Page>();
  readonly log: Access[] = [];
  /** Runs after each access: a second thread of the process that changes memory just then. */
  afterAccess: ((access: Access) => void) | undefined;

  /** Maps the pages that the range touches. @returns the address */
  map(address: number, size: number, protection: 'rw' | 'r' | 'w' | '' = 'rw'): number {
    for (let page = Math.floor(address / PAGE); page * PAGE < address + size; page++) {
      const bytes = this.pages.get(page)?.bytes ?? new Uint8Array(PAGE);
      // As on x86: what can be written can be read.
      const isWritable = protection.includes('w');
      this.pages.set(page, { bytes, isReadable: isWritable || protection === 'r', isWritable });
    }
    return address;
  }

  /** What the process itself does: protections aside. */
  poke(address: number, bytes: Uint8Array): void {
    for (const [i, byte] of bytes.entries()) this.pageAt(address + i).bytes[(address + i) % PAGE] = byte;
  }

  peek(address: number, size: number): Uint8Array {
    return Uint8Array.from({ length: size }, (_, i) => this.pageAt(address + i).bytes[(address + i) % PAGE] as number);
  }

  /** How often the driver has read the byte at `address`. */
  nrReads(address: number): number {
    return this.log.filter((a) => a.kind === 'in' && address >= a.address && address < a.address + a.size).length;
  }

  copyIn(address: number, into: Uint8Array): void {
    this.check(address, into.length, (page) => page.isReadable);
    into.set(this.peek(address, into.length));
    this.done({ kind: 'in', address, size: into.length });
  }

  copyOut(address: number, from: Uint8Array): void {
    this.check(address, from.length, (page) => page.isWritable);
    this.poke(address, from);
    this.done({ kind: 'out', address, size: from.length });
  }

  pinForWrite(address: number, size: number): void {
    this.check(address, Math.max(size, 1), (page) => page.isWritable);
    this.done({ kind: 'pin', address, size });
  }

  private done(access: Access): void {
    this.log.push(access);
    this.afterAccess?.(access);
  }

  private check(address: number, size: number, allows: (page: Page) => boolean): void {
    if (size === 0) return;
    if (address + size > TASK_SIZE_MAX) throw new XenError('EFAULT', 'fake memory: not in user space');
    for (let page = Math.floor(address / PAGE); page * PAGE < address + size; page++) {
      const found = this.pages.get(page);
      if (!found || !allows(found)) throw new XenError('EFAULT', `fake memory: page ${page.toString(16)}`);
    }
  }

  private pageAt(address: number): Page {
    const page = this.pages.get(Math.floor(address / PAGE));
    if (!page) throw new Error(`the test has no page at ${address.toString(16)}`);
    return page;
  }
}

export class FakeAddressSpace implements AddressSpace {
  /** What stands wherever a driver looks. */
  state: AreaState = 'fresh';
  readonly asked: { address: number; nrPages: number }[] = [];
  readonly mapped: { address: number; mapping: Mapping }[] = [];

  area(address: number, nrPages: number): AreaState {
    this.asked.push({ address, nrPages });
    return this.state;
  }

  mapFrames(address: number, mapping: Mapping): void {
    this.mapped.push({ address, mapping });
  }
}

export class FakeProcess implements Process {
  readonly pid = 4242;
  readonly memory = new FakeMemory();
  readonly addressSpace = new FakeAddressSpace();
  readonly hypercallMemory: GuestMemory = {
    copyFrom: () => {
      throw new XenError('EFAULT', 'fake hypercall memory');
    },
    copyTo: () => {
      throw new XenError('EFAULT', 'fake hypercall memory');
    },
  };
  private next = 0x10_0000;

  /** Puts bytes into fresh pages, with an unmapped page before and after. @returns their address */
  place(bytes: Uint8Array, protection: 'rw' | 'r' | 'w' | '' = 'rw'): number {
    const address = this.allocate(bytes.length, protection);
    this.memory.poke(address, bytes);
    return address;
  }

  placeStruct<T>(layout: Layout<T>, value: T, protection: 'rw' | 'r' = 'rw'): number {
    return this.place(encode(layout, value), protection);
  }

  allocate(size: number, protection: 'rw' | 'r' | 'w' | '' = 'rw'): number {
    const address = this.next;
    this.next += (Math.ceil(size / PAGE) + 2) * PAGE;
    return this.memory.map(address, Math.max(size, 1), protection);
  }
}

/** What a call comes to: its result as text, or the name of its errno. Anything but a XenError is a bug and goes on up. */
export function answerOf(call: () => number | Operation): string {
  try {
    const result = call();
    if (typeof result === 'number') return String(result);
    for (;;) {
      const ret = result.run(NEVER_PREEMPT);
      if (ret !== PREEMPTED) return String(ret);
    }
  } catch (error) {
    if (error instanceof XenError) return error.code;
    throw error;
  }
}
