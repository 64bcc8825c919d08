/** Event channels: rows measured on real Xen 4.17, what Xen's states allow, and who hears of what. */
import { describe, expect, test } from 'vitest';
import * as E from '../../../dist/abi/xen/event-channel.js';
import { HYPERVISOR, NR_VIRQS, VIRQ_DOM_EXC } from '../../../dist/abi/xen/xen.js';
import { NEVER_PREEMPT } from '../../../dist/boundary/operation.js';
import type { EventChannels } from '../../../dist/hypervisor/event-channels.js';
import { Hypervisor } from '../../../dist/hypervisor/hypervisor.js';
import { AlwaysPreempt, PlainExtents, type Result, Toolstack } from '../../support/toolstack.js';

/** Collects what reaches a domain. */
function listen(evtchn: EventChannels): number[] {
  const heard: number[] = [];
  evtchn.onUpcall = (port) => heard.push(port);
  return heard;
}

function errno(action: () => unknown): Result {
  try {
    action();
    return 0;
  } catch (error) {
    return (error as { code: string }).code;
  }
}

describe('rows of real Xen', () => {
  const xen = new Toolstack();
  const a = xen.hvm({ max_vcpus: 2 });
  const b = xen.hvm();
  const evtchn = xen.domain(a).evtchn;
  const port = evtchn.allocUnboundXen(0, 0, () => {});

  test.each<[string, () => unknown, unknown]>([
    ['bind_interdomain(A, vp_eport)', () => xen.bindInterdomain(a, port), 16],
    ['bind_interdomain(A, same port again)', () => xen.bindInterdomain(a, port), 'EINVAL'],
    ['bind_interdomain(B, vp_eport)', () => xen.bindInterdomain(b, port), 'EINVAL'],
    ['bind_interdomain(999, 1)', () => xen.bindInterdomain(999, 1), 'ESRCH'],
    ['unmask(local)', () => portOp('unmask', 16), 0],
    ['unmask a port that doesn’t exist', () => portOp('unmask', 0x7fffffff), 'EINVAL'],
    ['send a closed port', () => portOp('send', 17), 'EINVAL'],
    ['send port 0', () => portOp('send', 0), 'EINVAL'],
    ['send a port that doesn’t exist', () => portOp('send', 0xffffffff), 'EINVAL'],
    ['close(local)', () => portOp('close', 16), 0],
    ['close(local) again', () => portOp('close', 16), 'EINVAL'],
    ['close port 0', () => portOp('close', 0), 'EINVAL'],
    ['close one of the kernel’s', () => portOp('close', 15), 'EINVAL'],
    ['alloc_unbound(dom0, A)', () => xen.allocUnbound(0, a), 16],
    ['alloc_unbound(A, DOMID_SELF)', () => xen.allocUnbound(a, 0x7ff0), 2],
    ['alloc_unbound(999)', () => xen.allocUnbound(999, 0), 'ESRCH'],
    ['status of a port that Xen consumes', () => status(a, port), 'EACCES'],
    ['status of an unbound port', () => status(a, 2), E.EVTCHNSTAT_unbound],
    ['status of a closed port', () => status(a, 13), E.EVTCHNSTAT_closed],
    ['status of port 0', () => status(a, 0), E.EVTCHNSTAT_closed],
    ['status of a port that doesn’t exist', () => status(a, 64), 'EINVAL'],
    ['reset of A', () => reset(a), 0],
    ['unpause', () => xen.unpause(a), 0],
    ['reset of a domain that isn’t paused', () => reset(a), 'EINVAL'],
    ['an unknown operation', () => xen.hypercall(HYPERVISOR.event_channel_op, [99, 0]), 'ENOSYS'],
    ['FIFO', () => xen.hypercall(HYPERVISOR.event_channel_op, [E.EVTCHNOP.init_control, 0]), 'ENOSYS'],
    ['an argument that cannot be read', () => xen.hypercall(HYPERVISOR.event_channel_op, [4, 8]), 'EFAULT'],
  ])('%s', (_, action, expected) => {
    expect(action()).toBe(expected);
  });

  function portOp(op: 'unmask' | 'send' | 'close', port: number): Result {
    const layouts = { unmask: E.evtchn_unmask, send: E.evtchn_send, close: E.evtchn_close };
    return xen.evtchn(E.EVTCHNOP[op], layouts[op], { port }).result;
  }
  function status(dom: number, port: number): Result {
    const { result, out } = xen.evtchn(E.EVTCHNOP.status, E.evtchn_status, { dom, port });
    return result === 0 ? out.status : result;
  }
  function reset(dom: number): Result {
    return xen.evtchn(E.EVTCHNOP.reset, E.evtchn_reset, { dom }).result;
  }
});

describe('a channel between two domains', () => {
  const xen = new Toolstack();
  const a = xen.hvm({ max_vcpus: 2 });
  const mine = xen.hypervisor.dom0.evtchn;
  const theirs = xen.domain(a).evtchn;
  const heard = listen(mine);
  const heardThere = listen(theirs);
  const remote = theirs.allocUnbound(0);
  const local = mine.bindInterdomain(xen.domain(a), remote);

  test('a fresh port is masked and pending: its owner hears of it once it is ready', () => {
    expect([mine.isMasked(local), mine.isPending(local), heard]).toEqual([true, true, []]);
    mine.unmask(local);
    expect(heard).toEqual([local]);
  });

  test('an edge while it is pending adds nothing; cleared, it comes again', () => {
    heard.length = 0;
    theirs.send(remote);
    expect(heard).toEqual([]);
    expect(mine.clearPending(local)).toBe(true);
    theirs.send(remote);
    expect(heard).toEqual([local]);
    expect(mine.clearPending(local)).toBe(true);
    expect(mine.clearPending(local)).toBe(false);
  });

  test('masked, an edge waits', () => {
    heard.length = 0;
    mine.mask(local);
    theirs.send(remote);
    expect(heard).toEqual([]);
    mine.unmask(local);
    expect(heard).toEqual([local]);
  });

  test('the other direction', () => {
    theirs.unmask(remote);
    mine.send(local);
    expect(heardThere).toEqual([remote]);
  });

  test('status tells both ends', () => {
    expect(mine.status(local)).toEqual({ state: 'interdomain', vcpuId: 0, remoteDomid: a, remotePort: remote });
    const { out } = xen.evtchn(E.EVTCHNOP.status, E.evtchn_status, { dom: a, port: remote });
    expect(out).toMatchObject({ status: E.EVTCHNSTAT_interdomain, u: { interdomain: { dom: 0, port: local } } });
  });

  test('vCPUs are bound where they exist', () => {
    theirs.bindVcpu(remote, 1);
    expect(theirs.status(remote).vcpuId).toBe(1);
    expect(errno(() => theirs.bindVcpu(remote, 2))).toBe('ENOENT');
    expect(errno(() => theirs.bindVcpu(0, 0))).toBe('EINVAL');
  });

  test('closed at one end, the other waits for the same domain again', () => {
    mine.closeByGuest(local);
    expect(theirs.status(remote)).toEqual({ state: 'unbound', vcpuId: 1, remoteDomid: 0 });
    theirs.send(remote); // dropped
    expect(mine.bindInterdomain(xen.domain(a), remote)).toBe(local);
  });

  test('a loop from a domain to itself', () => {
    const first = mine.allocUnbound(0);
    const second = mine.bindInterdomain(xen.hypervisor.dom0, first);
    heard.length = 0;
    mine.unmask(first);
    mine.send(second);
    expect(heard).toEqual([first]);
    mine.closeByGuest(second);
    expect(mine.status(first)).toMatchObject({ state: 'unbound', remoteDomid: 0 });
    expect(errno(() => mine.bindInterdomain(xen.hypervisor.dom0, second))).toBe('EINVAL');
    mine.closeByGuest(first);
  });
});

describe('a port that Xen consumes', () => {
  const xen = new Toolstack();
  const a = xen.hvm({ max_vcpus: 2 });
  const theirs = xen.domain(a).evtchn;
  const mine = xen.hypervisor.dom0.evtchn;
  const completed: number[] = [];
  const port = theirs.allocUnboundXen(1, 0, (vcpuId) => completed.push(vcpuId));

  test('is out of its owner’s reach', () => {
    expect(errno(() => theirs.closeByGuest(port))).toBe('EINVAL');
    expect(errno(() => theirs.send(port))).toBe('EINVAL');
    expect(errno(() => theirs.bindVcpu(port, 0))).toBe('EINVAL');
    expect(errno(() => theirs.status(port))).toBe('EACCES');
    expect(theirs.reset(false, NEVER_PREEMPT)).toBe(true);
    expect([theirs.nrActive, theirs.nrXen]).toEqual([1, 1]);
  });

  test('takes notifications itself and gives them out', () => {
    theirs.notifyViaXen(port); // nobody there
    const local = mine.bindInterdomain(xen.domain(a), port);
    const heard = listen(mine);
    mine.clearPending(local);
    mine.unmask(local);
    mine.send(local);
    expect([completed, theirs.isPending(port)]).toEqual([[1], false]);
    theirs.notifyViaXen(port);
    expect(heard).toEqual([local]);
  });

  test('goes whatever its state, leaving the other end unbound', () => {
    theirs.freeXen(port);
    expect(theirs.nrActive).toBe(0);
    expect(mine.status(16)).toMatchObject({ state: 'unbound', remoteDomid: a });
    theirs.freeXen(port);
    expect(theirs.allocUnbound(0)).toBe(port);
    theirs.closeByGuest(port); // an ordinary one now
  });
});

describe('virtual interrupts', () => {
  test.each<[string, number, number, Result]>([
    ['VIRQ_DOM_EXC', VIRQ_DOM_EXC, 0, 0],
    ['a global one through vCPU 1', VIRQ_DOM_EXC, 1, 'EINVAL'],
    ['the timer of vCPU 1', 0, 1, 0],
    ['the timer of a vCPU that isn’t there', 0, 2, 'ENOENT'],
    ['24', 24, 0, 'EINVAL'],
    ['a huge one', 0xffffffff, 0, 'EINVAL'],
  ])('bind %s', (_, virq, vcpu, expected) => {
    const xen = new Toolstack();
    const { evtchn } = xen.domain(xen.hvm({ max_vcpus: 2 }));
    expect(errno(() => evtchn.bindVirq(virq, vcpu))).toBe(expected);
    if (expected === 0) expect(errno(() => evtchn.bindVirq(virq, vcpu))).toBe('EEXIST');
  });

  test('VIRQ_DOM_EXC is taken where the host has a store of its own, free where it has none', () => {
    const xen = new Toolstack();
    const bind = () => xen.evtchn(E.EVTCHNOP.bind_virq, E.evtchn_bind_virq, { virq: VIRQ_DOM_EXC });
    expect(xen.hypervisor.claimDomExc()).toBe(1);
    expect(bind().result).toBe('EEXIST');
    const other = new Toolstack();
    expect(other.evtchn(E.EVTCHNOP.bind_virq, E.evtchn_bind_virq, { virq: VIRQ_DOM_EXC })).toMatchObject({
      result: 0,
      out: { port: 16 },
    });
  });

  test('dom0’s kernel has bound its own, and no process gets those', () => {
    const xen = new Toolstack();
    const { events } = xen.hypervisor.callsOfDom0();
    const taken = Array.from({ length: NR_VIRQS }, (_, virq) => virq).filter(
      (virq) => errno(() => events.close(events.bindVirq(virq))) === 'EEXIST',
    );
    expect(taken).toEqual([0, 2, 9, 16]);
    xen.hypervisor.dom0.evtchn.raiseVirq(2); // the kernel's business
    expect(xen.hypervisor.dom0.evtchn.nrActive).toBe(0);
  });

  test('a timer for each vCPU of dom0', () => {
    const { evtchn } = new Hypervisor({ extents: new PlainExtents(), dom0Vcpus: 2 }).dom0;
    expect([0, 1, 2].map((vcpu) => errno(() => evtchn.bindVirq(0, vcpu)))).toEqual(['EEXIST', 'EEXIST', 'ENOENT']);
  });

  test('VIRQ_DOM_EXC tells of a shutdown, of a death and of the end', () => {
    const xen = new Toolstack();
    const { dom0 } = xen.hypervisor;
    const port = xen.hypervisor.claimDomExc();
    dom0.evtchn.unmask(port);
    const flags: (number | Result)[] = [];
    dom0.evtchn.onUpcall = () => {
      const { result, domain, flags: f } = xen.info(1);
      flags.push(result === 0 && domain === 1 ? (f & 0xff0005) >>> 0 : result);
      dom0.evtchn.clearPending(port);
    };
    const domid = xen.hvm();
    const domain = xen.domain(domid);
    domain.shutdown(3);
    domain.shutdown(1); // the first reason stays, and nobody is told again
    domain.hold();
    xen.destroy(domid);
    domain.drop();
    expect(flags).toEqual([0x030004, 0x030005, 'ESRCH']);
  });

  test('another domain can handle it, until it dies', () => {
    const xen = new Toolstack();
    const [store, a] = [xen.hvm(), xen.hvm()];
    const there = xen.domain(store).evtchn;
    const heardThere = listen(there);
    const port = there.bindVirq(VIRQ_DOM_EXC, 0);
    there.unmask(port);
    xen.hypervisor.setGlobalVirqHandler(VIRQ_DOM_EXC, xen.domain(store));
    xen.domain(a).shutdown(0);
    expect(heardThere).toEqual([port]);
    const dom0 = xen.hypervisor.dom0.evtchn;
    dom0.unmask(xen.hypervisor.claimDomExc());
    const heard = listen(dom0);
    xen.destroy(store);
    expect(heard).toEqual([1]);
  });

  test('a suspend goes to the port that asked for it', () => {
    const xen = new Toolstack();
    const domain = xen.domain(xen.hvm());
    const dom0 = xen.hypervisor.dom0.evtchn;
    domain.suspendPort = domain.evtchn.allocUnbound(0);
    const local = dom0.bindInterdomain(domain, domain.suspendPort);
    dom0.clearPending(local);
    domain.shutdown(2);
    expect(dom0.isPending(local)).toBe(true);
    domain.resume();
    domain.evtchn.closeByGuest(domain.suspendPort);
    domain.shutdown(2); // the port has gone: nothing happens
    expect(domain.isShutDown).toBe(true);
  });
});

describe('limits', () => {
  test('max_evtchn_port', () => {
    const xen = new Toolstack();
    const domid = xen.hvm({ max_evtchn_port: 3 });
    expect([1, 2, 3].map(() => xen.allocUnbound(domid, 0))).toEqual([1, 2, 3]);
    expect(xen.allocUnbound(domid, 0)).toBe('ENOSPC');
    xen.domain(domid).evtchn.closeByGuest(2);
    expect(xen.allocUnbound(domid, 0)).toBe(2);
  });

  test('4095 ports for a guest, 131071 for dom0', () => {
    const xen = new Toolstack({ kernelPorts: 0 });
    const guest = xen.domain(xen.hvm()).evtchn;
    for (let i = 1; i < E.EVTCHN_2L_NR_CHANNELS; i++) expect(guest.allocUnbound(0)).toBe(i);
    expect(errno(() => guest.allocUnbound(0))).toBe('ENOSPC');
    const { evtchn } = xen.hypervisor.dom0;
    for (let i = 1; i < E.EVTCHN_FIFO_NR_CHANNELS; i++) evtchn.allocUnbound(1);
    expect(errno(() => evtchn.allocUnbound(1))).toBe('ENOSPC');
    expect(evtchn.nrActive).toBe(E.EVTCHN_FIFO_NR_CHANNELS - 1);
  });

  test('a failed bind costs no port', () => {
    const xen = new Toolstack();
    const a = xen.hvm();
    const { evtchn } = xen.hypervisor.dom0;
    for (let i = 0; i < 1000; i++) expect(xen.bindInterdomain(a, i)).toBe('EINVAL');
    expect(evtchn.nrActive).toBe(0);
    expect(xen.allocUnbound(0, a)).toBe(16);
  });

  test('the kernel’s ports are given out by name only', () => {
    const { evtchn } = new Toolstack().hypervisor.dom0;
    expect(evtchn.allocUnbound(0, 7)).toBe(7);
    expect(errno(() => evtchn.allocUnbound(0, 7))).toBe('EBUSY');
    expect(errno(() => evtchn.allocUnbound(0, 1 << 17))).toBe('ENOSPC');
    expect(evtchn.allocUnbound(0, 100)).toBe(100);
    expect(evtchn.allocUnbound(0)).toBe(16);
    expect(errno(() => evtchn.bindInterdomain(evtchn.domain, 99, 3))).toBe('EINVAL');
    expect(evtchn.allocUnbound(0)).toBe(17);
  });

  test('a dying domain gets no more', () => {
    const xen = new Toolstack();
    const domain = xen.domain(xen.hvm());
    domain.hold();
    xen.destroy(domain.domid);
    expect(errno(() => domain.evtchn.allocUnbound(0))).toBe('EINVAL');
    expect(errno(() => domain.evtchn.bindIpi(0))).toBe('EINVAL');
  });
});

test('reset of many ports is preempted, goes on, and lets nobody in between', () => {
  const xen = new Toolstack();
  const domid = xen.hvm();
  const { evtchn } = xen.domain(domid);
  const kept = evtchn.allocUnboundXen(0, 0, () => {});
  for (let i = 0; i < 3000; i++) evtchn.allocUnbound(0);
  const preemption = new AlwaysPreempt();
  expect(errno(() => evtchn.reset(true, preemption))).toBe('EBUSY'); // there is nothing to go on with
  expect(evtchn.reset(false, preemption)).toBe(false);
  expect(errno(() => evtchn.reset(false, preemption))).toBe('EBUSY');
  let slices = 1;
  while (!evtchn.reset(true, preemption)) slices++;
  expect(slices).toBeGreaterThan(40);
  expect([evtchn.nrActive, evtchn.nrXen]).toEqual([1, 1]);
  expect(evtchn.allocUnbound(0)).toBe(kept + 1);
});
