/**
 * Who may do what to whom: the rules of Xen's default policy, in one place.
 * @spec xen:include/xsm/dummy.h
 */

import { XenError } from '../boundary/xen-error.js';
import type { Domain } from './domain.js';

/** Operations for the control domain only (XSM_PRIV). @throws XenError EPERM */
export function requireControl(caller: Domain): void {
  if (caller.kind !== 'control') throw new XenError('EPERM', `domain ${caller.domid} does not control the machine`);
}

/** Operations on oneself, or on any domain for the control domain (XSM_TARGET). @throws XenError EPERM */
export function requireTarget(caller: Domain, target: Domain): void {
  if (caller !== target) requireControl(caller);
}
