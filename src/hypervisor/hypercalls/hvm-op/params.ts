/**
 * Parameters of an HVM domain: who may read and set which, and what a value may be.
 * @spec xen:arch/x86/hvm/hvm.c hvm_allow_set_param, hvm_set_param, hvm_allow_get_param, hvm_get_param
 */
import * as P from '../../../abi/xen/hvm-params.js';
import { XenError } from '../../../boundary/xen-error.js';
import { requireTarget } from '../../access.js';
import type { Domain, HvmState } from '../../domain.js';
import type { Call } from '../call.js';

/** Parameters that a domain may set for itself, and read of itself. */
const GUEST_SETS = new Set([
  P.HVM_PARAM_CALLBACK_IRQ,
  P.HVM_PARAM_VM86_TSS,
  P.HVM_PARAM_VM86_TSS_SIZED,
  P.HVM_PARAM_ACPI_IOPORTS_LOCATION,
  P.HVM_PARAM_VM_GENERATION_ID_ADDR,
  P.HVM_PARAM_STORE_EVTCHN,
  P.HVM_PARAM_CONSOLE_EVTCHN,
  P.HVM_PARAM_X87_FIP_WIDTH,
]);
const GUEST_READS = new Set([...GUEST_SETS, P.HVM_PARAM_STORE_PFN, P.HVM_PARAM_CONSOLE_PFN, P.HVM_PARAM_ALTP2M]);

const DEPRECATED = new Set([
  P.HVM_PARAM_PAE_ENABLED,
  P.HVM_PARAM_DM_DOMAIN,
  P.HVM_PARAM_MEMORY_EVENT_CR0,
  P.HVM_PARAM_MEMORY_EVENT_CR3,
  P.HVM_PARAM_MEMORY_EVENT_CR4,
  P.HVM_PARAM_MEMORY_EVENT_INT3,
  P.HVM_PARAM_NESTEDHVM,
  P.HVM_PARAM_MEMORY_EVENT_SINGLE_STEP,
  P.HVM_PARAM_BUFIOREQ_EVTCHN,
  P.HVM_PARAM_MEMORY_EVENT_MSR,
]);

/** Parameters that keep their first value other than 0. */
const SET_ONCE = new Set([
  P.HVM_PARAM_VIRIDIAN,
  P.HVM_PARAM_IOREQ_PFN,
  P.HVM_PARAM_BUFIOREQ_PFN,
  P.HVM_PARAM_IOREQ_SERVER_PFN,
  P.HVM_PARAM_NR_IOREQ_SERVER_PAGES,
  P.HVM_PARAM_ALTP2M,
  P.HVM_PARAM_MCA_CAP,
]);

const HVMPTM_one_missed_tick_pending = 3n;
const HVMPV_base_freq = 1n;
const HVMPV_feature_mask = 0x1fffn;
const XEN_ALTP2M_limited = 3n;
const SHUTDOWN_MAX = 5n;
/** Size of a 32-bit TSS, and the largest that has interrupt redirection and I/O bitmaps. */
const TSS_SIZE = 104n;
const TSS_MAX_SIZE = TSS_SIZE + 0x20n + 0x2000n + 1n;
const VM86_TSS_UPDATED = 1n << 63n;

/** The parameters of a domain that a call may access. @throws XenError EINVAL, ESRCH, EPERM */
export function paramsOf(call: Call, domid: number, index: number): { domain: Domain; hvm: HvmState } {
  if (index >= P.HVM_NR_PARAMS) throw new XenError('EINVAL', `no parameter ${index}`);
  const domain = call.hypervisor.domains.getAny(domid, call.caller);
  if (!domain.hvm) throw new XenError('EINVAL', `domain ${domid} is not HVM`);
  requireTarget(call.caller, domain);
  return { domain, hvm: domain.hvm };
}

/** @throws XenError EINVAL for a parameter that is no longer one, EPERM for one that isn't the guest's */
export function checkAccess(call: Call, domain: Domain, index: number, access: 'get' | 'set'): void {
  const allowed = access === 'set' ? GUEST_SETS : GUEST_READS;
  if (allowed.has(index)) return;
  if (DEPRECATED.has(index)) throw new XenError('EINVAL', `parameter ${index} is no longer used`);
  if (domain === call.caller) throw new XenError('EPERM', `parameter ${index} is not the guest's to ${access}`);
}

/** Sets a parameter, with what comes with it. @throws XenError EINVAL, EEXIST */
export function setParam(hvm: HvmState, index: number, value: bigint): void {
  const current = hvm.params[index] as bigint;
  if (SET_ONCE.has(index) && current !== 0n && value !== current) {
    throw new XenError('EEXIST', `parameter ${index} is set to another value`);
  }
  checkValue(index, value);
  hvm.ioreq.gfns.paramSet(index, value);
  switch (index) {
    case P.HVM_PARAM_VM86_TSS:
      // The size of the structure was a constant when there was no parameter for it.
      hvm.params[P.HVM_PARAM_VM86_TSS_SIZED] = value === 0n ? 0n : value | (128n << 32n) | VM86_TSS_UPDATED;
      return;
    case P.HVM_PARAM_VM86_TSS_SIZED: {
      const size = value >> 32n > TSS_MAX_SIZE ? TSS_MAX_SIZE : value >> 32n;
      hvm.params[index] = (value & 0xffffffffn) | (size << 32n) | VM86_TSS_UPDATED;
      return;
    }
    default:
      hvm.params[index] = value;
  }
}

export function getParam(hvm: HvmState, index: number): bigint {
  const tss = hvm.params[P.HVM_PARAM_VM86_TSS_SIZED] as bigint;
  if (index === P.HVM_PARAM_VM86_TSS) return tss & 0xffffffffn;
  if (index === P.HVM_PARAM_VM86_TSS_SIZED) return tss & ~VM86_TSS_UPDATED;
  return hvm.params[index] as bigint;
}

function checkValue(index: number, value: bigint): void {
  if (!isPossible(index, value)) throw new XenError('EINVAL', `parameter ${index} cannot be 0x${value.toString(16)}`);
}

function isPossible(index: number, value: bigint): boolean {
  switch (index) {
    case P.HVM_PARAM_TIMER_MODE:
      return value <= HVMPTM_one_missed_tick_pending;
    case P.HVM_PARAM_VIRIDIAN:
      return (value & ~HVMPV_feature_mask) === 0n && (value & HVMPV_base_freq) !== 0n;
    case P.HVM_PARAM_ACPI_S_STATE:
      return value === 0n || value === 3n;
    case P.HVM_PARAM_ACPI_IOPORTS_LOCATION:
      return value <= 1n;
    case P.HVM_PARAM_ALTP2M:
      return value <= XEN_ALTP2M_limited;
    case P.HVM_PARAM_TRIPLE_FAULT_REASON:
      return value <= SHUTDOWN_MAX;
    case P.HVM_PARAM_X87_FIP_WIDTH:
      return value === 0n || value === 4n || value === 8n;
    case P.HVM_PARAM_VM86_TSS:
      return value <= 0xffffffffn;
    case P.HVM_PARAM_VM86_TSS_SIZED:
      return value >> 32n >= TSS_SIZE;
    case P.HVM_PARAM_MCA_CAP:
      return value === 0n; // no capability of the machine to pass on
    default:
      return true;
  }
}

/** Parameters of a new domain. */
export function initialParams(): BigUint64Array {
  const params = new BigUint64Array(P.HVM_NR_PARAMS);
  params[P.HVM_PARAM_HPET_ENABLED] = 1n;
  params[P.HVM_PARAM_TRIPLE_FAULT_REASON] = 1n; // SHUTDOWN_reboot
  return params;
}
