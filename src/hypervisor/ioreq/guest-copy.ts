/**
 * Copies to and from a domain's guest-physical memory, page by page through its p2m.
 * Addresses are the guest's: what isn't readable or writable memory ends the copy.
 */
import { PAGE_SHIFT, PAGE_SIZE } from '../../abi/ids.js';
import type { Domain } from '../domain.js';
import { P2M_INVALID } from '../p2m.js';

/** @returns false where part of it is not memory; `into` may be filled in part then */
export function readGuest(domain: Domain, addr: bigint, into: Uint8Array): boolean {
  return eachPage(addr, into.length, (gfn, offset, at, length) => {
    const mfn = domain.p2m.mfn(gfn);
    if (mfn === P2M_INVALID) return false;
    into.set(domain.machine.frame(mfn).subarray(offset, offset + length), at);
    return true;
  });
}

/** Read-only memory takes the write and keeps what it has. @returns false where part of it is not memory */
export function writeGuest(domain: Domain, addr: bigint, from: Uint8Array): boolean {
  return eachPage(addr, from.length, (gfn, offset, at, length) => {
    const mfn = domain.p2m.mfn(gfn);
    if (mfn === P2M_INVALID) return false;
    if (domain.p2m.type(gfn) === 'ram_ro') return true;
    domain.machine.frame(mfn).set(from.subarray(at, at + length), offset);
    domain.hvm?.logDirty.guestWrote(gfn);
    return true;
  });
}

function eachPage(
  addr: bigint,
  length: number,
  copy: (gfn: number, offset: number, at: number, length: number) => boolean,
): boolean {
  let at = 0;
  while (at < length) {
    const here = BigInt.asUintN(64, addr + BigInt(at));
    const offset = Number(here & BigInt(PAGE_SIZE - 1));
    const part = Math.min(PAGE_SIZE - offset, length - at);
    if (!copy(Number(here >> BigInt(PAGE_SHIFT)), offset, at, part)) return false;
    at += part;
  }
  return true;
}
