/**
 * The embedded host's gates: each is a socket for one domain's device model, with the host's own XenStore upstream, all in
 * the same thread and without a descriptor in between.
 */
import { randomInt } from 'node:crypto';
import { rmSync } from 'node:fs';
import { ERRNO } from '../abi/errno.js';
import { XenError } from '../boundary/xen-error.js';
import type { CloseReason, Connection } from '../xenstore/connection.js';
import { BoundPolicy } from '../xenstore/gate/bound-policy.js';
import { builtinPolicy, DEFAULT_POLICY } from '../xenstore/gate/builtin.js';
import type { GateCounts, GateRecord } from '../xenstore/gate/denials.js';
import { Gate } from '../xenstore/gate/gate.js';
import { type GateConnection, GateSocket, type GateUpstream } from './gate-socket.js';
import { SystemError } from './libc.js';
import { UserError } from './native-library.js';
import type { Trace } from './trace.js';
import type { ServedClient, XenstoreService } from './xenstore-service.js';

export interface GatePlan {
  readonly domid: number;
  /** Of the gate's socket. */
  readonly path: string;
  /** A built-in policy's name. Default: device-model. */
  readonly policy?: string;
}

export interface GateStatus extends GateCounts {
  readonly domid: number;
  readonly path: string;
  readonly policy: string;
}

const VERDICTS = { granted: 'allowed', denied: 'refused', hidden: 'refused', malformed: 'failed' } as const;

export class EmbeddedGates {
  private readonly gates: GateSocket[] = [];

  constructor(
    private readonly service: XenstoreService,
    private readonly trace: Trace,
  ) {}

  /** @throws XenError where there is no such policy, or can be no such socket */
  open({ domid, path, policy: name = DEFAULT_POLICY }: GatePlan): void {
    const policy = builtinPolicy(name);
    if (policy === undefined) throw new XenError('EINVAL', `there is no policy ${name}`);
    const trace = this.trace.detailed ? (record: GateRecord) => this.record(record) : undefined;
    const host = { now: () => performance.now(), ...(trace && { trace }) };
    const gate = new Gate(new BoundPolicy(policy, { domid, dm: 0 }), host, randomInt(2 ** 32));
    const connect = (connection: GateConnection) => new ServerUpstream(this.service, connection);
    try {
      this.gates.push(new GateSocket(this.service.reactor, gate, { path, connect }));
    } catch (error) {
      if (error instanceof SystemError || error instanceof UserError) throw new XenError('EINVAL', error.message);
      throw error;
    }
  }

  status(): GateStatus[] {
    return this.gates.map(({ gate, options }) => {
      const { policy, parameters } = gate.policy;
      return { domid: parameters.domid, path: options.path, policy: policy.name, ...gate.counts() };
    });
  }

  private record({ time, pid = 0, domid, operation, path, verdict, errno, reason }: GateRecord): void {
    if (verdict === 'closed' || verdict === 'upstream') return;
    this.trace.record({
      time: performance.timeOrigin + time,
      pid,
      device: 'gate',
      call: 'xenstore',
      domid,
      operation,
      ret: errno === undefined ? 0 : -ERRNO[errno as keyof typeof ERRNO],
      ...(errno !== undefined && { errno }),
      verdict: VERDICTS[verdict],
      reason: [path, reason].filter((text) => text !== undefined).join(': '),
    });
  }

  close(): void {
    for (const socket of this.gates) {
      socket.close();
      rmSync(socket.options.path, { force: true });
    }
  }
}

/** The way upstream where upstream is a server in this thread. */
class ServerUpstream implements GateUpstream, ServedClient {
  private server: Connection | undefined;
  private isClosed = false;

  constructor(
    private readonly service: XenstoreService,
    private readonly connection: GateConnection,
  ) {
    this.connect();
  }

  /** The two interfaces' one method: both mean "move what there is to move". */
  flush(): void {
    const { session } = this.connection;
    if (this.server === undefined) return;
    if (session.upstreamBroken !== null) return this.lost();
    const up = session.toUpstream();
    if (up.length > 0) {
      this.server.receive(up);
      session.upstreamTook(up.length);
      this.service.settle();
    }
    this.fetch();
  }

  close(): void {
    this.isClosed = true;
    this.drop();
  }

  private fetch(): void {
    for (let server = this.server; server !== undefined && server === this.server; ) {
      const down = server.output();
      if (down.length === 0) return;
      this.connection.session.fromUpstream(down);
      server.sent(down.length);
      this.connection.settle();
    }
  }

  private connect(): void {
    if (this.isClosed) return;
    const sink = { ready: () => this.service.due(this), closed: (_reason: CloseReason) => this.lost() };
    this.server = this.service.server.connect({ domid: 0, kind: 'socket', sink });
    this.connection.session.upstreamBack();
  }

  /** In a moment again: this may come in the middle of somebody's request. */
  private lost(): void {
    this.drop();
    this.connection.reactor.queue(() => {
      this.connection.session.upstreamLost();
      this.connect();
      if (!this.isClosed) this.connection.settle();
      return true;
    });
  }

  private drop(): void {
    if (this.server === undefined) return;
    this.service.forget(this);
    this.server.close();
    this.server = undefined;
  }
}
