/** The script of recorded/xenstore-tools.txt: commands for a shell, and what they answered on C xenstored. */
import { readFileSync, writeFileSync } from 'node:fs';
import type { Outcome, RunningStore } from '../support/xenstore-transports.js';

const PATH = new URL('../../test/conformance/recorded/xenstore-tools.txt', import.meta.url);
const COMMAND_LIMIT_MS = 60_000;

export interface Step {
  readonly command: string;
  /** `> line`, `! line` and `= status`. */
  readonly answer: readonly string[];
}

/** The steps in order. */
export function readScript(): Step[] {
  const steps: { command: string; answer: string[] }[] = [];
  for (const line of readFileSync(PATH, 'utf8').split('\n')) {
    if (line.startsWith('$ ')) steps.push({ command: line.slice(2), answer: [] });
    else if (/^[>!=]/.test(line)) steps.at(-1)?.answer.push(line);
  }
  return steps;
}

/** Runs a shell's command line. @returns what it answered, in the script's form */
export async function runStep(store: RunningStore, command: string): Promise<string[]> {
  return toAnswer(await store.run(['sh', '-c', `D=${store.home}; ${command}`], COMMAND_LIMIT_MS));
}

function toAnswer({ status, stdout, stderr }: Outcome): string[] {
  return [...lines('>', stdout), ...lines('!', stderr), `= ${status}`];
}

/** The text's lines; a last one without an end is marked. */
function lines(mark: string, text: string): string[] {
  if (text === '') return [];
  const ended = text.endsWith('\n') ? text.slice(0, -1) : `${text}\\c`;
  return ended.split('\n').map((line) => `${mark} ${line}`.trimEnd());
}

/** Writes the answers into the script, in place of those it has. */
export function record(answers: ReadonlyMap<string, readonly string[]>): void {
  const kept = readFileSync(PATH, 'utf8')
    .split('\n')
    .filter((line) => !/^[>!=]/.test(line));
  const text = kept.flatMap((line) => [line, ...(answers.get(line.slice(2)) ?? [])]).join('\n');
  writeFileSync(PATH, text);
}
