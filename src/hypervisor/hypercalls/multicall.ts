/**
 * The multicall hypercall: a list of calls, each with its own result. A call that fails doesn't end the list, memory that
 * cannot be read or written does.
 * @spec xen:common/multicall.c do_multicall
 */
import { multicall_entry } from '../../abi/xen/xen.js';
import { XenError } from '../../boundary/xen-error.js';
import type { Call, Steps } from './call.js';
import { argument, readGuest, u32Argument, writeGuestField } from './guest-struct.js';
import { startHypercall } from './table.js';

export function multicall(call: Call, args: readonly bigint[]): Steps {
  if (call.inMulticall) throw new XenError('EINVAL', 'a multicall within a multicall');
  call.inMulticall = true;
  call.name = 'multicall of nothing';
  return callAll(call, argument(args, 0), u32Argument(args, 1));
}

function* callAll(call: Call, list: bigint, nrCalls: number): Steps {
  for (let i = 0; i < nrCalls; i++) {
    if (i > 0 && call.preemption.due()) yield;
    const address = BigInt.asUintN(64, list + BigInt(i * multicall_entry.size));
    const { op, args } = readGuest(call.memory, address, multicall_entry);
    const result = yield* callOne(call, Number(BigInt.asUintN(32, op)), args);
    call.name = `multicall of ${call.name ?? op}`;
    writeGuestField(call.memory, address, multicall_entry.fields.result, BigInt.asUintN(64, result));
  }
  return 0;
}

function* callOne(call: Call, op: number, args: readonly bigint[]): Generator<void, bigint, void> {
  try {
    const outcome = startHypercall(call, op, args);
    return BigInt(typeof outcome === 'number' ? outcome : yield* outcome);
  } catch (error) {
    if (error instanceof XenError) return BigInt(-error.errno);
    throw error;
  }
}
