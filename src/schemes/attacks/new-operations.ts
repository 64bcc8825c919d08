/** Operations that the kernel has never heard of, or knows an older form of. */
import { OP_careless, OP_grown, OP_scatter_status } from '../operations.js';
import { type Attack, words } from './attack.js';

const FUTURE = 'minutes: the problem of future DM ops';

export const NEW_OPERATION_ATTACKS: readonly Attack[] = [
  {
    id: 'nested-handle',
    name: 'A new operation has handles inside a block; one is a kernel address',
    group: 'new operations',
    breaks: ['kernel-integrity'],
    origin: FUTURE,
    newOperations: true,
    run(lab) {
      const blocks = [{ address: lab.block, size: 16n }];
      const call = { domid: lab.mine, op: OP_scatter_status, payload: words(1), blocks };
      const prepared = lab.prepare(call);
      lab.process.writeU64(lab.block, prepared.where.handleFor(lab.world.canary));
      lab.process.writeU64(lab.block + 8n, 8n);
      lab.go(prepared, call);
    },
  },
  {
    id: 'grown-operation',
    name: 'An operation that had no pointer when the kernel was built has one now',
    group: 'new operations',
    breaks: ['kernel-integrity'],
    origin: FUTURE,
    newOperations: true,
    run(lab) {
      const blocks = [{ address: lab.world.canary, size: 8n }];
      lab.call({ domid: lab.mine, op: OP_grown, payload: words(0), blocks });
    },
  },
  {
    id: 'careless-operation',
    name: 'A new operation’s author uses the copy helper that checks nothing',
    group: 'new operations',
    breaks: ['kernel-integrity'],
    origin: 'minutes: a new weird copy to user memory macro, that can be misused',
    newOperations: true,
    run(lab) {
      const blocks = [{ address: lab.world.canary, size: 64n }];
      const call = { domid: lab.mine, op: OP_careless, payload: words(64), blocks };
      const prepared = lab.prepare(call);
      const plain =
        lab.world.platform.addressing === 'physical'
          ? lab.world.physicalOf(lab.process.space, lab.world.canary)
          : lab.world.canary;
      lab.process.writeU64(prepared.where.handles[0]!.address, plain);
      lab.go(prepared, call);
    },
  },
];
