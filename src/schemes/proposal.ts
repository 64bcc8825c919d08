/**
 * What a proposal for the DM op interface is, to those who attack, measure and describe it. An attack says what it wants
 * of a call; the proposal's session puts that into its own interface as well as an attacker could.
 */
import type { ErrnoName } from '../abi/errno.js';
import { XenError } from '../boundary/xen-error.js';
import type { ModelProcess } from './model/process.js';
import type { World } from './model/world.js';

/** A block of memory that a call names. */
export interface Block {
  readonly address: bigint;
  readonly size: bigint;
}

/** One DM op call, in no interface in particular. */
export interface DmCall {
  readonly domid: number;
  readonly op: number;
  /** Up to 24 bytes. */
  readonly payload?: Uint8Array;
  /** The operation's further blocks. */
  readonly blocks?: readonly Block[];
  /** The block with the struct, where it isn't the session's own: its size counts only where sizes are told. */
  readonly first?: Partial<Block>;
  /** How many blocks are claimed, where a number is told. */
  readonly count?: number;
  /** Leaves out the flag that says "restricted", where the program has to set one. */
  readonly leaveOutFlag?: boolean;
  /** True where the program knows no more than a program may: not what physical memory it has. */
  readonly isHonest?: boolean;
}

export interface Result {
  readonly ret: number;
  readonly errno?: ErrnoName;
  readonly reason: string;
}

/** Where the parts of a prepared call lie in the caller's memory, for a second thread to change. */
export interface CallLayout {
  readonly struct: bigint;
  readonly domid: bigint;
  /** The address of block `index` (1, 2), and its size where the interface has one. */
  readonly handles: readonly { readonly address: bigint; readonly size?: bigint }[];
  /** The word with the flag, where the program sets one. */
  readonly flag?: bigint;
  /** What has to be written for "the memory at `address`". */
  handleFor(address: bigint): bigint;
}

export interface PreparedCall {
  readonly where: CallLayout;
  go(): Result;
}

/** An open privcmd of one process, under one proposal. */
export interface Session {
  readonly process: ModelProcess;
  /** What whoever starts the device model does ahead for memory that calls will name; nothing in most proposals. */
  declare(address: bigint, size: number): Result;
  /** Memory for blocks: anywhere, but where an interface wants it in a certain place. */
  memory(nrPages: number): bigint;
  restrict(domid: number): Result;
  /** Writes the call into the process's memory and returns what makes it. */
  prepare(call: DmCall): PreparedCall;
  /** A plain hypercall with addresses as arguments. */
  hypercall(op: number, args: readonly bigint[]): Result;
  /** The same open file in another process: after fork, or passed on. */
  inherit(process: ModelProcess): Session;
}

/** A stretch of a file: from the line that holds `from` to the one that holds `to`, or to the end. */
export interface Source {
  readonly file: string;
  readonly from: string;
  readonly to?: string;
}

/** The stretch of a proposal's file that is marked as a part of it. */
export function markedPart(name: string, part: 'kernel' | 'hypervisor'): Source {
  return {
    file: `src/schemes/proposals/${name}.ts`,
    from: `// ${part} part: begin`,
    to: `// ${part} part: end`,
  };
}

/** Both marked parts of a file. */
export function markedParts(name: string): Proposal['sources'] {
  return { kernel: [markedPart(name, 'kernel')], hypervisor: [markedPart(name, 'hypervisor')] };
}

export interface Proposal {
  readonly id: string;
  readonly name: string;
  /** The product's own code, not a model of it. */
  readonly product: boolean;
  /** What it comes down to, in a sentence. */
  readonly summary: string;
  /** A deliberately broken form of another one, there to show that an attack can succeed. */
  readonly brokenFormOf?: string;
  /** Of a broken form: takes a check out of the hypervisor's own code, in this world only. */
  weaken?(world: World): void;
  /** Of a broken form: a domid is given to the next domain at once. */
  readonly reusesDomids?: boolean;
  open(world: World, process: ModelProcess): Session;
  /** A DM op of dom0's own kernel, with a block in kernel memory. */
  kernelCall(world: World, call: DmCall): Result;
  /** What its two parts are written in, for the counts of lines. */
  readonly sources: { readonly kernel: readonly Source[]; readonly hypervisor: readonly Source[] };
}

/** A call's result, or its refusal. Whatever else is thrown is a bug and not caught here. */
export function attempt(action: () => number): Result {
  try {
    const ret = action();
    return { ret, reason: `returns ${ret}` };
  } catch (error) {
    if (!(error instanceof XenError)) throw error;
    return { ret: -1, errno: error.code, reason: `${error.code}: ${error.reason}` };
  }
}
