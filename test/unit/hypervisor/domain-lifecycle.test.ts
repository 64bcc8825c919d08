/**
 * What a domain leaves behind: nothing. Regressions are named after the classes of published advisories they hold:
 * long loops (340, 342, 343, 344), ports and pages of dead domains (322, 417), numbers that index tables (199).
 */
import { describe, expect, test } from 'vitest';
import { VIRQ_DOM_EXC } from '../../../dist/abi/xen/xen.js';
import { NEVER_PREEMPT, PREEMPTED } from '../../../dist/boundary/operation.js';
import { beginHvmDomain, createHvmDomain, createPvDomain } from '../../../dist/hypervisor/build-domain.js';
import { AlwaysPreempt, Toolstack } from '../../support/toolstack.js';

describe('accounting', () => {
  test('extents, frames and ports are back to none after a domain’s end', () => {
    const xen = new Toolstack();
    const extentsBefore = xen.extents.live;
    for (let round = 0; round < 5; round++) {
      const domain = createHvmDomain(xen.hypervisor, { memoryMiB: 16, vcpus: 2 });
      const server = domain.hvm!.ioreq.create(xen.hypervisor.dom0, 2);
      const calls = xen.hypervisor.callsOfDom0();
      const mappings = [
        calls.resourceFrames(domain.domid, 0, server, 0n, 2),
        calls.foreignFrames(domain.domid, [1n, 2n]),
      ];
      xen.addToPhysmap(domain.domid, 0, 0, 0x5000);
      for (let i = 0; i < 10; i++) xen.bindInterdomain(domain.domid, domain.evtchn.allocUnbound(0));
      expect(xen.extents.live).toBeGreaterThanOrEqual(3);
      expect(xen.destroy(domain.domid)).toBe(0);
      expect(xen.extents.live).toBe(extentsBefore);
      expect([domain.memory.totPages, domain.p2m.nrMapped, domain.evtchn.nrActive]).toEqual([0, 0, 0]);
      // dom0's ends stay with dom0, unbound, as after any close by the other side
      for (let port = 16; port < 26; port++) xen.hypervisor.dom0.evtchn.closeByGuest(port);
      expect(xen.hypervisor.dom0.evtchn.nrActive).toBe(0);
      expect(xen.hypervisor.domains.count).toBe(2);
      for (const mapping of mappings) mapping.release();
      expect(xen.hypervisor.domains.count).toBe(1);
      expect(xen.hypervisor.machine.nrExtents).toBe(0);
    }
  });

  test('destroying in the smallest slices ends in the same', () => {
    const xen = new Toolstack();
    const domain = createHvmDomain(xen.hypervisor, { memoryMiB: 600, vcpus: 2 });
    for (let i = 0; i < 500; i++) domain.evtchn.allocUnbound(0);
    const preemption = new AlwaysPreempt();
    xen.preemption = preemption;
    expect(xen.destroy(domain.domid)).toBe(0);
    expect(preemption.asked).toBeGreaterThan(300);
    expect([xen.extents.live, xen.hypervisor.domains.count]).toEqual([0, 1]);
  });

  test('two destroys of one domain at once are both satisfied', () => {
    const xen = new Toolstack();
    const domain = createHvmDomain(xen.hypervisor);
    const preemption = new AlwaysPreempt();
    let both = 0;
    for (let more = true; more; ) {
      const first = domain.kill(preemption);
      const second = domain.kill(preemption);
      more = !(first && second);
      both++;
    }
    expect(both).toBeGreaterThan(2);
    expect(xen.hypervisor.domains.count).toBe(1);
  });

  test('200 domains', () => {
    const xen = new Toolstack();
    for (let i = 0; i < 200; i++) createHvmDomain(xen.hypervisor, { memoryMiB: 1 });
    expect(xen.hypervisor.domains.count).toBe(201);
    expect(xen.extents.live).toBe(200);
    for (const domain of [...xen.hypervisor.domains]) if (domain.domid !== 0) xen.destroy(domain.domid);
    expect([xen.extents.live, xen.hypervisor.domains.count]).toEqual([0, 1]);
  });
});

describe('holders', () => {
  test('a held domain is found, dying, until the last lets go; then nothing is', () => {
    const xen = new Toolstack();
    const { domid } = createHvmDomain(xen.hypervisor, { memoryMiB: 1 });
    const domain = xen.domain(domid);
    domain.hold();
    domain.hold();
    expect(xen.destroy(domid)).toBe(0);
    expect(xen.info(domid)).toMatchObject({ domain: domid, tot_pages: 0n });
    expect(xen.info(domid).flags & 1).toBe(1);
    expect(xen.create({}, domid).result).toBe('EEXIST');
    expect(xen.extents.live).toBe(0);
    domain.drop();
    expect(xen.destroy(domid)).toBe(0);
    domain.drop();
    expect(xen.destroy(domid)).toBe('ESRCH');
    expect(xen.create({}, domid).result).toBe(0);
    expect(() => domain.drop()).toThrow('no holder');
    expect(() => domain.hold()).toThrow('dead');
  });

  test('whoever has a page of it mapped is one', () => {
    const xen = new Toolstack();
    const { domid } = createHvmDomain(xen.hypervisor, { memoryMiB: 1, vcpus: 2 });
    const calls = xen.hypervisor.callsOfDom0();
    const server = xen.domain(domid).hvm!.ioreq.create(xen.hypervisor.dom0, 1);
    const memory = calls.foreignFrames(domid, [5n, 9999n]);
    const pages = calls.resourceFrames(domid, 0, server, 0n, 2);
    calls.foreignFrames(domid, [9999n]).release(); // nothing of it is mapped
    expect(() => calls.resourceFrames(domid, 0, server, 5n, 1)).toThrow('EINVAL'); // nor of this
    xen.destroy(domid);
    pages.release();
    expect(xen.info(domid)).toMatchObject({ domain: domid, tot_pages: 0n });
    expect(() => xen.domain(domid).hvm!.ioreq.create(xen.hypervisor.dom0, 0)).toThrow('EINVAL');
    const late = calls.foreignFrames(domid, [5n]);
    expect([late.runs, late.errors]).toEqual([[], [{ page: 0, nrPages: 1, errno: 22 }]]);
    late.release();
    expect(xen.addToPhysmap(domid, 0, 0, 5)).toBe('EINVAL'); // nothing is given to it any more
    expect(xen.populate(domid, 5, 1)).toBe(0);
    expect(() => xen.hypervisor.setGlobalVirqHandler(VIRQ_DOM_EXC, xen.domain(domid))).toThrow('EINVAL');
    expect(xen.create({}, domid).result).toBe('EEXIST');
    memory.release();
    expect(xen.destroy(domid)).toBe('ESRCH');
    expect([xen.extents.live, xen.hypervisor.machine.nrExtents, xen.hypervisor.domains.count]).toEqual([0, 0, 1]);
    expect(xen.create({}, domid).result).toBe(0);
    expect(() => memory.release()).toThrow('released twice');
  });

  test('letting go while it dies leaves its end to whoever destroys it', () => {
    const xen = new Toolstack();
    const { domid } = createHvmDomain(xen.hypervisor, { memoryMiB: 1 });
    const domain = xen.domain(domid);
    const mapping = xen.hypervisor.callsOfDom0().foreignFrames(domid, [5n]);
    for (let i = 0; i < 100; i++) domain.evtchn.allocUnbound(0);
    expect(domain.kill(new AlwaysPreempt())).toBe(false);
    mapping.release();
    expect(xen.info(domid).domain).toBe(domid);
    expect(xen.destroy(domid)).toBe(0);
    expect(xen.hypervisor.domains.count).toBe(1);
  });
});

describe('a domid used again inherits nothing', () => {
  test('no pages, parameters, servers, ports, pauses or handle', () => {
    const xen = new Toolstack();
    const first = createHvmDomain(xen.hypervisor, { memoryMiB: 4, vcpus: 2, handle: new Uint8Array(16).fill(7) });
    first.hvm!.ioreq.create(xen.hypervisor.dom0, 1);
    first.hvm!.logDirty.enable(false);
    first.pause();
    first.shutdown(3);
    xen.destroy(first.domid);
    const { domid, result } = xen.create({}, first.domid);
    expect([result, domid]).toEqual([0, first.domid]);
    const second = xen.domain(domid);
    expect(second).not.toBe(first);
    expect(xen.info(domid)).toMatchObject({ flags: 0xffff010a, tot_pages: 0n, handle: new Uint8Array(16) });
    expect([second.evtchn.nrActive, second.p2m.maxMappedGfn, second.memory.nrExtents]).toEqual([0, -1, 0]);
    expect([second.hvm!.ioreq.size, second.hvm!.logDirty.isEnabled]).toEqual([0, false]);
    expect(xen.getParam(domid, 32)).toBe(0n);
  });

  test('a port that waited for the dead domain does not take its successor', () => {
    const xen = new Toolstack();
    const { dom0 } = xen.hypervisor;
    const first = xen.hvm();
    const waiting = dom0.evtchn.allocUnbound(first);
    const bound = xen.domain(first).evtchn.bindInterdomain(dom0, dom0.evtchn.allocUnbound(first));
    expect(bound).toBe(1);
    xen.destroy(first);
    xen.create({}, first);
    const successor = xen.domain(first);
    for (const port of [waiting, waiting + 1]) {
      expect(dom0.evtchn.status(port)).toMatchObject({ state: 'unbound', remoteDomid: first });
      expect(() => successor.evtchn.bindInterdomain(dom0, port)).toThrow('EINVAL');
    }
    const fresh = dom0.evtchn.allocUnbound(first);
    expect(successor.evtchn.bindInterdomain(dom0, fresh)).toBe(1);
  });

  test('a port made for a domain that is still to come is for the first one', () => {
    const xen = new Toolstack();
    const { dom0 } = xen.hypervisor;
    const port = dom0.evtchn.allocUnbound(9);
    xen.create({}, 9);
    expect(xen.domain(9).evtchn.bindInterdomain(dom0, port)).toBe(1);
  });

  test('frames go to nobody else: extents of a dead domain are released, not handed on', () => {
    const xen = new Toolstack();
    const first = createHvmDomain(xen.hypervisor, { memoryMiB: 1 });
    const { extent } = xen.hypervisor.machine.place(first.p2m.mfn(0));
    extent.bytes.fill(0x42);
    xen.destroy(first.domid);
    const second = createHvmDomain(xen.hypervisor, { memoryMiB: 1, domid: first.domid });
    const place = xen.hypervisor.machine.place(second.p2m.mfn(0));
    expect(place.extent).not.toBe(extent);
    expect(place.extent.bytes.every((byte) => byte === 0)).toBe(true);
  });

  test('a global interrupt’s handler goes with its domain', () => {
    const xen = new Toolstack();
    const first = xen.hvm();
    xen.hypervisor.setGlobalVirqHandler(VIRQ_DOM_EXC, xen.domain(first));
    xen.destroy(first);
    xen.create({}, first);
    const { evtchn } = xen.domain(first);
    xen.maxVcpus(first, 1);
    const port = evtchn.bindVirq(VIRQ_DOM_EXC, 0);
    xen.domain(xen.hvm()).shutdown(0);
    expect(evtchn.isPending(port)).toBe(false);
  });
});

describe('numbers that no table has', () => {
  test('64-bit gfns, ports and counts are refused without allocating anything', () => {
    const xen = new Toolstack();
    const domid = xen.hvm();
    const { p2m, evtchn } = xen.domain(domid);
    for (const gfn of [1n << 36n, 1n << 52n, (1n << 53n) + 1n, 1n << 63n, (1n << 64n) - 2n]) {
      expect(xen.populate(domid, gfn, 1)).toBe(0);
      expect(xen.decrease(domid, gfn, 1)).toBe(0);
      const { errors, runs } = xen.hypervisor.callsOfDom0().foreignFrames(domid, [gfn]);
      expect([errors, runs]).toEqual([[{ page: 0, nrPages: 1, errno: 22 }], []]);
    }
    expect([p2m.nrMapped, xen.domain(domid).memory.totPages]).toEqual([0, 0]);
    for (const port of [64, 4096, 1 << 17, 0x7fffffff, 0xffffffff]) {
      expect(evtchn.isPending(port)).toBe(false);
      expect(() => evtchn.send(port)).toThrow('EINVAL');
      expect(() => evtchn.bindInterdomain(xen.hypervisor.dom0, port)).toThrow('EINVAL');
    }
    for (const target of [0x7ff0, 0x7ff1, 0x7ff4, 0x7fff, 0xffff]) {
      expect(() => xen.hypervisor.domains.get(target)).toThrow('ESRCH');
    }
  });
});

describe('building', () => {
  test('memory that does not fit below the hole goes above 4 GiB', () => {
    const xen = new Toolstack();
    // Sparse: nobody touches the pages.
    const allocate = (nrFrames: number) => ({ nrFrames, bytes: new Uint8Array(0), release() {} });
    xen.extents.allocate = allocate;
    const domain = createHvmDomain(xen.hypervisor, { memoryMiB: 4096 });
    const { p2m } = domain;
    expect(p2m.nrMapped).toBe(4096 * 256 + 16);
    const holds = [0, 0xeffff, 0xf0000, 0xfefef, 0xfeff0, 0xfefff, 0xff000, 0x100000, 0x10ffff, 0x110000].map(
      (gfn) => p2m.mfn(gfn) > 0,
    );
    expect(holds).toEqual([true, true, false, false, true, true, false, true, true, false]);
  });

  test('in slices, and given up where the domain is destroyed meanwhile', () => {
    const xen = new Toolstack();
    const { domain, layOut } = beginHvmDomain(xen.hypervisor, { memoryMiB: 8 });
    const preemption = new AlwaysPreempt();
    expect(layOut.run(preemption)).toBe(PREEMPTED);
    expect(domain.p2m.nrMapped).toBe(256);
    expect(xen.destroy(domain.domid)).toBe(0);
    expect(layOut.run(preemption)).toBe(0);
    expect([domain.p2m.nrMapped, xen.extents.live]).toEqual([0, 0]);
  });

  test('a machine without memory leaves no domain', () => {
    const xen = new Toolstack();
    xen.extents.left = 0;
    expect(() => createHvmDomain(xen.hypervisor)).toThrow('ENOMEM');
    expect(xen.hypervisor.domains.count).toBe(1);
  });

  test('PV', () => {
    const xen = new Toolstack();
    const domain = createPvDomain(xen.hypervisor, { vcpus: 3 });
    expect(xen.info(domain.domid)).toMatchObject({ flags: 0xffff0008, max_vcpu_id: 2, tot_pages: 0n });
    expect(domain.hvm).toBeUndefined();
    expect(domain.kill(NEVER_PREEMPT)).toBe(true);
  });
});
