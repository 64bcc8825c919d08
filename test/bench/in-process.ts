/**
 * What a DM op costs without any transport: through dom0's privcmd (copy in, audit), the hypervisor's dispatch, the
 * operation, and the copy out. And whether that grows with what else there is.
 */
import { encode } from '../../dist/abi/layout.js';
import { IOCTL_PRIVCMD_DM_OP } from '../../dist/abi/linux/privcmd.js';
import * as D from '../../dist/abi/xen/dm-op.js';
import {
  IOREQ_STATE_SHIFT,
  IOREQ_STATE_WORD,
  STATE_IOREQ_READY,
  STATE_IORESP_READY,
} from '../../dist/abi/xen/ioreq.js';
import { NEVER_PREEMPT } from '../../dist/boundary/operation.js';
import type { DeviceFile } from '../../dist/dom0/device-file.js';
import { Dom0Kernel } from '../../dist/dom0/kernel.js';
import type { Hypervisor } from '../../dist/hypervisor/hypervisor.js';
import { BenchCaller, hypervisorWith } from './caller.js';
import {
  type BenchOptions,
  type Figure,
  fromRounds,
  type Group,
  median,
  NotMeasured,
  percentile,
  type Round,
} from './figure.js';
import { buildProgram, linesOf } from './programs.js';

/** 1 M calls a second. */
const BOUND_NS = 1000;
const GROWTH_TARGET = 1.1;
const MANY_DOMAINS = 200;
/** All that one server may have of one type, less the one that is mapped and unmapped. */
const MANY_RANGES = 255;
const SERIAL_IRQ = 4;

/** Of vCPU 0's slot in the page of requests. */
const STATE_WORD = IOREQ_STATE_WORD / 4;

type Call = () => void;

/** An open privcmd and a process that uses it. */
class Client {
  readonly caller = new BenchCaller();
  private readonly file: DeviceFile;

  constructor(readonly hypervisor: Hypervisor) {
    this.file = new Dom0Kernel(hypervisor.callsOfDom0()).open('privcmd', () => {});
  }

  ioctl(arg: number): void {
    const operation = this.file.ioctl(IOCTL_PRIVCMD_DM_OP, arg, this.caller);
    const result = typeof operation === 'number' ? operation : operation.run(NEVER_PREEMPT);
    if (result !== 0) throw new Error(`the call came to ${String(result)}`);
  }

  nrVcpus(domid: number): Call {
    const arg = this.caller.dmOp(domid, D.XEN_DMOP_nr_vcpus, D.xen_dm_op_nr_vcpus as never, {});
    return () => this.ioctl(arg);
  }

  /** Both levels by turns, so that each call changes the line. */
  setIsaIrqLevel(domid: number): Call {
    const [low, high] = [0, 1].map((level) =>
      this.caller.dmOp(domid, D.XEN_DMOP_set_isa_irq_level, D.xen_dm_op_set_isa_irq_level as never, {
        isa_irq: SERIAL_IRQ,
        level,
      }),
    ) as [number, number];
    let level = 0;
    return () => {
      level ^= 1;
      this.ioctl(level ? high : low);
    };
  }

  /** Two buffers, both copied in, on a domain whose writes are being logged. */
  modifiedMemory(domid: number): Call {
    this.hypervisor.domains.get(domid).hvm?.logDirty.enable(false);
    const extent = encode(D.xen_dm_op_modified_memory_extent, { first_pfn: 0x10n, nr: 1, pad: 0 });
    const layout = D.xen_dm_op_modified_memory as never;
    const arg = this.caller.dmOp(domid, D.XEN_DMOP_modified_memory, layout, { nr_extents: 1 }, extent);
    return () => this.ioctl(arg);
  }

  /** An enabled server, with its page in the guest's frames. */
  createServer(domid: number): void {
    const op = (number: number, layout: unknown, args: object) =>
      this.ioctl(this.caller.dmOp(domid, number, layout as never, args));
    op(D.XEN_DMOP_create_ioreq_server, D.xen_dm_op_create_ioreq_server, {});
    op(D.XEN_DMOP_get_ioreq_server_info, D.xen_dm_op_get_ioreq_server_info, {});
    op(D.XEN_DMOP_set_ioreq_server_state, D.xen_dm_op_set_ioreq_server_state, { enabled: 1 });
  }

  rangeArgument(domid: number, op: number, port: number): number {
    const args = { type: D.XEN_DMOP_IO_RANGE_PORT, start: BigInt(port), end: BigInt(port) };
    return this.caller.dmOp(domid, op, D.xen_dm_op_ioreq_server_range as never, args);
  }

  mapPort(domid: number, port: number): void {
    this.ioctl(this.rangeArgument(domid, D.XEN_DMOP_map_io_range_to_ioreq_server, port));
  }

  /** Maps a range in the middle of the others, and takes it away again. */
  mapAndUnmap(domid: number, port: number): Call {
    const map = this.rangeArgument(domid, D.XEN_DMOP_map_io_range_to_ioreq_server, port);
    const unmap = this.rangeArgument(domid, D.XEN_DMOP_unmap_io_range_from_ioreq_server, port);
    return () => {
      this.ioctl(map);
      this.ioctl(unmap);
    };
  }
}

/** @returns nanoseconds a call, on the clock of the CPU: what others make of the machine meanwhile does not count */
function time(call: Call, count: number): number {
  const start = process.cpuUsage();
  for (let i = 0; i < count; i++) call();
  const { user, system } = process.cpuUsage(start);
  return ((user + system) * 1000) / count;
}

const rounds = ({ quick }: BenchOptions): number => (quick ? 60 : 400);
/** About a millisecond: a round is mostly undisturbed, even where the machine has other things to do. */
const CALLS = 1000;
const WARM_UP_ROUNDS = 30;

function measureCalls(options: BenchOptions): Figure[] {
  const client = new Client(hypervisorWith(1));
  const calls: [string, Call][] = [
    ['nr_vcpus', client.nrVcpus(1)],
    ['set_isa_irq_level', client.setIsaIrqLevel(1)],
    ['modified_memory', client.modifiedMemory(1)],
  ];
  const samples = calls.map((): number[] => []);
  for (let round = -WARM_UP_ROUNDS; round < rounds(options); round++) {
    for (const [i, [, call]] of calls.entries()) {
      const ns = time(call, CALLS);
      if (round >= 0) samples[i]?.push(ns);
    }
  }
  return calls.map(([name], i) => {
    const value = median(samples[i] as number[]);
    return {
      name: `dm-op-in-process.${name}`,
      value,
      unit: 'ns',
      baseline: BOUND_NS,
      ratio: value / BOUND_NS,
      target: 1,
      against: 'bound: 1 M calls/s on one core',
      p99: percentile(samples[i] as number[], 0.99),
      note: `${(1000 / value).toFixed(2)} M calls/s${name === 'modified_memory' ? ', two buffers' : ''}`,
    };
  });
}

/** The same call with little and with much around it, by turns. */
function compare(options: BenchOptions, few: Call, many: Call, rest: Pick<Figure, 'name' | 'against'>): Figure {
  const measured: Round[] = [];
  for (let round = -WARM_UP_ROUNDS; round < rounds(options); round++) {
    const [first, second] = round % 2 === 0 ? [few, many] : [many, few];
    const [a, b] = [time(first, CALLS), time(second, CALLS)];
    const [baseline, value] = first === few ? [a, b] : [b, a];
    if (round >= 0) measured.push({ value: [value, value], baseline: [baseline, baseline] });
  }
  const { p99: _, baselineP99: __, ...figure } = fromRounds(measured, { ...rest, unit: 'ns', target: GROWTH_TARGET });
  return figure;
}

function withRanges(count: number): Client {
  const client = new Client(hypervisorWith(1));
  client.createServer(1);
  for (let i = 0; i < count; i++) client.mapPort(1, 0x1000 + 4 * i);
  return client;
}

/** A guest's access from its instruction to its result, answered at once by a device model in this thread. */
function portRead({ hypervisor }: Client, port: number): Call {
  const request = { space: 'port', addr: BigInt(port), size: 1, isWrite: false, data: 0n } as const;
  const dispatcher = hypervisor.domains.get(1).hvm?.ioreq.dispatcher;
  const words = dispatcher?.select(request)?.ioreqPage?.words;
  if (!dispatcher || !words) throw new Error('nobody claims the port');
  let served = false;
  const onComplete = ({ outcome }: { outcome: string }) => {
    served = outcome === 'served';
  };
  return () => {
    served = false;
    dispatcher.start(0, request, onComplete);
    words[STATE_WORD] = (words[STATE_WORD] as number) + ((STATE_IORESP_READY - STATE_IOREQ_READY) << IOREQ_STATE_SHIFT);
    dispatcher.poll(0);
    if (!served) throw new Error('the request was not served');
  };
}

function measureGrowth(options: BenchOptions): Figure[] {
  const [fewDomains, manyDomains] = [new Client(hypervisorWith(1)), new Client(hypervisorWith(MANY_DOMAINS))];
  const [fewRanges, manyRanges] = [withRanges(1), withRanges(MANY_RANGES)];
  const middle = 0x1002 + 4 * (MANY_RANGES >> 1);
  const last = 0x1000 + 4 * (MANY_RANGES - 1);
  return [
    compare(options, fewDomains.nrVcpus(1), manyDomains.nrVcpus(MANY_DOMAINS), {
      name: `growth.dm-op-with-${MANY_DOMAINS}-domains`,
      against: 'the same with 1 domain',
    }),
    compare(options, fewRanges.mapAndUnmap(1, middle), manyRanges.mapAndUnmap(1, middle), {
      name: 'growth.map-and-unmap-with-256-ranges',
      against: 'the same with 1 range mapped',
    }),
    compare(options, portRead(fewRanges, 0x1000), portRead(manyRanges, last), {
      name: 'growth.io-request-with-255-ranges',
      against: 'the same with 1 range mapped',
    }),
  ];
}

/** The floor of any privcmd: how long a kernel takes to refuse an ioctl, here and now. */
async function kernelIoctl(): Promise<string> {
  try {
    const client = await buildProgram('dm-op-client', ['-lxendevicemodel']);
    const samples: number[] = [];
    for await (const line of linesOf(client, ['ioctl', '1', '20', '1000'], {})) {
      samples.push((JSON.parse(line) as { op: [number, number] }).op[0] * 1000);
    }
    return `; the kernel takes ${median(samples).toFixed(0)} ns to refuse an ioctl`;
  } catch (error) {
    if (error instanceof NotMeasured) return '';
    throw error;
  }
}

export const dmOpInProcess: Group = {
  name: 'dm-op-in-process',
  async measure(options) {
    const floor = await kernelIoctl();
    return measureCalls(options).map((figure) => ({ ...figure, note: figure.note + floor }));
  },
};
export const growth: Group = { name: 'growth', measure: async (options) => measureGrowth(options) };
