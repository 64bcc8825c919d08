// The recorded behaviour of C xenstored on real Xen, step by step.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { type Client, show, World } from './harness.js';

interface Step {
  readonly line: string;
  readonly client: string;
  readonly tx: string;
  readonly type: string;
  readonly payload: string;
  expected: string[];
}

function unescaped(text: string): string {
  return text
    .replace(/%(\d+)/g, (_, n: string) => 'p'.repeat(Number(n)))
    .replace(/\\x([0-9a-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

function parse(text: string): Map<string, Step[]> {
  const scenarios = new Map<string, Step[]>();
  let steps: Step[] = [];
  for (const block of text.split('\n').filter((line) => line !== '' && !line.startsWith('#'))) {
    const scenario = /^S (.*)/.exec(block)?.[1];
    const step = /^([ABC]) (\S+) (\S+) ?(.*)$/.exec(block);
    const last = steps.at(-1);
    if (scenario !== undefined) {
      steps = [];
      scenarios.set(scenario, steps);
    } else if (step !== null) {
      const [line, client, tx, type, payload] = step as unknown as [string, string, string, string, string];
      steps.push({ line, client, tx, type, payload: unescaped(payload), expected: [] });
    } else if (block.startsWith('  !')) {
      (last as Step).expected = [];
    } else {
      (last as Step).expected.push(unescaped(block.trim()));
    }
  }
  return scenarios;
}

function run(steps: readonly Step[]): void {
  const world = new World({ domainExists: (domid) => domid <= 1 });
  const clients: Record<string, Client> = { A: world.client(0), B: world.client(0), C: world.client(0) };
  world.tool.ask('MKDIR', '/t|');
  for (const { line, client: name, tx, type, payload, expected } of steps) {
    const client = clients[name] as Client;
    const received: string[] = [];
    if (tx.startsWith('>')) {
      client.begin(tx.slice(1));
      received.push(`${name} TRANSACTION_START <id>|`);
    } else {
      const id = tx.startsWith('t') ? tx : Number(tx.replace('#', ''));
      client.send(type, payload, id);
    }
    world.pass(25);
    for (const who of [name, ...Object.keys(clients).filter((k) => k !== name)]) {
      for (const message of (clients[who] as Client).take()) {
        const text = `${who} ${show(message)}`;
        received.push(message.type === 'DIRECTORY_PART' ? text.replace(/ \d+\|/, ' <gen>|') : text);
      }
    }
    expect(received, line).toEqual(expected);
  }
  expect(world.server.check()).toEqual([]);
}

describe('as C xenstored 4.17 on real Xen', () => {
  const text = readFileSync(new URL('./c-xenstored-4.17.txt', import.meta.url), 'utf8');
  const scenarios = parse(text);
  it('has scenarios', () => expect(scenarios.size).toBe(20));
  for (const [name, steps] of scenarios) it(name, () => run(steps));
});
