/**
 * DM_OP from an unmodified C program through the interposition library, against an echo of the same sizes between two C
 * programs over the same kind of socket; the C client measures both, by turns (c/dm-op-client.c).
 */
import { type BenchOptions, type Figure, fromRounds, type Group, type Round } from './figure.js';
import { buildProgram, cpus, firstCpu, type HostProcess, linesOf, setCpus, startHost } from './programs.js';

const TARGET = 1.5;
const OPERATIONS = ['nr_vcpus', 'set_isa_irq_level', 'track_dirty_vram'];
const BATCH = 500;

export const dmOpLibrary: Group = {
  name: 'dm-op-library',
  async measure(options) {
    const client = await buildProgram('dm-op-client', ['-lxendevicemodel']);
    const host = await startHost('library-host');
    try {
      const figures: Figure[] = [];
      for (const operation of OPERATIONS) figures.push(await measureAnywhere(client, host, operation, options));
      for (const operation of OPERATIONS) figures.push(await measureOnOneCore(client, host, operation, options));
      return figures;
    } finally {
      await host.stop();
    }
  },
};

function measureAnywhere(client: string, host: HostProcess, operation: string, options: BenchOptions): Promise<Figure> {
  return measure(client, host, operation, options, `dm-op-library.${operation}`);
}

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
  for await (const line of linesOf(client, args, host.environment)) {
    const { op, echo } = JSON.parse(line) as { op: [number, number]; echo: [number, number] };
    rounds.push({ value: op, baseline: echo });
  }
  return fromRounds(rounds, { name, unit: 'us', target: TARGET, against: 'C-to-C echo of the same sizes' });
}
