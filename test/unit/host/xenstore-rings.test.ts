/**
 * The embedded host's XenStore with domains on their rings: hypervisor, kernel and store as the host wires them, in this
 * thread; the guest is played through its memory and its event channels.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { NEVER_PREEMPT } from '../../../dist/boundary/operation.js';
import { Dom0Kernel } from '../../../dist/dom0/kernel.js';
import { EmbeddedXenstore } from '../../../dist/host/embedded-xenstore.js';
import { memoryFiles } from '../../../dist/host/memory-files.js';
import { Reactor } from '../../../dist/host/reactor.js';
import { homeRequests, uuidOf } from '../../../dist/host/store-home.js';
import { Trace } from '../../../dist/host/trace.js';
import { createHvmDomain, giveStoreRing } from '../../../dist/hypervisor/build-domain.js';
import type { Domain } from '../../../dist/hypervisor/domain.js';
import { Hypervisor } from '../../../dist/hypervisor/hypervisor.js';
import { GuestKernel } from '../../support/guest-kernel.js';
import { RingGuest } from '../../support/ring-guest.js';
import { Client, show } from '../xenstore/harness.js';

let folder: string;
let reactor: Reactor;
let hypervisor: Hypervisor;
let store: EmbeddedXenstore;
let local: Client;
let trace: Trace;
let logged: string[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'postern-rings-'));
  reactor = new Reactor();
  hypervisor = new Hypervisor({ extents: memoryFiles });
  const kernel = new Dom0Kernel(hypervisor.callsOfDom0());
  const page = memoryFiles.allocate(1);
  const bus = kernel.startXenbus(page.bytes, () => {});
  hypervisor.dom0.evtchn.onUpcall = (port) => {
    if (!store?.upcall(port)) kernel.upcall(port);
  };
  trace = new Trace(join(folder, 'trace'));
  logged = [];
  store = new EmbeddedXenstore(reactor, hypervisor, {
    kernel: { page, port: bus.port },
    socketPath: join(folder, 'socket'),
    trace,
    log: (line) => logged.push(line),
  });
  local = new Client(store.server, { domid: 0 });
});

afterEach(() => {
  store.close();
  for (const domain of [...hypervisor.domains]) if (domain !== hypervisor.dom0) domain.kill(NEVER_PREEMPT);
  settle();
  reactor.close();
  trace.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Everything that can be done without waiting. */
function settle(): void {
  for (let i = 0; i < 20; i++) reactor.round(0);
}

class Guest extends GuestKernel {
  all(type: string, payload = '', tx = 0): string[] {
    this.ring.send(type, payload, 5, tx);
    const lines: string[] = [];
    for (let idle = 0; idle < 2; ) {
      settle();
      const messages = this.ring.take();
      const waits = this.ring.push();
      lines.push(...messages.map(show));
      idle = messages.length === 0 && waits === 0 && !this.ring.isInMessage ? idle + 1 : 0;
    }
    return lines;
  }
}

function make(domid = 0): Guest {
  const domain = createHvmDomain(hypervisor, { memoryMiB: 4, domid });
  const uuid = uuidOf(domain.handle);
  store.ask(homeRequests({ domid: domain.domid, uuid, memoryMiB: 4, vcpus: 1, ...giveStoreRing(domain) }));
  settle();
  return new Guest(domain);
}

describe('a domain at its quota', () => {
  it('is refused where everybody can see it: counted, traced, and said once', () => {
    const guest = make();
    local.ask('CONTROL', 'quota|set|nodes|20|');
    const answers = Array.from({ length: 30 }, (_, i) => guest.all('WRITE', `data/${i}|x`)[0]);
    const refused = answers.filter((answer) => answer === 'ERROR ENOSPC|').length;
    expect(refused).toBeGreaterThan(5);
    expect(answers[0]).toBe('WRITE OK|');
    expect(trace.counts().refusals).toEqual({ 'ENOSPC xenstore: domain 1, nodes': refused });
    expect(logged).toEqual([expect.stringMatching(/^Domain 1 denied by nodes: /)]);
    trace.flush();
    const lines = readFileSync(join(folder, 'trace'), 'utf8').trimEnd().split('\n');
    const records = lines.map((line) => JSON.parse(line) as { call: string; domid: number; direction?: string });
    const denials = records.filter(({ call }) => call === 'nodes');
    expect(denials).toHaveLength(refused);
    expect(denials[0]).toMatchObject({ device: 'xenstore', domid: 1, errno: 'ENOSPC', verdict: 'refused' });
    expect(
      records.find(({ call, domid, direction }) => call === 'WRITE' && domid === 1 && direction === 'in'),
    ).toMatchObject({
      device: 'xenstore',
      domid: 1,
      requestId: 5,
      payload: 'data/0\0x',
    });
  });

  it('is in the report of the memory, which goes to the log or a file', () => {
    expect(local.ask('CONTROL', 'memreport|')).toBe('OK|');
    expect(logged.some((line) => line.startsWith('watches '))).toBe(true);
    const file = join(folder, 'report');
    local.ask('CONTROL', 'quota|set|nodes|20|');
    const guest = make();
    for (let i = 0; i < 30; i++) guest.all('WRITE', `data/${i}|x`);
    expect(local.ask('CONTROL', `memreport|${file}|`)).toBe('OK|');
    expect(readFileSync(file, 'utf8')).toMatch(/^denied by nodes: \d+$/m);
    expect(local.ask('CONTROL', `memreport|${folder}/none/report|`)).toBe('EINVAL');
  });
});

describe('a domain of ours', () => {
  it('finds its ring where libxl would have put it', () => {
    const { gfn, port } = make();
    expect(gfn).toBe(0xfeffc);
    expect(port).toBeGreaterThan(0);
    expect(local.ask('IS_DOMAIN_INTRODUCED', '1|')).toBe('T|');
    expect(local.ask('READ', '/local/domain/1/store/port|')).toBe(`${port}`);
    expect(local.ask('READ', '/local/domain/1/store/ring-ref|')).toBe(`${gfn}`);
  });

  it('has a home that it may read, and parts of its own', () => {
    const guest = make();
    expect(guest.all('READ', 'domid|')).toEqual(['READ 1']);
    expect(guest.all('GET_PERMS', '/local/domain/1|')).toEqual(['GET_PERMS n0|r1|']);
    expect(guest.all('GET_PERMS', 'data|')).toEqual(['GET_PERMS n1|']);
    expect(guest.all('WRITE', 'data/x|y')).toEqual(['WRITE OK|']);
    expect(guest.all('WRITE', 'control/feature-poweroff|1')).toEqual(['WRITE OK|']);
    expect(guest.all('WRITE', 'name|mine')).toEqual(['ERROR EACCES|']);
    expect(guest.all('WRITE', '/local/domain/1/new|x')).toEqual(['ERROR EACCES|']);
    expect(guest.all('READ', '/libxl/1/type|')).toEqual(['ERROR EACCES|']);
    expect(guest.all('READ', 'cpu/0/availability|')).toEqual(['READ online']);
  });

  it('watches, and is woken', () => {
    const guest = make();
    expect(guest.all('WATCH', 'control/shutdown|t|')).toEqual(['WATCH OK|', 'WATCH_EVENT control/shutdown|t|']);
    const { upcalls } = guest;
    local.ask('WRITE', '/local/domain/1/control/shutdown|poweroff');
    store.service.settle();
    expect(guest.upcalls).toBe(upcalls + 1);
    expect(guest.ring.take().map(show)).toEqual(['WATCH_EVENT control/shutdown|t|']);
    expect(guest.all('READ', 'control/shutdown|')).toEqual(['READ poweroff']);
  });

  it('is announced, and its end is', () => {
    local.all('WATCH', '@introduceDomain|i|');
    local.all('WATCH', '@releaseDomain|r|');
    const guest = make();
    expect(local.take().map(show)).toContain('WATCH_EVENT @introduceDomain|i|');
    guest.domain.kill(NEVER_PREEMPT);
    settle();
    expect(local.take().map(show)).toEqual(['WATCH_EVENT @releaseDomain|r|']);
    expect(local.ask('IS_DOMAIN_INTRODUCED', '1|')).toBe('F|');
  });

  it('does not see another, nor is it held up by one that never reads', () => {
    const [quiet, other] = [make(), make()];
    for (let i = 0; i < 100; i++) {
      quiet.ring.send('READ', 'domid|');
      settle();
    }
    expect(other.all('READ', 'domid|')).toEqual(['READ 2']);
    expect(other.all('READ', '/local/domain/1/domid|')).toEqual(['ERROR EACCES|']);
    expect(other.all('WRITE', 'data/a|b')).toEqual(['WRITE OK|']);
  });

  it('is ignored after garbage, and served again when it reconnects', () => {
    const guest = make();
    guest.ring.set('req_prod', guest.ring.get('req_cons') + 2000);
    guest.ring.notify();
    settle();
    expect(guest.ring.get('error')).toBe(2);
    guest.ring.set('connection', 1);
    guest.ring.notify();
    settle();
    expect([guest.ring.get('connection'), guest.ring.get('error')]).toEqual([0, 0]);
    expect(guest.all('READ', 'domid|')).toEqual(['READ 1']);
  });
});

describe('INTRODUCE by a toolstack', () => {
  function bare(): { domain: Domain; gfn: number; port: number } {
    const domain = createHvmDomain(hypervisor, { memoryMiB: 4 });
    return { domain, ...giveStoreRing(domain) };
  }

  it('serves the page and the port that it names', () => {
    const { domain, port } = bare();
    expect(local.ask('INTRODUCE', `1|${0xfeffc}|${port}|`)).toBe('OK|');
    expect(new Guest(domain).all('READ', '/tool|')).toEqual(['ERROR EACCES|']);
    expect(store.rings.count).toBe(2);
  });

  it.each([
    ['a page that is not there', (port: number) => `1|${0xf0000}|${port}|`, 'EINVAL'],
    ['a port that is not for dom0', (port: number) => `1|${0xfeffc}|${port + 1}|`, 'EINVAL'],
    ['a domain that is not there', (port: number) => `9|${0xfeffc}|${port}|`, 'EINVAL'],
  ])('refuses %s, and keeps nothing', (_, payload, error) => {
    const { domain, port } = bare();
    expect(local.ask('INTRODUCE', payload(port))).toBe(error);
    expect(store.rings.count).toBe(1);
    expect(local.ask('IS_DOMAIN_INTRODUCED', '1|')).toBe('F|');
    domain.kill(NEVER_PREEMPT);
    settle();
    expect(hypervisor.domains.find(1)).toBeUndefined();
  });

  it('again, of a domain that is served, takes the new port and starts anew', () => {
    const guest = make();
    guest.all('WATCH', 'data|t|');
    const { evtchn } = guest.domain;
    const port = evtchn.allocUnbound(0);
    expect(local.ask('INTRODUCE', `1|${guest.gfn}|${port}|`)).toBe('OK|');
    settle();
    expect(store.server.domains.get(1)?.watches).toBe(0);
    evtchn.unmask(port);
    const ring = new RingGuest(guest.ring.page, () => evtchn.send(port));
    ring.send('READ', 'domid|');
    settle();
    expect(ring.take().map(show)).toEqual(['READ 1']);
  });

  it('RELEASE ends it: nothing is read or written any more', () => {
    const guest = make();
    expect(local.ask('RELEASE', '1|')).toBe('OK|');
    settle();
    const before = guest.ring.page.slice();
    guest.ring.set('req_prod', guest.ring.get('req_prod') + 16);
    guest.ring.notify();
    settle();
    guest.ring.set('req_prod', guest.ring.get('req_prod') - 16);
    expect(guest.ring.page).toEqual(before);
    expect(store.rings.count).toBe(1);
  });
});

describe('the end of a domain', () => {
  it('in the middle of a request and with replies unread', () => {
    const guest = make();
    guest.all('WATCH', 'data|t|');
    guest.all('TRANSACTION_START', '|');
    guest.ring.send('READ', 'domid|');
    guest.ring.raw(new Uint8Array(10));
    guest.domain.kill(NEVER_PREEMPT); // before the host has looked
    settle();
    expect(store.rings.count).toBe(1);
    expect(hypervisor.domains.find(1)).toBeUndefined();
    expect(store.server.domains.get(1)).toBeNull();
    expect(store.server.connections.size).toBe(2);
    expect(store.server.check()).toEqual([]);
  });

  it('leaves nothing that a domain with the same domid could inherit', () => {
    const first = make(7);
    first.all('WRITE', 'data/secret|x');
    first.all('WATCH', 'data|t|');
    local.ask('WRITE', '/tool/shared|x');
    local.ask('SET_PERMS', '/tool/shared|n0|b7|');
    expect(first.all('READ', '/tool/shared|')).toEqual(['READ x']);
    first.domain.kill(NEVER_PREEMPT);
    settle();
    const second = make(7);
    expect(second.all('READ', 'data/secret|')).toEqual(['ERROR ENOENT|']);
    expect(second.all('READ', '/tool/shared|')).toEqual(['ERROR EACCES|']);
    local.ask('WRITE', '/local/domain/7/data|x');
    settle();
    expect(second.ring.take()).toEqual([]);
  });

  it('many times over, gives everything back', () => {
    const { evtchn } = hypervisor.dom0;
    const [ports, extents] = [evtchn.nrActive, hypervisor.machine.nrExtents];
    for (let i = 0; i < 30; i++) {
      const guest = make();
      guest.all('WATCH', 'data|t|');
      guest.domain.kill(NEVER_PREEMPT);
      settle();
    }
    expect([evtchn.nrActive, hypervisor.machine.nrExtents, store.rings.count]).toEqual([ports, extents, 1]);
    expect(store.server.check()).toEqual([]);
  });
});
