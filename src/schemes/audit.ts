/** The audit as a whole: every proposal against every attack, and what each is like. The clock and files are the caller's. */
import type { Attack } from './attacks/attack.js';
import { costs } from './cost.js';
import { type Properties, propertiesOf, type ReadSource } from './properties.js';
import type { Proposal } from './proposal.js';
import { type AttackOutcome, runAttack } from './run-attack.js';

export interface AuditOptions {
  readonly seed: number;
  readonly proposals: readonly Proposal[];
  readonly attacks: readonly Attack[];
  /** Nanoseconds. */
  readonly nowNs: () => number;
  /** A source file of the project by its path, or undefined. */
  readonly readSource: ReadSource;
  /** Told before each attack. */
  readonly onProgress?: (done: number, all: number, proposal: Proposal, attack: Attack) => void;
}

export interface SchemeReport {
  readonly proposal: Proposal;
  readonly outcomes: readonly { readonly attack: Attack; readonly outcome: AttackOutcome }[];
  readonly nsPerCall: number;
  readonly properties: Properties;
}

export interface AuditReport {
  readonly seed: number;
  readonly runs: number;
  readonly schemes: readonly SchemeReport[];
}

export function audit(options: AuditOptions): AuditReport {
  const { seed, proposals, attacks, nowNs, readSource, onProgress } = options;
  const all = proposals.length * attacks.length;
  let done = 0;
  let runs = 0;
  const outcomes = proposals.map((proposal) =>
    attacks.map((attack) => {
      onProgress?.(done++, all, proposal, attack);
      const outcome = runAttack(proposal, attack, seed);
      runs += outcome.runs;
      return { attack, outcome };
    }),
  );
  const ns = costs(proposals, seed, nowNs);
  const schemes = proposals.map(
    (proposal, i): SchemeReport => ({
      proposal,
      outcomes: outcomes[i] ?? [],
      nsPerCall: ns.get(proposal.id) ?? Number.NaN,
      properties: propertiesOf(proposal, seed, readSource),
    }),
  );
  return { seed, runs, schemes };
}

/** As JSON. */
export function auditJson({ seed, runs, schemes }: AuditReport) {
  return {
    seed,
    runs,
    schemes: schemes.map(({ proposal, outcomes, nsPerCall, properties }) => ({
      id: proposal.id,
      name: proposal.name,
      product: proposal.product,
      attacks: outcomes.map(({ attack, outcome }) => ({
        id: attack.id,
        blocked: outcome.blocked,
        reason: outcome.reason,
        platform: outcome.run.platform,
        runs: outcome.runs,
      })),
      cost: { nsPerCall },
      ...properties,
    })),
  };
}
