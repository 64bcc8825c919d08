/** What an HVM domain starts with. */
import type { Domain, HvmState } from './domain.js';
import { initialParams } from './hypercalls/hvm-op/params.js';
import { InterruptLines } from './interrupts/interrupt-lines.js';
import { IoreqServers } from './ioreq/ioreq-servers.js';
import { LogDirty } from './log-dirty.js';
import { PinnedCacheAttr } from './pinned-cacheattr.js';

export function createHvmState(domain: Domain): HvmState {
  const logDirty = new LogDirty(domain.p2m);
  return {
    params: initialParams(),
    ioreq: new IoreqServers(domain, logDirty),
    interrupts: new InterruptLines(),
    logDirty,
    cacheAttr: new PinnedCacheAttr(),
  };
}
