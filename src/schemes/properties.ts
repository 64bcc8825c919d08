/** What the proposals are like beside secure or not: each property by a run, with what it rests on. */
import { XEN_DMOP_modified_memory, XEN_DMOP_nr_vcpus, XEN_DMOP_track_dirty_vram } from '../abi/xen/dm-op.js';
import { Lab, track, words } from './attacks/attack.js';
import { attack } from './attacks/index.js';
import { type ModelPlatform, PLATFORMS } from './model/platform.js';
import { World } from './model/world.js';
import { OP_exchange_memory, OP_grown, OP_scatter_status } from './operations.js';
import type { Proposal, Result, Source } from './proposal.js';
import { opAwareKnowing } from './proposals/op-aware.js';
import { runAttack } from './run-attack.js';

export interface Properties {
  /** What has to change for a new operation with two blocks. */
  readonly placesForNewOperation: readonly string[];
  /** Blocks beside the struct that one call can pass: by the kernel, and by the hypervisor. */
  readonly blocks: {
    readonly kernel: number | 'any' | 'in the struct';
    readonly hypervisor: number | 'any' | 'in the struct';
  };
  /** Whether a call can use memory that nothing was declared about before. */
  readonly variesPerCall: boolean;
  /** Whether an operation's code can reach no memory but what the call itself has named. */
  readonly boundToCall: boolean;
  /** Ranges that had to be told in the course of one honest call, by platform. */
  readonly rangesTold: Readonly<Record<string, number>>;
  /** Platforms on which honest calls work. */
  readonly worksOn: readonly string[];
  /** What an operation's author who uses the wrong helper does. */
  readonly wrongHelper: string;
  /** Undefined where the sources aren't there. */
  readonly lines: { readonly kernel: number | undefined; readonly hypervisor: number | undefined };
}

export function propertiesOf(proposal: Proposal, seed: number, readSource: ReadSource): Properties {
  const careless = runAttack(proposal, attack('careless-operation')!, seed);
  const working = PLATFORMS.filter((platform) => worksHonestly(proposal, platform, seed));
  return {
    placesForNewOperation: placesForNewOperation(proposal, seed),
    blocks: blocksPassed(proposal, seed),
    variesPerCall: working.every((platform) => variesPerCall(proposal, platform, seed)),
    boundToCall: PLATFORMS.every((platform) => !reachesUnnamed(proposal, platform, seed)),
    rangesTold: Object.fromEntries(PLATFORMS.map((platform) => [platform.id, rangesTold(proposal, platform, seed)])),
    worksOn: working.map(({ id }) => id),
    wrongHelper: careless.blocked
      ? careless.reason.replace(/:.*/, '')
      : `breaks ${careless.run.breaches[0]?.invariant}`,
    lines: {
      kernel: linesOf(proposal.sources.kernel, readSource),
      hypervisor: linesOf(proposal.sources.hypervisor, readSource),
    },
  };
}

/** Calls a well-behaved device model makes: no block, one block written, one block read across a page's end. */
export function worksHonestly(proposal: Proposal, platform: ModelPlatform, seed: number): boolean {
  return honestCalls(new Lab(new World(platform, seed), proposal)).every(({ ret }) => ret === 0);
}

export function honestCalls(lab: Lab): Result[] {
  const isHonest = true;
  const { world, mine: domid } = lab;
  const results = [lab.call({ domid, op: XEN_DMOP_nr_vcpus, isHonest })];
  const bitmap = { address: lab.out, size: 8n };
  results.push(lab.call({ domid, op: XEN_DMOP_track_dirty_vram, payload: track(64), blocks: [bitmap], isHonest }));
  const written = lab.process.read(lab.out, 8);
  if (written.some((byte) => byte !== 0xff)) results.push({ ret: -1, reason: 'the bitmap is not where it belongs' });
  world.mine.hvm?.logDirty.enable(false);
  const extents = { address: lab.block + 4096n - 32n, size: 64n };
  for (let i = 0; i < 4; i++) lab.process.write(extents.address + BigInt(i * 16), words(1, 0, i + 1).subarray(0, 16));
  results.push(lab.call({ domid, op: XEN_DMOP_modified_memory, payload: words(4), blocks: [extents], isHonest }));
  if (world.mine.hvm?.logDirty.dirtyCount !== 4) results.push({ ret: -1, reason: 'the extents were not read' });
  return results;
}

function exchange(lab: Lab): Result {
  lab.process.write(lab.block, words(1, 2, 3));
  const from = { address: lab.block, size: 12n };
  const to = { address: lab.out, size: 12n };
  const payload = words(12, 0, 5);
  return lab.call({ domid: lab.mine, op: OP_exchange_memory, payload, blocks: [from, to], isHonest: true });
}

const VIRTUAL_64 = PLATFORMS[1] as ModelPlatform;

/** Whether the new operation works, and only for its own caller's memory. */
function newOperation(proposal: Proposal, seed: number, isKnown = true): { works: boolean; isSafe: boolean } {
  const world = new World(VIRTUAL_64, seed);
  world.hasNewOperations = isKnown;
  const { ret } = exchange(new Lab(world, proposal));
  return { works: ret === 0, isSafe: runAttack(proposal, attack('kernel-second-block')!, seed).blocked };
}

function placesForNewOperation(proposal: Proposal, seed: number): string[] {
  const places = ['hypervisor: the operation'];
  const first = newOperation(proposal, seed);
  if (proposal.product && refusesThirdBuffer(proposal, seed)) places.push('hypervisor: room for a third buffer');
  if (first.works && first.isSafe) return places;
  if (first.works) return [...places, 'kernel and hypervisor: a special case for its blocks, or they go unaudited'];
  const taught = newOperation(opAwareKnowing(new Set([OP_scatter_status, OP_grown, OP_exchange_memory])), seed);
  if (proposal.id === 'op-aware' && taught.works && taught.isSafe)
    return [...places, 'kernel: its table of operations'];
  return [...places, 'unknown: it does not work'];
}

function refusesThirdBuffer(proposal: Proposal, seed: number): boolean {
  return exchange(new Lab(new World(VIRTUAL_64, seed), proposal)).errno === 'E2BIG';
}

/** How many blocks pass: found by trying. */
function blocksPassed(proposal: Proposal, seed: number): Properties['blocks'] {
  const lab = new Lab(new World(VIRTUAL_64, seed), proposal);
  const prepared = lab.prepare({ domid: lab.mine, op: XEN_DMOP_nr_vcpus });
  if (prepared.where.handles[0]?.size === undefined) return { kernel: 'in the struct', hypervisor: 'in the struct' };
  let hypervisor: number | 'any' = 'any';
  for (let count = 1; count <= 19; count++) {
    const blocks = Array.from({ length: count }, () => ({ address: lab.block, size: 8n }));
    const { errno, reason } = lab.call({ domid: lab.mine, op: XEN_DMOP_nr_vcpus, blocks });
    if (errno !== 'E2BIG') continue;
    if (reason.includes('privcmd')) return { kernel: count - 1, hypervisor };
    if (hypervisor === 'any') hypervisor = count - 1;
  }
  return { kernel: 'any', hypervisor };
}

function variesPerCall(proposal: Proposal, platform: ModelPlatform, seed: number): boolean {
  const lab = new Lab(new World(platform, seed), proposal);
  const fresh = lab.process.allocate(1, 'allocated after the restriction');
  const blocks = [{ address: fresh, size: 8n }];
  lab.call({ domid: lab.mine, op: XEN_DMOP_track_dirty_vram, payload: track(64), blocks, isHonest: true });
  return lab.process.read(fresh, 8).every((byte) => byte === 0xff);
}

/** A handle inside a block names memory of the program's own that the call itself doesn't. */
function reachesUnnamed(proposal: Proposal, platform: ModelPlatform, seed: number): boolean {
  const world = new World(platform, seed);
  world.hasNewOperations = true;
  const lab = new Lab(world, proposal);
  const call = {
    domid: lab.mine,
    op: OP_scatter_status,
    payload: words(1),
    blocks: [{ address: lab.block, size: 16n }],
  };
  const prepared = lab.prepare(call);
  lab.process.writeU64(lab.block, prepared.where.handleFor(lab.out));
  lab.process.writeU64(lab.block + 8n, 8n);
  lab.go(prepared, call);
  return lab.process.read(lab.out, 8).some((byte) => byte !== 0);
}

function rangesTold(proposal: Proposal, platform: ModelPlatform, seed: number): number {
  const lab = new Lab(new World(platform, seed), proposal);
  lab.call({ domid: lab.mine, op: XEN_DMOP_nr_vcpus, isHonest: true });
  return lab.world.meter.ranges;
}

/** A source file's text, or undefined where it isn't there. */
export type ReadSource = (file: string) => string | undefined;

/** Lines with code on them, of stretches of files; those that only the broken forms need don't count. */
function linesOf(sources: readonly Source[], readSource: ReadSource): number | undefined {
  let count = 0;
  for (const { file, from, to } of sources) {
    const lines = readSource(file)?.split('\n');
    if (!lines) return undefined;
    const start = lines.findIndex((line) => line.includes(from));
    const end = to === undefined ? lines.length : lines.findIndex((line) => line.includes(to));
    if (start < 0 || end < 0) throw new Error(`${file} has no stretch from '${from}' to '${to}'`);
    count += lines.slice(start, end).filter((line) => isCode(line.trim())).length;
  }
  return count;
}

function isCode(line: string): boolean {
  return (
    line !== '' && !line.startsWith('//') && !line.startsWith('/*') && !line.startsWith('*') && !line.includes('flaws')
  );
}
