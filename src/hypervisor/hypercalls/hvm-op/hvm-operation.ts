/** What an operation of the HVM hypercall is given. */
import type { Call } from '../call.js';

export type HvmOperation = (call: Call, address: bigint) => number;
