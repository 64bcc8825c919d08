/**
 * Which virtual interrupts are global: bound once a domain, through vCPU 0, and not once a vCPU.
 * @spec xen:public/xen.h VIRQ_*
 */
import { VIRQ_ARCH_0, VIRQ_DEBUG, VIRQ_TIMER, VIRQ_XENOPROF, VIRQ_XENPMU } from '../abi/xen/xen.js';

const PER_VCPU = new Set([VIRQ_TIMER, VIRQ_DEBUG, VIRQ_XENOPROF, VIRQ_XENPMU]);

/** On x86 VIRQ_ARCH_0 (machine checks) and its kin are global, too. */
export function virqIsGlobal(virq: number): boolean {
  return virq >= VIRQ_ARCH_0 || !PER_VCPU.has(virq);
}
