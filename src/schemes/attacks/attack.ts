/** What an attack is, and the laboratory it is carried out in: one world, one proposal, one restricted device model. */
import { createHvmDomain } from '../../hypervisor/build-domain.js';
import type { Invariant } from '../model/breach.js';
import type { ModelProcess } from '../model/process.js';
import { hex, type World } from '../model/world.js';
import { attempt, type DmCall, type PreparedCall, type Proposal, type Result, type Session } from '../proposal.js';

/** Families of attacks, in the order of the tables. */
export type AttackGroup =
  | 'addresses'
  | 'races'
  | 'stale approvals'
  | 'flags'
  | 'domids and restriction'
  | 'new operations'
  | 'counts'
  | 'sizes'
  | 'leaks'
  | 'exhaustion'
  | 'availability'
  | 'advisories';

export interface Attack {
  readonly id: string;
  readonly name: string;
  readonly group: AttackGroup;
  /** What it would break. */
  readonly breaks: readonly Invariant[];
  /** Where it comes from: the minutes, an advisory, a class of bug. */
  readonly origin: string;
  /** It runs on a hypervisor with the operations that Xen doesn't have. */
  readonly newOperations?: boolean;
  /** Its second thread is tried at every point of the call. */
  readonly races?: boolean;
  run(lab: Lab): void;
}

const NR_BLOCK_PAGES = 2;

export class Lab {
  readonly session: Session;
  /** Two pages of the attacker's that calls may use, and one for results; declared where that is asked for. */
  readonly block: bigint;
  readonly out: bigint;
  readonly steps: string[] = [];
  /** Why the last call was refused. */
  refusal: string | undefined;

  constructor(
    readonly world: World,
    readonly proposal: Proposal,
  ) {
    this.session = proposal.open(world, world.attacker);
    this.out = this.session.memory(1);
    this.block = this.session.memory(NR_BLOCK_PAGES);
    proposal.weaken?.(world);
    this.session.restrict(world.mine.domid);
    this.note(`opens privcmd, restricted to domain ${world.mine.domid}`);
  }

  get process(): ModelProcess {
    return this.world.attacker;
  }

  get mine(): number {
    return this.world.mine.domid;
  }

  note(step: string): void {
    this.steps.push(step);
  }

  /** One call, from the beginning. */
  call(call: DmCall): Result {
    return this.go(this.prepare(call), call);
  }

  prepare(call: DmCall): PreparedCall {
    return this.session.prepare(call);
  }

  go(prepared: PreparedCall, call: DmCall): Result {
    this.note(describe(call));
    const { meter } = this.world;
    meter.kernelBytes = 0;
    meter.copies = 0;
    return this.look(prepared.go());
  }

  /** The second thread's program, for the next call. */
  secondThread(...steps: (() => void)[]): void {
    this.world.scheduler.secondThread(...steps);
  }

  look(result: Result): Result {
    if (result.errno) this.refusal = result.reason;
    this.note(`  → ${result.reason}`);
    return result;
  }

  /** The kernel's own DM op, with its own memory. */
  kernelCall(call: DmCall): Result {
    this.note(`dom0's kernel makes a call of its own: ${describe(call)}`);
    return this.proposal.kernelCall(this.world, call);
  }

  /** munmap, and the kernel is the next to allocate. @returns the frame's number */
  freeToKernel(address: bigint): void {
    const { world } = this;
    const frame = this.process.unmap(address);
    world.kernelPage(world.platform.kernelBase + 0x40_0000n + BigInt(frame?.pfn ?? 0) * 4096n, 'kernel memory, reused');
    this.note(`unmaps ${hex(address)}; the kernel takes the frame`);
  }

  /** munmap, and another process is the next to allocate. */
  freeToOther(address: bigint): void {
    this.process.unmap(address);
    this.world.other.allocate(1, "other program's memory, reused");
    this.note(`unmaps ${hex(address)}; another program takes the frame`);
  }

  /** The attacker's domain goes, and the next one is somebody else's. @returns that one's domid */
  replaceDomain(): number {
    const { world, proposal } = this;
    const { domid } = world.mine;
    world.mine.kill({ due: () => false });
    const next = createHvmDomain(world.hypervisor, { memoryMiB: 1, ...(proposal.reusesDomids && { domid }) });
    this.note(`domain ${domid} is destroyed; the next domain made is ${next.domid}`);
    return next.domid;
  }

  try(action: () => void): Result {
    return this.look(
      attempt(() => {
        action();
        return 0;
      }),
    );
  }
}

export function describe({ op, domid, blocks = [], first, count }: DmCall): string {
  const list = blocks.map(({ address, size }) => `${hex(address)}+${size}`).join(', ');
  const struct = first?.address === undefined ? '' : ` struct at ${hex(first.address)}`;
  const told = count === undefined ? '' : ` (says ${count} blocks)`;
  const size = first?.size === undefined ? '' : ` of ${first.size} bytes`;
  return `op ${op} on domain ${domid}${struct}${size}${list && `, blocks ${list}`}${told}`;
}

/** Payloads. */
export function words(...values: number[]): Uint8Array {
  const bytes = new Uint8Array(24);
  const view = new DataView(bytes.buffer);
  values.forEach((value, i) => {
    view.setUint32(i * 4, value, true);
  });
  return bytes;
}

/** track_dirty_vram: so many pages from pfn 0. */
export const track = (nr: number) => words(nr, 0, 0, 0);
