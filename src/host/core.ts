/** The host itself: hypervisor, dom0's kernel, XenStore and their sockets, wired together in one thread. */
import { randomBytes } from 'node:crypto';
import { NEVER_PREEMPT, PREEMPTED, type Preemption } from '../boundary/operation.js';
import { XenError } from '../boundary/xen-error.js';
import { Dom0Kernel } from '../dom0/kernel.js';
import { beginHvmDomain, createPvDomain, type DomainBuild, giveStoreRing } from '../hypervisor/build-domain.js';
import type { Domain } from '../hypervisor/domain.js';
import { Hypervisor } from '../hypervisor/hypervisor.js';
import { ScriptError } from '../io-player/parse.js';
import type { CommandMap, CommandName, DomainPlan, DomainRow } from './commands.js';
import type { CoreOptions } from './core-thread.js';
import { DeviceServer } from './device-server.js';
import { EmbeddedXenstore } from './embedded-xenstore.js';
import { EmbeddedGates } from './gate-embedded.js';
import { GuestPlayer } from './guest.js';
import { HandedFiles } from './handed-files.js';
import { LatencyHistogram } from './latency.js';
import { memoryFiles } from './memory-files.js';
import { UserError } from './native-library.js';
import type { Reactor } from './reactor.js';
import type { ReactorService } from './reactor-worker.js';
import { homeRequests, KernelTool, type StoreRequest, uuidOf } from './store-home.js';
import { Trace } from './trace.js';
import { XenbusStreams } from './xenbus-streams.js';

const PAGES_PER_MIB = 256;
const SLICE_MS = 2;

type Handlers = {
  [N in CommandName]: (argument: CommandMap[N]['argument'], done: (result: CommandMap[N]['result']) => void) => void;
};

export class HostCore implements ReactorService {
  readonly info = null;
  private readonly hypervisor = new Hypervisor({ extents: memoryFiles });
  private readonly kernel: Dom0Kernel;
  private readonly trace: Trace;
  private readonly devices: DeviceServer;
  /** None where a daemon of its own serves the store. */
  private readonly xenstore: EmbeddedXenstore | undefined;
  private readonly gates: EmbeddedGates | undefined;
  private readonly toolstack: { ask(requests: Iterable<StoreRequest>): void };
  private readonly latencies = new LatencyHistogram();
  private readonly player: GuestPlayer;

  constructor(
    options: CoreOptions,
    private readonly reactor: Reactor,
    log: (line: string) => void,
  ) {
    this.trace = new Trace(options.tracePath);
    this.reactor.onIdle = () => this.trace.flush();
    this.kernel = new Dom0Kernel(this.hypervisor.callsOfDom0());
    const { evtchn } = this.hypervisor.dom0;
    evtchn.onUpcall = (port) => {
      if (!this.xenstore?.upcall(port)) this.kernel.upcall(port);
    };
    const page = memoryFiles.allocate(1);
    const xenbus = this.kernel.startXenbus(page.bytes, (run) => this.soon(run));
    const streams = new XenbusStreams(this.reactor, xenbus, (pid, reason) =>
      this.trace.violation(pid, 'xenbus', reason),
    );
    const handed = new HandedFiles(xenbus, page, streams);
    this.devices = new DeviceServer(this.reactor, this.kernel, this.trace, options.socketPath, handed);
    this.xenstore =
      options.xenstore === 'embedded'
        ? new EmbeddedXenstore(this.reactor, this.hypervisor, {
            kernel: { page, port: xenbus.port },
            socketPath: options.xenstorePath,
            trace: this.trace,
            log,
          })
        : undefined;
    this.gates = this.xenstore && new EmbeddedGates(this.xenstore.service, this.trace);
    this.toolstack = this.xenstore ?? new KernelTool(xenbus);
    this.player = new GuestPlayer(this.reactor, this.latencies);
    for (const plan of options.domains) this.createNow(plan);
  }

  close(): void {
    this.gates?.close();
    this.xenstore?.close();
    this.devices.close();
    for (const domain of [...this.hypervisor.domains]) {
      if (domain !== this.hypervisor.dom0) domain.kill(NEVER_PREEMPT);
    }
    this.trace.close();
  }

  /** Carries out one command; `done` is called once, perhaps much later. */
  command(name: string, argument: unknown, done: (result?: unknown) => void): void {
    try {
      this.handlers[name as CommandName](argument as never, done);
    } catch (error) {
      if (error instanceof ScriptError) throw new UserError(error.message);
      throw error;
    }
  }

  private readonly handlers: Handlers = {
    createDomain: (plan, done) => {
      if (plan.kind === 'pv') return done({ domid: createPvDomain(this.hypervisor, plan).domid });
      const { domain, layOut } = this.beginHvm(plan);
      this.inSlices(
        (slice) => layOut.run(slice) !== PREEMPTED,
        () => {
          this.introduce(domain, plan);
          done({ domid: domain.domid });
        },
      );
    },
    listDomains: (_, done) => done(this.rows()),
    pauseDomain: ({ domid }, done) => {
      this.find(domid).pause();
      done(null);
    },
    unpauseDomain: ({ domid }, done) => {
      this.find(domid).unpause();
      done(null);
    },
    destroyDomain: ({ domid }, done) => {
      const domain = this.find(domid);
      this.inSlices(
        (slice) => domain.kill(slice),
        () => done(null),
      );
    },
    io: (script, done) => this.player.play(this.find(script.domid), script, done),
    startGuest: (script, done) => {
      this.player.loop(this.find(script.domid), script);
      done(null);
    },
    openGate: (plan, done) => {
      if (this.gates === undefined) throw new XenError('ENODEV', 'a gate needs the store that the host brings along');
      this.gates.open(plan);
      done(null);
    },
    openFiles: (_, done) => done(this.devices.openFiles()),
    status: (_, done) =>
      done({
        ...this.trace.counts(),
        requests: this.latencies.summary(),
        connections: this.devices.nrConnections,
        domains: this.rows().length,
        gates: this.gates?.status() ?? [],
      }),
  };

  private createNow(plan: DomainPlan): void {
    if (plan.kind === 'pv') {
      createPvDomain(this.hypervisor, plan);
      return;
    }
    const { domain, layOut } = this.beginHvm(plan);
    layOut.run(NEVER_PREEMPT);
    this.introduce(domain, plan);
  }

  private beginHvm(plan: DomainPlan): DomainBuild {
    return beginHvmDomain(this.hypervisor, plan.introduced ? { ...plan, handle: randomBytes(16) } : plan);
  }

  /** As a toolstack does, of whichever store there is. */
  private introduce(domain: Domain, plan: DomainPlan): void {
    if (!plan.introduced || domain.isDying) return;
    const { domid, handle, maxVcpus: vcpus } = domain;
    const { memoryMiB } = plan;
    this.toolstack.ask(homeRequests({ domid, uuid: uuidOf(handle), memoryMiB, vcpus, ...giveStoreRing(domain) }));
  }

  /** Once, after whatever else waits. */
  private soon(run: () => void): void {
    this.reactor.queue(() => {
      run();
      return true;
    });
  }

  /** Long work beside everything else. */
  private inSlices(step: (slice: Preemption) => boolean, done: () => void): void {
    this.reactor.queue(() => {
      const end = performance.now() + SLICE_MS;
      if (!step({ due: () => performance.now() >= end })) return false;
      done();
      return true;
    });
  }

  private find(domid: number): Domain {
    const domain = this.hypervisor.domains.find(domid);
    if (!domain || domain === this.hypervisor.dom0) throw new XenError('ESRCH', `there is no domain ${domid}`);
    return domain;
  }

  private rows(): DomainRow[] {
    return [...this.hypervisor.domains]
      .filter((domain) => domain !== this.hypervisor.dom0)
      .map((domain) => ({
        domid: domain.domid,
        kind: domain.kind,
        memoryMiB: Math.round(domain.memory.totPages / PAGES_PER_MIB),
        vcpus: domain.maxVcpus,
        state: stateOf(domain),
      }));
  }
}

function stateOf(domain: Domain): DomainRow['state'] {
  if (domain.isDying) return 'dying';
  if (domain.isShutDown) return 'shutdown';
  return domain.isRunnable ? 'running' : 'paused';
}
