/** What an operation of sysctl is given: the copy of its argument, and where to write results. */
import type { TypeOf } from '../../../abi/layout.js';
import type { xen_sysctl } from '../../../abi/xen/sysctl.js';
import type { Call, Outcome } from '../call.js';

export type SysctlOperation = (call: Call, address: bigint, op: TypeOf<typeof xen_sysctl>) => Outcome;
