/** A domain's ring at the server: requests through 1024 bytes, states of the connection, and domains that play foul. */
import { beforeEach, describe, expect, it } from 'vitest';
import { StoreRing } from '../../../dist/xenstore/ring.js';
import { XenstoreServer } from '../../../dist/xenstore/server.js';
import { RingGuest } from '../../support/ring-guest.js';
import { bytes, Client, encode, show, TYPES } from './harness.js';

const RINGIDX = 2;
const PROTO = 3;

let server: XenstoreServer;
let local: Client;

beforeEach(() => {
  server = new XenstoreServer({ now: () => 0 }, { hashSeed: 1, allowRestrict: true });
  local = new Client(server, { domid: 0 });
});

/** The server's end, the domain's end, and a host that does what is due when it is told to. */
class Wire {
  readonly page = new Uint8Array(4096);
  readonly guest = new RingGuest(this.page, () => {
    this.rung = true;
  });
  readonly ring: StoreRing;
  /** Times the daemon has rung. */
  rings = 0;
  closed = false;
  private rung = false;
  private due = false;

  constructor(readonly domid: number) {
    this.ring = new StoreRing(
      server,
      this.page,
      {
        notify: () => void this.rings++,
        due: () => {
          this.due = true;
        },
        more: () => {
          this.rung = true;
        },
        closed: () => {
          this.closed = true;
        },
      },
      domid,
    );
  }

  /** Until nothing moves. @returns rounds it took */
  settle(): number {
    for (let round = 0; ; round++) {
      if (!this.rung && !this.due) return round;
      if (round > 10_000) throw new Error('it never settles');
      if (this.rung) {
        this.rung = false;
        this.ring.receive();
      }
      if (this.due) {
        this.due = false;
        this.ring.flush();
      }
    }
  }

  /** What comes of a request, sending and taking for as long as it needs. */
  all(type: string, payload = '', tx = 0): string[] {
    this.guest.send(type, payload, 7, tx);
    const lines: string[] = [];
    for (let idle = 0; idle < 2; ) {
      this.settle();
      const messages = this.guest.take();
      const waits = this.guest.push();
      lines.push(...messages.map(show));
      idle = messages.length === 0 && waits === 0 && !this.guest.isInMessage ? idle + 1 : 0;
    }
    return lines;
  }
}

function own(domid: number): Wire {
  local.ask('MKDIR', `/local/domain/${domid}|`);
  local.ask('SET_PERMS', `/local/domain/${domid}|n${domid}|`);
  return new Wire(domid);
}

describe('a ring', () => {
  it('carries requests, replies and events', () => {
    const wire = own(3);
    expect(wire.all('WRITE', 'a|hello')).toEqual(['WRITE OK|']);
    expect(wire.all('READ', 'a|')).toEqual(['READ hello']);
    expect(wire.all('WATCH', 'a|t|')).toEqual(['WATCH OK|', 'WATCH_EVENT a|t|']);
    expect(local.ask('WRITE', '/local/domain/3/a|x')).toBe('OK|');
    wire.settle();
    expect(wire.guest.take().map(show)).toEqual(['WATCH_EVENT a|t|']);
    expect(wire.rings).toBeGreaterThan(0);
  });

  it('has the rights of its domain, not of dom0', () => {
    local.ask('WRITE', '/secret|x');
    expect(own(3).all('READ', '/secret|')).toEqual(['ERROR EACCES|']);
  });

  it('carries messages four times its size, both ways', () => {
    const wire = own(3);
    const value = 'v'.repeat(2000);
    expect(wire.all('WRITE', `a|${value}`)).toEqual(['WRITE OK|']);
    expect(wire.all('READ', 'a|')).toEqual([`READ ${value}`]);
    expect(local.ask('SET_QUOTA', 'node-size|8192|')).toBe('OK|');
    const longest = 'w'.repeat(4094);
    expect(wire.all('WRITE', `a|${longest}`)).toEqual(['WRITE OK|']);
    expect(wire.all('READ', 'a|')).toEqual([`READ ${longest}`]);
  });

  it('keeps its order over many wrap-arounds, wherever its indexes begin', () => {
    const wire = own(3);
    for (const field of ['req_cons', 'req_prod', 'rsp_cons', 'rsp_prod'] as const) wire.guest.set(field, 0xfffffe01);
    for (let i = 0; i < 200; i++) expect(wire.all('WRITE', `a|${'x'.repeat(i)}`)).toEqual(['WRITE OK|']);
    expect(wire.all('READ', 'a|')).toEqual([`READ ${'x'.repeat(199)}`]);
  });

  it('is read while the server wants input, and not further: a domain that never takes its replies', () => {
    const wire = own(3);
    const request = encode(TYPES.READ as number, bytes('a|'), 1);
    let sent = 0;
    for (let i = 0; i < 200; i++) {
      wire.guest.raw(request);
      wire.settle();
      if (wire.guest.push() > 0) break;
      sent++;
    }
    expect(sent).toBeLessThan(150);
    // Replies fill the ring, the quota's worth of requests waits, and the rest stays in the domain's own page.
    expect(server.domains.get(3)?.outstanding).toBeLessThanOrEqual(20 + 1024 / 20);
    expect(local.ask('WRITE', '/x|y')).toBe('OK|');
    // Once it takes them, all are answered.
    let answers = 0;
    for (let idle = 0; idle < 3; ) {
      const count = wire.guest.take().length;
      answers += count;
      idle = count === 0 && wire.guest.push() === 0 ? idle + 1 : 0;
      wire.settle();
    }
    expect(answers).toBe(sent + 1);
    expect(server.domains.get(3)?.outstanding).toBe(0);
  });

  it('leaves a request that is not whole in the page, and waits without turning in circles', () => {
    const wire = own(3);
    const request = encode(TYPES.WRITE as number, bytes('a|hello'), 1);
    wire.guest.raw(request);
    wire.guest.raw(request.subarray(0, 20));
    expect(wire.settle()).toBeLessThan(10);
    expect(wire.guest.get('req_cons')).toBe(request.length);
    wire.guest.raw(request.subarray(20));
    wire.settle();
    expect(wire.guest.take().map(show)).toEqual(['WRITE OK|', 'WRITE OK|']);
    expect(wire.guest.get('req_cons')).toBe(2 * request.length);
  });

  it('takes the beginning of a request that the page cannot hold', () => {
    const wire = own(3);
    const request = encode(TYPES.WRITE as number, bytes(`a|${'x'.repeat(1500)}`), 1);
    wire.guest.raw(request.subarray(0, 100));
    wire.settle();
    expect(wire.guest.get('req_cons')).toBe(100);
    for (let at = 100; at < request.length; at += 7) {
      wire.guest.raw(request.subarray(at, at + 7));
      wire.settle();
    }
    expect(wire.guest.take().map(show)).toEqual(['WRITE OK|']);
  });

  it('goes on under the next daemon with what the last has not served', () => {
    const wire = own(3);
    const request = encode(TYPES.WRITE as number, bytes('a|hello'), 1);
    wire.guest.raw(request.subarray(0, 20));
    wire.settle();
    server.domains.get(3)?.connection?.close(); // as if killed
    const next = new StoreRing(server, wire.page, { notify() {}, due() {}, more() {}, closed() {} }, 3);
    wire.guest.raw(request.subarray(20));
    next.receive();
    next.flush();
    expect(wire.guest.take().map(show)).toEqual(['WRITE OK|']);
  });

  it('offers what the server has, or what SET_FEATURE left, and again after the page was wiped', () => {
    expect(own(3).guest.get('server_features')).toBe(server.features);
    expect(local.ask('SET_FEATURE', '4|1|')).toBe('OK|');
    const wire = own(4);
    expect(wire.guest.get('server_features')).toBe(1);
    wire.page.fill(0);
    expect(wire.all('READ', 'a|')).toEqual(['ERROR ENOENT|']);
    expect(wire.guest.get('server_features')).toBe(1);
  });
});

describe('a domain that breaks its ring', () => {
  const accounts = (domid: number) => {
    const domain = server.domains.get(domid);
    return [domain?.watches, domain?.transactions, domain?.outstanding];
  };

  it.each([
    ['req_prod', 1025],
    ['req_prod', 0x80000000],
    ['req_cons', 1],
  ] as const)('with %s %i is told so, and loses what it had', (field, value) => {
    const wire = own(3);
    wire.all('WATCH', 'a|t|');
    wire.all('TRANSACTION_START', '|');
    for (const each of ['req_cons', 'req_prod'] as const) wire.guest.set(each, 0);
    wire.guest.set(field, value);
    wire.guest.notify();
    wire.settle();
    expect(wire.guest.get('error')).toBe(RINGIDX);
    expect(wire.ring.isIgnored).toBe(true);
    expect(accounts(3)).toEqual([0, 0, 0]);
    expect(server.check()).toEqual([]);
  });

  it('in the direction it reads is found when something is to be sent', () => {
    const wire = own(3);
    wire.all('WATCH', 'a|t|');
    wire.guest.set('rsp_cons', wire.guest.get('rsp_prod') + 5);
    local.ask('WRITE', '/local/domain/3/a|x');
    wire.settle();
    expect(wire.guest.get('error')).toBe(RINGIDX);
    expect(accounts(3)).toEqual([0, 0, 0]);
  });

  it('is ignored, whatever it writes, until it reconnects', () => {
    const wire = own(3);
    wire.guest.set('req_prod', 5000);
    wire.guest.notify();
    wire.settle();
    const rings = wire.rings;
    wire.guest.set('req_cons', 0);
    wire.guest.set('req_prod', 0);
    wire.guest.send('READ', 'a|');
    wire.settle();
    expect([wire.guest.take(), wire.rings]).toEqual([[], rings]);
    wire.guest.set('connection', 1);
    wire.guest.notify();
    wire.settle();
    expect(['connection', 'error', 'req_prod', 'req_cons', 'rsp_prod'].map((f) => wire.guest.get(f as never))).toEqual([
      0, 0, 0, 0, 0,
    ]);
    expect(wire.rings).toBe(rings + 1);
    expect(wire.all('WRITE', 'a|x')).toEqual(['WRITE OK|']);
  });

  it('with a message no buffer holds is told so', () => {
    const wire = own(3);
    const header = encode(2, new Uint8Array(0));
    new DataView(header.buffer).setUint32(12, 4097, true);
    wire.guest.raw(header);
    wire.settle();
    expect(wire.guest.get('error')).toBe(PROTO);
    expect(wire.ring.isIgnored).toBe(true);
    expect(wire.closed).toBe(false);
  });

  it('is told nothing where it may not know of the error word', () => {
    local.ask('SET_FEATURE', '3|1|');
    const wire = own(3);
    wire.guest.set('req_prod', 5000);
    wire.guest.notify();
    wire.settle();
    expect([wire.guest.get('error'), wire.ring.isIgnored]).toEqual([0, true]);
  });
});

describe('reconnecting', () => {
  const reconnect = (wire: Wire) => {
    wire.guest.set('connection', 1);
    wire.guest.notify();
    wire.settle();
  };

  it('drops watches, transactions, half a request and unread replies', () => {
    const wire = own(3);
    wire.all('WATCH', 'a|t|');
    const tx = Number.parseInt(wire.all('TRANSACTION_START', '|')[0]?.split(' ')[1] ?? '', 10);
    expect(tx).toBeGreaterThan(0);
    wire.guest.send('READ', 'a|');
    wire.settle(); // its reply stays in the ring
    wire.guest.raw(encode(TYPES.WRITE as number, bytes('a|hello')).subarray(0, 20));
    wire.settle();
    reconnect(wire);
    expect(wire.guest.take()).toEqual([]);
    expect(wire.all('READ', 'a|', tx)).toEqual(['ERROR ENOENT|']);
    local.ask('WRITE', '/local/domain/3/a|x');
    wire.settle();
    expect(wire.guest.take()).toEqual([]);
    expect(wire.all('READ', 'a|')).toEqual(['READ x']);
    expect(server.connections.size).toBe(2);
  });

  it('is not to be had where it is not offered', () => {
    local.ask('SET_FEATURE', '3|0|');
    const wire = own(3);
    reconnect(wire);
    expect(wire.guest.get('connection')).toBe(1);
    expect(wire.all('READ', 'a|')).toEqual(['ERROR ENOENT|']);
  });

  it('happens as often as it is asked for', () => {
    const wire = own(3);
    for (let i = 0; i < 50; i++) {
      wire.all('WATCH', 'a|t|');
      reconnect(wire);
    }
    expect([server.connections.size, server.domains.get(3)?.watches]).toEqual([2, 0]);
  });
});

describe('the end', () => {
  it('comes with the release of the domain: the page is not touched any more', () => {
    const wire = own(3);
    server.introduce(3, 1, 1);
    wire.all('WATCH', 'a|t|');
    server.domainGone(3);
    expect(wire.closed).toBe(true);
    const before = wire.page.slice();
    wire.guest.notify();
    wire.settle();
    wire.ring.reset();
    expect(wire.page).toEqual(before);
    expect(server.connections.size).toBe(1);
  });

  it('gives everything back', () => {
    const wire = own(3);
    wire.all('WATCH', 'a|t|');
    wire.all('TRANSACTION_START', '|');
    wire.ring.close();
    expect([server.connections.size, server.domains.get(3)?.watches, server.domains.get(3)?.transactions]).toEqual([
      1, 0, 0,
    ]);
  });
});
