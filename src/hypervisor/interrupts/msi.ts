/**
 * What an emulated device's MSI asks for, from the address and data that its driver programmed.
 *
 * Both numbers are the guest's by way of its device model; nothing but the fields below is looked at, as in Xen: not even
 * whether the address is one of MSIs.
 *
 * @spec xen:arch/x86/hvm/irq.c hvm_inject_msi, xen:arch/x86/hvm/vmsi.c vmsi_deliver
 */
import { XenError } from '../../boundary/xen-error.js';
import type { Msi } from './interrupt-sink.js';

const DELIVERY_FIXED = 0;
const DELIVERY_LOWEST_PRIORITY = 1;

/** An MSI with vector 0 names an event channel's "pirq" instead of a vector. */
export type DecodedMsi = { readonly pirq: number } | Msi;

/** @throws XenError EINVAL for a delivery mode that no local APIC input has here, ERANGE for a pirq that cannot be */
export function decodeMsi(addr: bigint, data: number): DecodedMsi {
  const low = Number(BigInt.asUintN(32, addr));
  const dest = (low >>> 12) & 0xff;
  const vector = data & 0xff;
  if (vector === 0) {
    const pirq = (Number(BigInt.asUintN(32, addr >> 32n)) & 0xffffff00) | dest;
    if (pirq <= 0) throw new XenError('ERANGE', 'an MSI without a vector names no pirq');
    return { pirq };
  }
  const mode = (data >>> 8) & 7;
  if (mode !== DELIVERY_FIXED && mode !== DELIVERY_LOWEST_PRIORITY) {
    throw new XenError('EINVAL', `MSI delivery mode ${mode}`);
  }
  return {
    vector,
    delivery: mode === DELIVERY_FIXED ? 'fixed' : 'lowest-priority',
    dest,
    isLogical: (low & 4) !== 0,
    isLevel: (data & 0x8000) !== 0,
  };
}
