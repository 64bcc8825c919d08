/** What an operation of domctl is given. The caller is the control domain, the interface version has been checked. */
import type { Domain } from '../../domain.js';
import type { Call, Outcome } from '../call.js';
import type { DomctlArgument } from './domctl-argument.js';

/** @param domain the one that the argument names; createdomain and getdomaininfo look at the domid themselves */
export type DomctlOperation = (call: Call, argument: DomctlArgument, domain: Domain) => Outcome;
