/**
 * DM_OP from an unmodified C program through the interposition library, against an echo of the same sizes between two C
 * programs over the same kind of socket; the C client measures both, by turns (c/dm-op-client.c).
 */
import { type BenchOptions, type Figure, fromRounds, type Group, type Round } from './figure.js';
import { buildProgram, cpus, firstCpu, type HostProcess, linesOf, setCpus, startHost } from './programs.js';
import { callsOf, callsOfProgram } from './system-calls.js';

const TARGET = 1.5;
const OPERATIONS = ['nr_vcpus', 'set_isa_irq_level', 'track_dirty_vram'];
const BATCH = 500;
/** Of the client, before it prints the first. */
const WARM_UP_ROUNDS = 2;

export const dmOpLibrary: Group = {
  name: 'dm-op-library',
  async measure(options) {
    const client = await buildProgram('dm-op-client', ['-lxendevicemodel']);
    const host = await startHost('library-host');
    try {
      const figures: Figure[] = [];
      for (const operation of OPERATIONS) {
        const figure = await measure(client, host, operation, options, `dm-op-library.${operation}`);
        const note = await countCalls(client, host, operation);
        figures.push(note === undefined ? figure : { ...figure, note });
      }
      for (const operation of OPERATIONS) figures.push(await measureOnOneCore(client, host, operation, options));
      return figures;
    } finally {
      await host.stop();
    }
  },
};

async function measureOnOneCore(
  client: string,
  host: HostProcess,
  operation: string,
  options: BenchOptions,
): Promise<Figure> {
  const everywhere = cpus();
  setCpus(host.pid, firstCpu());
  try {
    return await measure(client, host, operation, options, `dm-op-library.${operation}.one-core`, firstCpu());
  } finally {
    setCpus(host.pid, everywhere);
  }
}

async function measure(
  client: string,
  host: HostProcess,
  operation: string,
  { quick }: BenchOptions,
  name: string,
  cpu?: string,
): Promise<Figure> {
  const args = [operation, '1', String(quick ? 12 : 60), String(BATCH), ...(cpu === undefined ? [] : [cpu])];
  const rounds: Round[] = [];
  for await (const line of linesOf(client, args, host.variables)) {
    const { op, echo } = JSON.parse(line) as { op: [number, number]; echo: [number, number] };
    rounds.push({ value: op, baseline: echo });
  }
  return fromRounds(rounds, { name, unit: 'us', target: TARGET, against: 'C-to-C echo of the same sizes' });
}

/** System calls a DM op, of the client and of the host: what is left of two runs of different length. */
async function countCalls(client: string, host: HostProcess, operation: string): Promise<string | undefined> {
  const run = (rounds: number) =>
    callsOfProgram([client, operation, '1', String(rounds), String(BATCH)], host.variables);
  const [short, long] = [await run(1), await run(3)];
  if (short === undefined || long === undefined) return undefined;
  const ofClient = (long - short) / (2 * BATCH) - 2; // the echo's own two
  const nrOps = (WARM_UP_ROUNDS + 2) * BATCH;
  const ofHost = await callsOf(host.pid, async () => {
    for await (const _ of linesOf(client, [operation, '1', '2', String(BATCH)], host.variables));
  });
  if (ofHost === undefined) return undefined;
  const [a, b] = [ofClient.toFixed(1), (ofHost / nrOps).toFixed(1)];
  return `system calls a DM op: client ${a}, host ${b}; an echo: 2 and 2. Both wake twice: the server, then the client`;
}
