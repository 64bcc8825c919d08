/**
 * XEN_DOMCTL_destroydomain. The domid stays taken for as long as somebody holds the domain.
 * @spec xen:common/domain.c domain_kill
 */

import { XenError } from '../../../boundary/xen-error.js';
import type { Domain } from '../../domain.js';
import type { Call, Steps } from '../call.js';
import type { Implemented } from '../operation-table.js';
import type { DomctlOperation } from './domctl-operation.js';

export const destroydomain: Implemented<DomctlOperation> = {
  name: 'destroydomain',
  status: 'supported',
  run(call, _argument, domain) {
    if (domain === call.caller) throw new XenError('EINVAL', 'a domain cannot destroy itself');
    return destroy(call, domain);
  },
};

function* destroy(call: Call, domain: Domain): Steps {
  while (!domain.kill(call.preemption)) yield;
  return 0;
}
