/**
 * Event channels of three domains against a plain model, under random operations of all of them: same results, same
 * states at every port, same notifications, and nothing left at the end.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import type { Domain } from '../../dist/hypervisor/domain.js';
import { Toolstack } from '../support/toolstack.js';

const MAX_PORT = 70;
const NR_VCPUS = 2;

interface Port {
  state: 'unbound' | 'interdomain' | 'virq' | 'ipi';
  remote: number;
  remotePort: number;
  vcpu: number;
  pending: boolean;
  masked: boolean;
  isXen: boolean;
}

/** What the documentation says, port by port, in the simplest way there is. */
class Model {
  readonly ports: Map<number, Port>[];
  readonly heard: string[] = [];

  constructor(readonly domids: readonly number[]) {
    this.ports = domids.map(() => new Map());
  }

  allocate(d: number): number {
    for (let port = 1; port <= MAX_PORT; port++) if (!this.ports[d]!.has(port)) return port;
    return -1;
  }

  add(d: number, port: number, change: Partial<Port>): number {
    const fresh = { remote: 0, remotePort: 0, vcpu: 0, pending: false, masked: true, isXen: false };
    this.ports[d]!.set(port, { ...fresh, state: 'ipi', ...change });
    return port;
  }

  setPending(d: number, port: number): void {
    const p = this.ports[d]!.get(port)!;
    if (p.isXen || p.pending) return;
    p.pending = true;
    if (!p.masked) this.heard.push(`${d}:${port}`);
  }

  bind(d: number, remote: number, remotePort: number): number | string {
    const port = this.allocate(d);
    if (port < 0) return 'ENOSPC';
    const there = this.ports[remote]!.get(remotePort);
    if (there?.state !== 'unbound' || there.remote !== d) return 'EINVAL';
    this.add(d, port, { state: 'interdomain', remote, remotePort });
    Object.assign(there, { state: 'interdomain', remote: d, remotePort: port });
    this.setPending(d, port);
    return port;
  }

  close(d: number, port: number, byGuest: boolean): number | string {
    const p = this.ports[d]!.get(port);
    if (!p || (byGuest && p.isXen)) return 'EINVAL';
    this.ports[d]!.delete(port);
    if (p.state === 'interdomain') {
      Object.assign(this.ports[p.remote]!.get(p.remotePort)!, { state: 'unbound', remote: d });
    }
    return 0;
  }

  send(d: number, port: number): number | string {
    const p = this.ports[d]!.get(port);
    if (!p || p.isXen) return 'EINVAL';
    if (p.state === 'ipi') this.setPending(d, port);
    else if (p.state === 'interdomain') {
      const there = this.ports[p.remote]!.get(p.remotePort)!;
      if (there.isXen) this.heard.push(`xen ${p.remote}:${there.vcpu}`);
      else this.setPending(p.remote, p.remotePort);
    } else if (p.state === 'virq') return 'EINVAL';
    return 0;
  }

  unmask(d: number, port: number): void {
    const p = this.ports[d]!.get(port);
    if (!p || p.isXen) return;
    p.masked = false;
    if (p.pending) this.heard.push(`${d}:${port}`);
  }
}

const KINDS = [
  'alloc',
  'allocXen',
  'bind',
  'bind',
  'virq',
  'ipi',
  'close',
  'freeXen',
  'send',
  'send',
  'notifyXen',
  'unmask',
  'mask',
  'clear',
  'vcpu',
  'raise',
  'reset',
] as const;

const step = fc.record({
  kind: fc.constantFrom(...KINDS),
  d: fc.nat(2),
  other: fc.nat(2),
  port: fc.oneof(fc.integer({ min: 0, max: 12 }), fc.integer({ min: 0, max: MAX_PORT + 70 })),
  vcpu: fc.nat(NR_VCPUS),
  virq: fc.constantFrom(0, 1, 3, 11, 23, 24),
});

function outcome(action: () => unknown): number | string {
  try {
    const result = action();
    return typeof result === 'number' ? result : 0;
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === undefined) throw error;
    return code;
  }
}

function isGlobal(virq: number): boolean {
  return ![0, 1, 7, 13].includes(virq);
}

test('event channels do what the model does', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 250 }), (steps) => {
      const xen = new Toolstack();
      const domains = [0, 1, 2].map(() => xen.domain(xen.hvm({ max_vcpus: NR_VCPUS, max_evtchn_port: MAX_PORT })));
      const model = new Model(domains.map(({ domid }) => domid));
      const heard: string[] = [];
      for (const [d, domain] of domains.entries()) domain.evtchn.onUpcall = (port) => heard.push(`${d}:${port}`);
      for (const s of steps) {
        expect([s, apply(domains, heard, s)]).toEqual([s, applyToModel(model, s)]);
        expect(heard).toEqual(model.heard);
      }
      compare(domains, model);
      for (const { domid } of domains) expect(xen.destroy(domid)).toBe(0);
      for (const { evtchn } of domains) expect([evtchn.nrActive, evtchn.nrXen]).toEqual([0, 0]);
    }),
    { numRuns: 300 },
  );
});

type Step = { kind: (typeof KINDS)[number]; d: number; other: number; port: number; vcpu: number; virq: number };

function apply(domains: Domain[], heard: string[], s: Step): number | string {
  const { evtchn } = domains[s.d]!;
  const other = domains[s.other]!;
  return outcome(() => {
    switch (s.kind) {
      case 'alloc':
        return evtchn.allocUnbound(other.domid);
      case 'allocXen': {
        const consumer = (vcpu: number) => void heard.push(`xen ${s.d}:${vcpu}`);
        return evtchn.allocUnboundXen(s.vcpu % NR_VCPUS, other.domid, consumer);
      }
      case 'bind':
        return evtchn.bindInterdomain(other, s.port);
      case 'virq':
        return evtchn.bindVirq(s.virq, s.vcpu);
      case 'ipi':
        return evtchn.bindIpi(s.vcpu);
      case 'close':
        return evtchn.closeByGuest(s.port);
      case 'freeXen':
        if (isXen(domains[s.d]!, s.port)) evtchn.freeXen(s.port);
        return 0;
      case 'send':
        return evtchn.send(s.port);
      case 'notifyXen':
        if (isXen(domains[s.d]!, s.port)) evtchn.notifyViaXen(s.port);
        return 0;
      case 'unmask':
        return evtchn.unmask(s.port);
      case 'mask':
        return evtchn.mask(s.port);
      case 'clear':
        return evtchn.clearPending(s.port) ? 1 : 0;
      case 'vcpu':
        return evtchn.bindVcpu(s.port, s.vcpu);
      case 'raise':
        return s.virq < 24 ? evtchn.raiseVirq(s.virq, s.vcpu % NR_VCPUS) : 0;
      case 'reset':
        return evtchn.reset(false, { due: () => false }) ? 0 : 1;
    }
  });
}

function isXen(domain: Domain, port: number): boolean {
  try {
    domain.evtchn.status(port);
    return false;
  } catch (error) {
    return (error as { code: string }).code === 'EACCES';
  }
}

/** Ports are valid in whole buckets of 64 once one of them has been needed; the model only knows what is used. */
const validBelow = new WeakMap<Model, number[]>();

function applyToModel(model: Model, s: Step): number | string {
  const valid = validBelow.get(model) ?? [64, 64, 64];
  validBelow.set(model, valid);
  const result = modelStep(model, s, valid[s.d]!);
  for (const [d, ports] of model.ports.entries()) for (const port of ports.keys()) if (port >= 64) valid[d] = 128;
  return result;
}

function modelStep(model: Model, s: Step, valid: number): number | string {
  const { d, other, port, vcpu, virq } = s;
  const p = model.ports[d]!.get(port);
  const free = () => model.allocate(d);
  switch (s.kind) {
    case 'alloc':
      return free() < 0 ? 'ENOSPC' : model.add(d, free(), { state: 'unbound', remote: other });
    case 'allocXen':
      if (free() < 0) return 'ENOSPC';
      return model.add(d, free(), { state: 'unbound', remote: other, isXen: true, vcpu: vcpu % NR_VCPUS });
    case 'bind':
      return model.bind(d, other, port);
    case 'virq': {
      if (virq >= 24 || (isGlobal(virq) && vcpu !== 0)) return 'EINVAL';
      if (vcpu >= NR_VCPUS) return 'ENOENT';
      for (const q of model.ports[d]!.values()) {
        if (q.state === 'virq' && q.remote === virq && (isGlobal(virq) || q.vcpu === vcpu)) return 'EEXIST';
      }
      return free() < 0 ? 'ENOSPC' : model.add(d, free(), { state: 'virq', remote: virq, vcpu });
    }
    case 'ipi':
      if (vcpu >= NR_VCPUS) return 'ENOENT';
      return free() < 0 ? 'ENOSPC' : model.add(d, free(), { state: 'ipi', vcpu });
    case 'close':
      return model.close(d, port, true);
    case 'freeXen':
      if (p?.isXen) model.close(d, port, false);
      return 0;
    case 'send':
      return model.send(d, port);
    case 'notifyXen':
      if (p?.isXen && p.state === 'interdomain') model.setPending(p.remote, p.remotePort);
      return 0;
    case 'unmask':
      if (port >= valid) return 'EINVAL';
      model.unmask(d, port);
      return 0;
    case 'mask':
      if (p) p.masked = true;
      return 0;
    case 'clear': {
      const was = p?.pending ?? false;
      if (p) p.pending = false;
      return was ? 1 : 0;
    }
    case 'vcpu': {
      if (vcpu >= NR_VCPUS) return 'ENOENT';
      const movable = p && !p.isXen && p.state !== 'ipi' && (p.state !== 'virq' || isGlobal(p.remote));
      if (!movable) return 'EINVAL';
      p.vcpu = vcpu;
      return 0;
    }
    case 'raise':
      for (const [number, q] of model.ports[d]!) {
        if (q.state !== 'virq' || q.remote !== virq) continue;
        if (isGlobal(virq) || q.vcpu === vcpu % NR_VCPUS) model.setPending(d, number);
      }
      return 0;
    case 'reset':
      for (const [number, q] of model.ports[d]!) if (!q.isXen) model.close(d, number, true);
      return 0;
  }
}

function compare(domains: Domain[], model: Model): void {
  for (const [d, { evtchn }] of domains.entries()) {
    const ports = model.ports[d]!;
    expect(evtchn.nrActive).toBe(ports.size);
    for (let port = 1; port <= MAX_PORT; port++) {
      const p = ports.get(port);
      expect(evtchn.isPending(port)).toBe(p?.pending ?? false);
      if (!evtchn.isValid(port) || p?.isXen) continue;
      const status = evtchn.status(port);
      expect(status.state).toBe(p?.state ?? 'free');
      if (!p) continue;
      expect([evtchn.isMasked(port), status.vcpuId]).toEqual([p.masked, p.vcpu]);
      if (status.state === 'virq') expect(status.virq).toBe(p.remote);
      if (status.state === 'interdomain') expect(status.remotePort).toBe(p.remotePort);
      if (status.state === 'interdomain' || status.state === 'unbound') {
        expect(status.remoteDomid).toBe(model.domids[p.remote]);
      }
    }
  }
}
