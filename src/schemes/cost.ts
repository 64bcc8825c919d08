/**
 * What a call costs, in the model: the same operation with the same block, for every proposal, in turns, so that what
 * else the machine does meets them all. The clock is the caller's.
 */
import { XEN_DMOP_track_dirty_vram } from '../abi/xen/dm-op.js';
import { Lab, track } from './attacks/attack.js';
import { type ModelPlatform, PLATFORMS } from './model/platform.js';
import { World } from './model/world.js';
import type { PreparedCall, Proposal } from './proposal.js';

const ROUNDS = 12;
const CALLS_A_ROUND = 400;

interface Runner {
  readonly id: string;
  readonly world: World;
  readonly call: PreparedCall;
  readonly ns: number[];
}

/**
 * @param nowNs a clock, in nanoseconds
 * @returns nanoseconds a call by the proposal's id: the fastest round's mean
 */
export function costs(proposals: readonly Proposal[], seed: number, nowNs: () => number): ReadonlyMap<string, number> {
  const runners = proposals.map((proposal): Runner => {
    const world = new World(PLATFORMS[1] as ModelPlatform, seed);
    world.scheduler.isRecording = false;
    const lab = new Lab(world, proposal);
    const blocks = [{ address: lab.out, size: 8n }];
    const call = lab.prepare({ domid: lab.mine, op: XEN_DMOP_track_dirty_vram, payload: track(64), blocks });
    const { ret, reason } = call.go();
    if (ret !== 0) throw new Error(`${proposal.id} does not do the work that is measured: ${reason}`);
    return { id: proposal.id, world, call, ns: [] };
  });
  for (let round = 0; round <= ROUNDS; round++) {
    for (const runner of runners) {
      const ns = oneRound(runner, nowNs);
      if (round > 0) runner.ns.push(ns); // the first is for the compiler
    }
  }
  return new Map(runners.map(({ id, ns }) => [id, Math.round(Math.min(...ns))]));
}

function oneRound({ world, call }: Runner, nowNs: () => number): number {
  const start = nowNs();
  for (let i = 0; i < CALLS_A_ROUND; i++) {
    world.meter.kernelBytes = 0;
    world.meter.copies = 0;
    call.go();
  }
  return (nowNs() - start) / CALLS_A_ROUND;
}
