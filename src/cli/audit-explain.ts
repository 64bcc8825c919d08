/** `postern audit --explain`: one attack, told step by step. */
import { type Attack, INVARIANTS, type Proposal, runAttack } from '../schemes/index.js';
import { colors, print } from './output.js';

export function explain(attack: Attack, proposals: readonly Proposal[], seed: number): void {
  print(colors.bold(`${attack.id}: ${attack.name}`));
  print(`origin: ${attack.origin}`);
  for (const invariant of attack.breaks) print(`would break ${invariant}: ${INVARIANTS[invariant]}`);
  for (const proposal of proposals) explainOne(attack, proposal, seed);
}

function explainOne(attack: Attack, proposal: Proposal, seed: number): void {
  const { blocked, reason, runs, run } = runAttack(proposal, attack, seed);
  const verdict = blocked ? colors.green('stopped') : colors.red('gets through');
  print(`\n${colors.bold(proposal.id)} (${proposal.name}): ${verdict}`);
  if (blocked) {
    print(`  in all ${runs} runs; ${reason}`);
    for (const step of run.steps) print(`  ${step}`);
    return;
  }
  print(`  in run ${runs}, platform ${run.platform}`);
  for (const step of run.steps) print(`  ${step}`);
  if (run.interleaving.length > 0) {
    print('  what the calls did, and where the second thread ran:');
    let point = 0;
    for (const event of run.interleaving) {
      const isThread = event.startsWith(' ');
      print(isThread ? colors.yellow(`         ${event.trim()}`) : `    ${`${point++}`.padStart(3)}  ${event}`);
    }
  }
  if (run.hits.length > 0) print('  memory hit:');
  for (const { direction, label, pfn, address, bytes } of run.hits) {
    print(`    ${direction} ${bytes} bytes, frame ${pfn} (${label}), as 0x${address.toString(16)}`);
  }
  for (const { invariant, what } of run.breaches) print(`  ${colors.red(invariant)}: ${what}`);
}
