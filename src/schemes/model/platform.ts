/**
 * What differs from one dom0 to the next: where user space ends, how wide an address is, and whether hypercalls name
 * virtual or physical memory.
 *
 *     x86-32            x86-64                     physical
 *     4G ┌────────┐     2^64 ┌────────┐            the x86-64 layout for programs; hypercalls name frames,
 *        │ kernel │          │ kernel │            which lie in pieces:
 *     3G ├────────┤          ├────────┤            ┌─┬─┬─┬─┬─┬─┬─┐
 *        │        │          │  hole  │            │k│u│o│u│k│u│v│   k kernel   u user   o other   v other domain
 *        │  user  │     2^47 ├────────┤            └─┴─┴─┴─┴─┴─┴─┘
 *        │        │          │  user  │
 *      0 └────────┘        0 └────────┘
 */
import { type Platform as Audit, X86_64 } from '../../dom0/process.js';

export interface ModelPlatform {
  readonly id: 'x86-32' | 'x86-64' | 'physical';
  readonly name: string;
  /** How hypercalls name memory. */
  readonly addressing: 'virtual' | 'physical';
  readonly addressBits: 32 | 64;
  /** The first address above user space. */
  readonly userEnd: bigint;
  readonly kernelBase: bigint;
  /** Where the programs of the model have their memory. */
  readonly userBase: bigint;
  /** The kernel's access_ok, which is all of a platform that privcmd asks for. */
  readonly audit: Audit;
}

const SPLIT_32 = 0xc000_0000;

const AUDIT_32: Audit = {
  accessOk: (address, size) => size <= SPLIT_32 && address <= SPLIT_32 - size,
};

export const PLATFORMS: readonly ModelPlatform[] = [
  {
    id: 'x86-32',
    name: '32 bits, user space 0 to 3 GiB',
    addressing: 'virtual',
    addressBits: 32,
    userEnd: BigInt(SPLIT_32),
    kernelBase: BigInt(SPLIT_32),
    userBase: 0x0804_8000n,
    audit: AUDIT_32,
  },
  {
    id: 'x86-64',
    name: 'x86-64, canonical halves',
    addressing: 'virtual',
    addressBits: 64,
    userEnd: 0x7fff_ffff_f000n,
    kernelBase: 0xffff_8880_0000_0000n,
    userBase: 0x5555_5555_4000n,
    audit: X86_64,
  },
  {
    id: 'physical',
    name: 'x86-64, hypercalls name physical memory, which is in fragments',
    addressing: 'physical',
    addressBits: 64,
    userEnd: 0x7fff_ffff_f000n,
    kernelBase: 0xffff_8880_0000_0000n,
    userBase: 0x5555_5555_4000n,
    audit: X86_64,
  },
];
