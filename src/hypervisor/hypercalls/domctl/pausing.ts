/**
 * XEN_DOMCTL_pausedomain, XEN_DOMCTL_unpausedomain and XEN_DOMCTL_resumedomain. Pauses are counted: a domain runs when
 * each has been taken back.
 * @spec xen:common/domain.c domain_pause_by_systemcontroller, domain_unpause_by_systemcontroller, domain_resume
 */

import { XenError } from '../../../boundary/xen-error.js';
import type { Domain } from '../../domain.js';
import type { Call } from '../call.js';
import type { Implemented } from '../operation-table.js';
import type { DomctlOperation } from './domctl-operation.js';

export const pausedomain: Implemented<DomctlOperation> = {
  name: 'pausedomain',
  status: 'supported',
  run(call, _argument, domain) {
    refuseSelf(call, domain);
    domain.pause();
    return 0;
  },
};

export const unpausedomain: Implemented<DomctlOperation> = {
  name: 'unpausedomain',
  status: 'supported',
  run(_call, _argument, domain) {
    domain.unpause();
    return 0;
  },
};

export const resumedomain: Implemented<DomctlOperation> = {
  name: 'resumedomain',
  status: 'supported',
  run(call, _argument, domain) {
    refuseSelf(call, domain);
    domain.resume();
    return 0;
  },
};

function refuseSelf(call: Call, domain: Domain): void {
  if (domain === call.caller) throw new XenError('EINVAL', 'a domain cannot pause itself');
}
