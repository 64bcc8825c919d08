/**
 * Changes to what a domain has at its guest frames, with the ownership of frames that goes with them.
 * @spec xen:arch/x86/mm/p2m.c, xen:common/memory.c guest_remove_page
 */

import { XenError } from '../boundary/xen-error.js';
import type { Domain } from './domain.js';
import { P2M_GFN_LIMIT, P2M_INVALID } from './p2m.js';

const GFN_LIMIT = BigInt(P2M_GFN_LIMIT);

/** A gfn out of a guest's 64-bit number; anything above the limit is an ordinary unmappable gfn. */
export function gfnOf(value: bigint): number {
  return value < GFN_LIMIT ? Number(value) : P2M_GFN_LIMIT;
}

/** XENMEM and XENMAPSPACE calls refuse this one before anything else. */
export const INVALID_GFN = (1n << 64n) - 1n;

export function isMappable(gfn: number): boolean {
  return gfn < P2M_GFN_LIMIT;
}

/** Maps a page that the domain owns; for migration it counts as written. */
export function mapPage(domain: Domain, gfn: number, mfn: number): void {
  domain.p2m.set(gfn, mfn, 'ram_rw');
  domain.hvm?.logDirty.markDirty(gfn);
}

/**
 * Removes the page at a gfn and frees it, unless it belongs to Xen (shared info), which is only unhooked.
 * @throws XenError ENOENT for a hole
 */
export function removePage(domain: Domain, gfn: number): void {
  const mfn = domain.p2m.remove(gfn);
  if (mfn === P2M_INVALID) throw new XenError('ENOENT', `nothing at gfn 0x${gfn.toString(16)}`);
  releaseRemoved(domain, gfn, mfn);
}

/**
 * Moves a page of the domain to another gfn. What was there is freed.
 * @throws XenError EINVAL where there is no page to move, ENOENT for a gfn that cannot be mapped
 */
export function movePage(domain: Domain, from: number, to: number): void {
  const mfn = domain.p2m.mfn(from);
  if (mfn === P2M_INVALID || mfn === domain.sharedInfoMfn)
    throw new XenError('EINVAL', `nothing to move at gfn 0x${from.toString(16)}`);
  placePage(domain, mfn, from, to);
}

/** Puts the shared info page at a gfn, and nowhere else. @throws XenError ENOENT, ENOMEM */
export function placeSharedInfo(domain: Domain, gfn: number): void {
  const mfn = domain.allocateSharedInfo();
  placePage(domain, mfn, domain.sharedInfoGfn, gfn);
  domain.sharedInfoGfn = gfn;
}

function placePage(domain: Domain, mfn: number, from: number, to: number): void {
  if (!isMappable(to)) throw new XenError('ENOENT', `gfn 0x${to.toString(16)} cannot be mapped`);
  const previous = domain.p2m.mfn(to);
  if (previous !== P2M_INVALID && previous !== mfn) {
    domain.p2m.remove(to);
    releaseRemoved(domain, to, previous);
  }
  if (from !== P2M_INVALID && from !== to) domain.p2m.remove(from);
  mapPage(domain, to, mfn);
}

function releaseRemoved(domain: Domain, gfn: number, mfn: number): void {
  if (mfn === domain.sharedInfoMfn) {
    if (domain.sharedInfoGfn === gfn) domain.sharedInfoGfn = P2M_INVALID;
  } else domain.memory.free(mfn);
}
