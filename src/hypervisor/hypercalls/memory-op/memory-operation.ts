/** What an operation of the memory hypercall is given. */
import type { Call, Outcome } from '../call.js';

/** @param start where to go on: the part of the command above its number */
export type MemoryOperation = (call: Call, address: bigint, start: number) => Outcome;
