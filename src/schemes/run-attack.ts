/** Carries out one attack against one proposal: on every platform, under every schedule that matters. */
import type { Attack } from './attacks/attack.js';
import { Lab } from './attacks/attack.js';
import type { Breach, Hit } from './model/breach.js';
import { PLATFORMS } from './model/platform.js';
import { Random } from './model/random.js';
import { type Schedule, schedules } from './model/scheduler.js';
import { World } from './model/world.js';
import type { Proposal } from './proposal.js';

/** What came of it. */
export interface AttackOutcome {
  readonly blocked: boolean;
  /** Of a blocked attack, why its last call was refused; of another, what it did. */
  readonly reason: string;
  readonly runs: number;
  /** The run that got through, or the first one. */
  readonly run: AttackRun;
}

/** One run, to the last detail. */
export interface AttackRun {
  readonly platform: string;
  readonly schedule: Schedule;
  readonly steps: readonly string[];
  /** The copies and checks of the calls in progress, with the second thread between them. */
  readonly interleaving: readonly string[];
  readonly hits: readonly Hit[];
  readonly breaches: readonly Breach[];
  readonly refusal: string | undefined;
  readonly points: number;
}

export function runAttack(proposal: Proposal, attack: Attack, seed: number): AttackOutcome {
  let runs = 0;
  let first: AttackRun | undefined;
  for (const platform of PLATFORMS) {
    const once = (schedule: Schedule) => {
      runs++;
      const world = new World(platform, new Random(seed).fork(`${attack.id} ${platform.id}`).u32(), schedule);
      return runOnce(world, proposal, attack, schedule);
    };
    const plain = once([]);
    first ??= plain;
    if (plain.breaches.length > 0) return gotThrough(plain, runs);
    if (!attack.races) continue;
    for (const schedule of schedules(plain.points, new Random(seed).fork(attack.id))) {
      const raced = once(schedule);
      if (raced.breaches.length > 0) return gotThrough(raced, runs);
    }
  }
  const run = first as AttackRun;
  return { blocked: true, reason: run.refusal ?? 'nothing is gained by it', runs, run };
}

function runOnce(world: World, proposal: Proposal, attack: Attack, schedule: Schedule): AttackRun {
  world.hasNewOperations = attack.newOperations ?? false;
  const lab = new Lab(world, proposal);
  try {
    attack.run(lab);
  } catch (error) {
    // Whatever isn't a refusal is an assertion of the kernel's or the hypervisor's that an input has made fail.
    world.breach('no-crash', `an assertion fails: ${(error as Error).message}`);
  }
  world.inspect();
  return {
    platform: world.platform.id,
    schedule,
    steps: lab.steps,
    interleaving: world.scheduler.events,
    hits: world.hits,
    breaches: world.breaches,
    refusal: lab.refusal,
    points: world.scheduler.points,
  };
}

function gotThrough(run: AttackRun, runs: number): AttackOutcome {
  const [breach] = run.breaches;
  return { blocked: false, reason: `${breach?.invariant}: ${breach?.what}`, runs, run };
}
