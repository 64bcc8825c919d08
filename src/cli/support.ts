/** `postern support`: the support matrix, from the dispatch tables themselves. */
import { Command } from 'commander';
import { colors, print, printJson, table } from './output.js';
import { supportMatrix } from './support-matrix.js';

export function supportCommand(): Command {
  return new Command('support')
    .description('What is supported, partly supported and refused, operation by operation.')
    .option('--json', 'print one JSON object')
    .addHelpText('after', '\nExamples:\n  postern support\n  postern support --json | jq .dm_op')
    .action((options: { json?: true }) => {
      const matrix = supportMatrix();
      if (options.json) return printJson(matrix);
      const paint = { supported: colors.green, partial: colors.yellow, refused: colors.red };
      for (const [title, rows] of Object.entries(matrix)) {
        print(`\n${colors.bold(title)}`);
        print(
          table(
            ['operation', 'status', 'note'],
            rows.map((row) => [row.name, paint[row.status](row.status), row.note]),
          ),
        );
      }
    });
}
