/** What an operation of the event channel hypercall is given. */
import type { Call, Outcome } from '../call.js';

export type EventChannelOperation = (call: Call, address: bigint) => Outcome;
