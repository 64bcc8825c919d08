/** What commands print: people's output and messages, colours where a terminal takes them, tables. */
import Table from 'cli-table3';
import colors from 'picocolors';

export { colors };

/** A line of output. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** A line of information or an error: never mixed into output that is piped on. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value));
}

/** A table without lines, as `ls -l` looks. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const none = { top: '', 'top-mid': '', 'top-left': '', 'top-right': '', bottom: '', 'bottom-mid': '' };
  const blank = { 'bottom-left': '', 'bottom-right': '', left: '', 'left-mid': '', mid: '', 'mid-mid': '' };
  const view = new Table({
    head: head.map((name) => colors.bold(name)),
    chars: { ...none, ...blank, right: '', 'right-mid': '', middle: '  ' },
    style: { 'padding-left': 0, 'padding-right': 0, head: [], border: [] },
  });
  for (const row of rows) view.push([...row]);
  return view.toString();
}
