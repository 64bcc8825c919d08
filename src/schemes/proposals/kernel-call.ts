/** The kernel's own DM op, which nothing audits: what every proposal lets it do unless it says otherwise. */

import type { World } from '../model/world.js';
import { execute, STRUCT_SIZE } from '../operations.js';
import { attempt, type DmCall, type Result } from '../proposal.js';
import { RawBuffer } from './copying.js';

export function unauditedKernelCall(world: World, call: DmCall): Result {
  const struct = new Uint8Array(STRUCT_SIZE);
  new DataView(struct.buffer).setUint32(0, call.op, true);
  struct.set(call.payload ?? new Uint8Array(0), 8);
  const { space } = world.attacker; // whichever process runs: the kernel half is the same in all
  return attempt(() =>
    execute(world, 'kernel', call.domid, struct, {
      get(index) {
        const block = call.blocks?.[index - 1];
        if (!block) return undefined;
        const handle =
          world.platform.addressing === 'physical' ? world.physicalOf(space, block.address) : block.address;
        return new RawBuffer(world, 'kernel', space, handle, Number(block.size));
      },
      nested: () => undefined,
      unchecked: () => undefined,
    }),
  );
}
