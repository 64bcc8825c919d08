/**
 * What the ways to the store cost beside the daemon's socket, one request at a time and all on one core: the gate, and
 * /dev/xen/xenbus of a host's dom0, whose ring is the host's own store's or a daemon's.
 */
import { writeFileSync } from 'node:fs';
import { type BenchOptions, type Figure, type Group, median } from './figure.js';
import { firstCpu, type HostProcess, setCpus, startHost, temporary } from './programs.js';
import { startGate, startOurs } from './xenstore-daemons.js';
import { XenstoreLoad } from './xenstore-load.js';

const ADDED_US = 30;
const ROUNDS = 15;
const QUICK_ROUNDS = 3;
const WARM_UPS = 5;
const XENBUS = '/dev/xen/xenbus';

/** Lets the load through, at any rate. */
const POLICY = {
  name: 'bench',
  grants: [{ why: 'the load', paths: ['/local/domain/{domid}/device/**'], rights: ['read', 'write', 'create'] }],
  limits: { 'requests-per-second': 0 },
};

export const xenstoreGate: Group = {
  name: 'xenstore-gate',
  async measure(options) {
    const loads: XenstoreLoad[] = [];
    try {
      const direct = await startOurs();
      loads.push(direct);
      const policy = temporary('gate-policy.json');
      writeFileSync(policy, JSON.stringify(POLICY));
      const gate = await startGate('--domid', '1', '--upstream', direct.path, '--policy', policy);
      loads.unshift(gate);
      // Where the policy lets everything be made, a change needs no look before it.
      const open = await startGate('--domid', '1', '--upstream', direct.path, '--policy', 'every-path');
      loads.unshift(open);
      return [
        await added('xenstore-gate.read', 'read', direct, gate, options, ADDED_US),
        await added('xenstore-gate.write', 'write', direct, open, options, ADDED_US),
        await added('xenstore-gate.write-that-must-not-make-parents', 'write', direct, gate, options, ADDED_US),
      ];
    } finally {
      for (const load of loads) await load.stop();
    }
  },
};

export const xenstoreXenbus: Group = {
  name: 'xenstore-xenbus',
  async measure(options) {
    const hosts: HostProcess[] = [];
    const loads: XenstoreLoad[] = [];
    try {
      const whole = await startHost('xenbus-whole');
      hosts.push(whole);
      const external = await startHost('xenbus-external', '--xenstore', 'external');
      hosts.push(external);
      for (const { pid } of hosts) setCpus(pid, firstCpu());
      const embedded = await XenstoreLoad.on('host', whole.pid, whole.variables.XENSTORED_PATH as string);
      loads.push(embedded);
      const daemon = await startOurs('--host', external.variables.POSTERN_HOST as string);
      loads.push(daemon);
      const figures: Figure[] = [];
      for (const [name, direct, host] of [
        ['embedded', embedded, whole],
        ['daemon', daemon, external],
      ] as const) {
        const ring = await XenstoreLoad.on(XENBUS, direct.pid, XENBUS, host.variables);
        loads.unshift(ring);
        figures.push(await added(`xenstore-xenbus.${name}.read`, 'read', direct, ring, options));
      }
      return figures;
    } finally {
      for (const load of loads) await load.stop();
      for (const host of hosts) await host.stop();
    }
  },
};

/** @param bound of what is added; without it the figure only explains others, and is a ratio to the direct way */
async function added(
  name: string,
  what: string,
  direct: XenstoreLoad,
  detour: XenstoreLoad,
  { quick }: BenchOptions,
  bound?: number,
): Promise<Figure> {
  const command = `latency ${what} 2000`;
  for (const one of [direct, detour]) {
    await one.place('one core');
    for (let i = 0; i < WARM_UPS; i++) await one.run(command);
  }
  const rounds: { direct: readonly number[]; detour: readonly number[] }[] = [];
  for (let i = 0; i < (quick ? QUICK_ROUNDS : ROUNDS); i++) {
    rounds.push({ direct: (await direct.run(command)).us, detour: (await detour.run(command)).us });
  }
  const of = (i: 0 | 1, pick: (d: number, t: number) => number) =>
    median(rounds.map((round) => pick(round.direct[i] as number, round.detour[i] as number)));
  const common = { name: `${name}.one-core`, unit: 'us' } as const;
  if (bound !== undefined) {
    const value = of(0, (d, t) => t - d);
    const note = `added to ${of(0, (d) => d).toFixed(1)} us without it`;
    return { ...common, value, baseline: bound, ratio: value / bound, target: 1, against: 'bound', note };
  }
  return {
    ...common,
    value: of(0, (_, t) => t),
    p99: of(1, (_, t) => t),
    baseline: of(0, (d) => d),
    baselineP99: of(1, (d) => d),
    ratio: of(0, (d, t) => t / d),
    against: `socket of ${direct.name}`,
  };
}
