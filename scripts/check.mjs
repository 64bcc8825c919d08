// `npm run check`: types and the layer rule (project references), lint and format, dead code.
import { spawnSync } from 'node:child_process';

const steps = [
  ['types and layers', 'tsc', '-b'],
  ['lint and format', 'biome', 'check', '.'],
  ['dead code', 'knip'],
];

let failed = 0;
for (const [name, command, ...args] of steps) {
  process.stdout.write(`== ${name}\n`);
  const { status } = spawnSync('npx', ['--no-install', command, ...args], { stdio: 'inherit' });
  if (status !== 0) failed++;
}
process.exitCode = failed === 0 ? 0 : 1;
