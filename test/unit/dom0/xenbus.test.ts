/**
 * The xenbus driver: many files over one ring. First against a daemon that is written out here, reply by reply, then
 * against the real server, where what one file does must not reach another.
 */
import { beforeEach, describe, expect, it } from 'vitest';
import { RingPage } from '../../../dist/boundary/byte-ring.js';
import { Dom0Kernel } from '../../../dist/dom0/kernel.js';
import { Xenbus } from '../../../dist/dom0/xenbus.js';
import type { XenbusFile } from '../../../dist/dom0/xenbus-file.js';
import { StoreRing } from '../../../dist/xenstore/ring.js';
import { XenstoreServer } from '../../../dist/xenstore/server.js';
import { FakeHypercalls } from '../../support/fake-hypercalls.js';
import { bytes, Client, decode, encode, type Message, show, TYPES } from '../xenstore/harness.js';

const PORT = 2;

/** The event channel between the driver and whoever plays the daemon. */
class Channel {
  readonly page = new Uint8Array(4096);
  readonly ring = new RingPage(this.page);
  /** Times the driver has rung. */
  rung = 0;
  onRing: () => void = () => {};
  private readonly waiting: (() => void)[] = [];
  readonly bus: Xenbus;

  constructor() {
    const events = {
      allocUnbound: (domid: number, port = 0) => {
        expect(domid).toBe(0);
        return port;
      },
      send: (port: number) => {
        expect(port).toBe(PORT);
        this.rung++;
        this.onRing();
      },
      acknowledge() {},
      unmask() {},
    };
    this.bus = new Xenbus(events as never, this.page, PORT, (run) => this.waiting.push(run));
  }

  /** What the driver has put off. */
  runLater(): void {
    for (const run of this.waiting.splice(0)) run();
  }
}

/** A program with the device open. */
class Program {
  readonly file: XenbusFile;
  failed: string | undefined;
  private received = new Uint8Array(0);
  private written = new Uint8Array(0);

  constructor(
    bus: Xenbus,
    private readonly settle: () => void,
  ) {
    this.file = bus.open({
      ready: () => {},
      failed: (reason) => {
        this.failed = reason;
      },
    });
  }

  raw(data: Uint8Array): void {
    this.written = join(this.written, data);
    this.push();
  }

  send(type: string, payload = '', id = 0, tx = 0): void {
    this.raw(encode(TYPES[type] ?? Number(type), bytes(payload), id, tx));
  }

  /** Writes what the device takes. */
  push(): void {
    for (let room = this.file.room; room > 0 && this.written.length > 0; room = this.file.room) {
      const part = this.written.slice(0, room);
      this.written = this.written.slice(room);
      this.file.write(part);
    }
  }

  get unwritten(): number {
    return this.written.length;
  }

  take(): Message[] {
    for (let data = this.file.readable; data.length > 0; data = this.file.readable) {
      this.received = join(this.received, data);
      this.file.taken(data.length);
    }
    const messages = decode(this.received);
    this.received = new Uint8Array(0);
    return messages;
  }

  all(type: string, payload = '', tx = 0): string[] {
    this.send(type, payload, 9, tx);
    const lines: string[] = [];
    for (let more = true; more; ) {
      this.settle();
      this.push();
      const messages = this.take();
      lines.push(...messages.map(show));
      more = messages.length > 0;
    }
    return lines;
  }

  begin(): number {
    return Number.parseInt(this.all('TRANSACTION_START', '|')[0]?.split(' ')[1] ?? 'NaN', 10);
  }
}

function join(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(a.length + b.length);
  all.set(a);
  all.set(b, a.length);
  return all;
}

describe('with a daemon that says what it is told to', () => {
  let channel: Channel;
  beforeEach(() => {
    channel = new Channel();
  });
  const open = () => new Program(channel.bus, () => {});

  /** What has come to the daemon. */
  const asked = (): Message[] => {
    let all = new Uint8Array(0);
    const chunk = new Uint8Array(1024);
    for (let count = channel.ring.requests.read(chunk); count > 0; count = channel.ring.requests.read(chunk)) {
      all = join(all, chunk.subarray(0, count));
      channel.bus.upcall();
    }
    return decode(all);
  };
  const say = (type: string, payload: string, id = 0, tx = 0): void => {
    const data = encode(TYPES[type] as number, bytes(payload), id, tx);
    for (let at = 0; at < data.length; ) {
      at += channel.ring.replies.write(data.subarray(at));
      channel.bus.upcall();
    }
  };

  it('sends requests under ids of its own and gives replies back under those of the programs', () => {
    const [one, two] = [open(), open()];
    one.send('READ', 'a|', 7);
    two.send('READ', 'b|', 7);
    const [first, second] = asked() as [Message, Message];
    expect([first.payload, second.payload]).toEqual(['a|', 'b|']);
    expect(first.requestId).not.toBe(second.requestId);
    say('READ', 'for two', second.requestId);
    say('READ', 'for one', first.requestId);
    expect(one.take()).toEqual([{ type: 'READ', requestId: 7, transactionId: 0, payload: 'for one' }]);
    expect(two.take()).toEqual([{ type: 'READ', requestId: 7, transactionId: 0, payload: 'for two' }]);
    expect(channel.bus.counts).toEqual({ waiting: 0, watches: 0 });
  });

  it('drops a reply that nobody waits for, and one that comes twice', () => {
    const program = open();
    program.send('READ', 'a|', 7);
    const [{ requestId }] = asked() as [Message];
    say('READ', 'no', requestId + 5);
    say('READ', 'yes', requestId);
    say('READ', 'again', requestId);
    expect(program.take().map(show)).toEqual(['READ yes']);
  });

  it('sets watches under tokens of its own, and drops events of others', () => {
    const program = open();
    program.send('WATCH', 'a|mine|');
    const [watch] = asked() as [Message];
    const token = watch.payload.split('|')[1] as string;
    expect(token).toMatch(/^[0-9A-F]+$/);
    say('WATCH', 'OK|', watch.requestId);
    say('WATCH_EVENT', `a/b|${token}|`);
    say('WATCH_EVENT', 'a/b|mine|');
    say('WATCH_EVENT', `a/b|${token}|more|`);
    say('WATCH_EVENT', token);
    say('WATCH_EVENT', '');
    expect(program.take().map(show)).toEqual(['WATCH OK|', 'WATCH_EVENT a/b|mine|']);
  });

  it('lets nothing of a file past a watch that is being set', () => {
    const program = open();
    program.send('WATCH', 'a|t|', 1);
    program.send('READ', 'a|', 2);
    const [watch, ...rest] = asked();
    expect(rest).toEqual([]);
    expect(program.file.room).toBe(0);
    say('WATCH', 'OK|', watch?.requestId);
    program.push();
    expect(asked().map(show)).toEqual(['READ a|']);
  });

  it('says what the daemon says to a watch, and forgets it', () => {
    const program = open();
    program.send('WATCH', 'a|t|');
    say('ERROR', 'E2BIG|', asked()[0]?.requestId);
    expect(program.take().map(show)).toEqual(['ERROR E2BIG|']);
    expect([program.file.nrWatches, channel.bus.counts.watches]).toEqual([0, 0]);
  });

  it('ends what a file leaves behind, once nothing of it is on its way', () => {
    const program = open();
    program.send('WATCH', 'a|t|');
    say('WATCH', 'OK|', asked()[0]?.requestId);
    program.send('TRANSACTION_START', '|');
    const [start] = asked() as [Message];
    program.file.release();
    expect(asked()).toEqual([]);
    say('TRANSACTION_START', '77|', start.requestId);
    const left = asked();
    expect(
      left.map(({ type, payload, transactionId }) => [type, payload.replace(/\|[0-9A-F]+\|$/, ''), transactionId]),
    ).toEqual([
      ['TRANSACTION_END', 'F|', 77],
      ['UNWATCH', 'a', 0],
    ]);
    for (const { type, requestId } of left) say(type, 'OK|', requestId);
    expect(channel.bus.counts).toEqual({ waiting: 0, watches: 0 });
  });

  it('goes on with a ring whose indexes make no sense: what it was sending fails, the next goes through', () => {
    const program = open();
    const view = new DataView(channel.page.buffer);
    view.setUint32(2052, 5000, true);
    program.send('READ', 'a|', 3);
    expect(program.take().map(show)).toEqual(['ERROR EIO|']);
    expect([view.getUint32(2048, true), view.getUint32(2052, true)]).toEqual([0, 0]);
    view.setUint32(2060, 5000, true);
    channel.bus.upcall();
    expect(view.getUint32(2060, true)).toBe(0);
    program.send('READ', 'b|', 4);
    say('READ', 'x', asked()[0]?.requestId);
    expect(program.take().map(show)).toEqual(['READ x']);
  });

  it('forgets half a reply when the indexes break in the middle of it', () => {
    const program = open();
    program.send('WRITE', 'a|', 3);
    const [{ requestId }] = asked() as [Message];
    channel.ring.replies.write(encode(TYPES.READ as number, new Uint8Array(500), requestId).subarray(0, 300));
    channel.bus.upcall();
    new DataView(channel.page.buffer).setUint32(2060, 5000, true);
    channel.bus.upcall();
    say('WRITE', '', requestId);
    expect(program.take().map(show)).toEqual(['WRITE']);
  });

  it('skips the header of a reply that is too long', () => {
    const program = open();
    program.send('READ', 'a|', 3);
    const [{ requestId }] = asked() as [Message];
    const header = encode(2, new Uint8Array(0), requestId);
    new DataView(header.buffer).setUint32(12, 4097, true);
    channel.ring.replies.write(header);
    channel.bus.upcall();
    say('READ', 'x', requestId);
    expect(program.take().map(show)).toEqual(['READ x']);
  });

  it('takes only so much of a daemon that never stops at a stretch', () => {
    const flood = encode(TYPES.READ as number, new Uint8Array(0), 12345);
    channel.onRing = () => void channel.ring.replies.write(flood);
    channel.ring.replies.write(flood);
    channel.bus.upcall();
    expect(channel.rung).toBeLessThan(20);
    const before = channel.rung;
    channel.runLater();
    expect(channel.rung).toBeGreaterThan(before);
  });

  it('stops taking requests of a file, and of all, while the daemon is away, and goes on when it is back', () => {
    const programs = Array.from({ length: 10 }, open);
    const request = encode(TYPES.READ as number, bytes('a|'.padStart(4000, 'a')));
    for (const program of programs) for (let i = 0; i < 40; i++) program.raw(request);
    const { waiting } = channel.bus.counts;
    expect(waiting).toBeLessThan((1 << 20) / request.length + 5);
    const held = programs.filter((program) => program.unwritten > 0);
    expect(held.length).toBeGreaterThanOrEqual(3);
    expect(held.every((program) => program.file.room === 0)).toBe(true);
    let answered = 0;
    for (let more = true; more; ) {
      const messages = asked();
      for (const { requestId } of messages) say('READ', '', requestId);
      for (const program of programs) {
        program.push();
        answered += program.take().length;
      }
      more = messages.length > 0;
    }
    expect(answered).toBe(10 * 40);
    expect(programs.every((program) => program.unwritten === 0)).toBe(true);
    expect(channel.bus.counts.waiting).toBe(0);
  });

  it('lets files that always have more to ask keep nobody waiting for long', () => {
    const request = encode(TYPES.READ as number, bytes('a|'.padStart(4000, 'a')));
    const greedy = Array.from({ length: 6 }, open);
    const ask = () => {
      for (const program of greedy) {
        program.push();
        while (program.unwritten < request.length) program.raw(request);
      }
    };
    ask();
    const patient = open();
    patient.send('READ', 'b|');
    // A daemon that takes its time: what it has taken of the ring is filled up again before it takes more.
    const chunk = new Uint8Array(1024);
    let taken = new Uint8Array(0);
    let served = 0;
    for (; served < 2000 && patient.file.readable.length === 0; channel.bus.upcall()) {
      for (const program of greedy) program.take();
      ask();
      patient.push();
      taken = join(taken, chunk.subarray(0, channel.ring.requests.read(chunk)));
      const header = new DataView(taken.buffer);
      if (taken.length < 16 || taken.length < 16 + header.getUint32(12, true)) continue;
      channel.ring.replies.write(encode(TYPES.READ as number, bytes(''), header.getUint32(4, true)));
      taken = taken.slice(16 + header.getUint32(12, true));
      served++;
    }
    expect(patient.take().map(show)).toEqual(['READ']);
    expect(served).toBeLessThan(1000);
  });
});

describe('with a server', () => {
  let server: XenstoreServer;
  let channel: Channel;
  let ring: StoreRing;
  let due: boolean;
  let more: boolean;
  let local: Client;

  beforeEach(() => {
    server = new XenstoreServer({ now: () => 0 }, { hashSeed: 1, allowRestrict: true });
    channel = new Channel();
    due = false;
    more = false;
    channel.onRing = () => {
      more = true;
    };
    const host = {
      notify: () => channel.bus.upcall(),
      due: () => {
        due = true;
      },
      more: () => {
        more = true;
      },
      closed: () => {},
    };
    ring = new StoreRing(server, channel.page, host, 0);
    local = new Client(server, { domid: 0 });
  });

  const settle = (): void => {
    while (due || more) {
      if (more) {
        more = false;
        ring.receive();
      }
      if (due) {
        due = false;
        ring.flush();
      }
      channel.runLater();
    }
  };
  const open = () => new Program(channel.bus, settle);

  it('reads, writes and watches', () => {
    const program = open();
    expect(program.all('WRITE', '/a|hello')).toEqual(['WRITE OK|']);
    expect(program.all('READ', '/a|')).toEqual(['READ hello']);
    expect(program.all('WATCH', '/a|t|')).toEqual(['WATCH OK|', 'WATCH_EVENT /a|t|']);
    local.ask('WRITE', '/a/b|x');
    settle();
    expect(program.take().map(show)).toEqual(['WATCH_EVENT /a/b|t|']);
    expect(program.all('UNWATCH', '/a|t|')).toEqual(['UNWATCH OK|']);
    local.ask('WRITE', '/a/b|x');
    settle();
    expect(program.take()).toEqual([]);
  });

  it('is the daemon of one client: watches of different files with the same path and token do not mix', () => {
    const [one, two] = [open(), open()];
    one.all('WATCH', '/a|t|');
    two.all('WATCH', '/a|t|');
    expect(one.all('UNWATCH', '/a|t|')).toEqual(['UNWATCH OK|']);
    local.ask('WRITE', '/a|x');
    settle();
    expect([one.take(), two.take().map(show)]).toEqual([[], ['WATCH_EVENT /a|t|']]);
    expect(server.connections.size).toBe(2);
  });

  it('knows each file its own transactions', () => {
    const [one, two] = [open(), open()];
    const tx = one.begin();
    expect(two.all('READ', '/tool|', tx)).toEqual(['ERROR ENOENT|']);
    expect(two.all('TRANSACTION_END', 'F|', tx)).toEqual(['ERROR ENOENT|']);
    expect(one.all('WRITE', '/a|x', tx)).toEqual(['WRITE OK|']);
    expect(one.all('TRANSACTION_END', 'x|', tx)).toEqual(['ERROR EINVAL|']);
    expect(one.all('TRANSACTION_END', 'T|', tx)).toEqual(['TRANSACTION_END OK|']);
    expect(one.all('TRANSACTION_END', 'T|', tx)).toEqual(['ERROR ENOENT|']);
    expect(two.all('READ', '/a|')).toEqual(['READ x']);
  });

  it('keeps the header of replies as the program sent it', () => {
    const program = open();
    const tx = program.begin();
    program.send('READ', '/none|', 1234, tx);
    settle();
    expect(program.take()).toEqual([{ type: 'ERROR', requestId: 1234, transactionId: tx, payload: 'ENOENT|' }]);
  });

  it.each([
    ['WATCH', 'a'],
    ['WATCH', 'a|t'],
    ['UNWATCH', ''],
    ['UNWATCH', 'a|t'],
  ])('%s of %j is EINVAL before it gets anywhere', (type, payload) => {
    expect(open().all(type, payload)).toEqual(['ERROR EINVAL|']);
    expect(server.requests[TYPES[type] as number]).toBe(0);
  });

  it('unwatches what is not watched with OK, as Linux does', () => {
    expect(open().all('UNWATCH', '/a|t|')).toEqual(['UNWATCH OK|']);
  });

  it('lets a file watch the same twice', () => {
    const program = open();
    program.all('WATCH', '/a|t|');
    expect(program.all('WATCH', '/a|t|')).toEqual(['WATCH OK|', 'WATCH_EVENT /a|t|']);
    local.ask('WRITE', '/a|x');
    settle();
    expect(program.take().map(show)).toEqual(['WATCH_EVENT /a|t|', 'WATCH_EVENT /a|t|']);
    program.all('UNWATCH', '/a|t|');
    expect([program.file.nrWatches, channel.bus.counts.watches]).toEqual([1, 1]);
  });

  it('forgets the third word of a watch, its depth', () => {
    expect(open().all('WATCH', '/tool|t|0|')).toEqual(['WATCH OK|', 'WATCH_EVENT /tool|t|']);
  });

  it.each([4081, 4096, 0xffffffff])('ends a file with a message of %i bytes, and no other', (length) => {
    const [one, two] = [open(), open()];
    const header = encode(TYPES.READ as number, new Uint8Array(0));
    new DataView(header.buffer).setUint32(12, length, true);
    one.raw(header);
    expect(one.failed).toContain(`${length}`);
    expect(one.file.room).toBe(0);
    expect(two.all('READ', '/tool|')).toEqual(['READ']);
  });

  it('takes the longest message there is', () => {
    expect(open().all('READ', `/${'x'.repeat(4078)}|`)).toEqual(['ERROR EINVAL|']);
  });

  it('takes messages in pieces of any size', () => {
    const program = open();
    const request = encode(TYPES.WRITE as number, bytes('/a|hello'), 5);
    for (const byte of request) program.raw(Uint8Array.of(byte));
    settle();
    expect(program.take().map(show)).toEqual(['WRITE OK|']);
    program.raw(join(join(request, request), request));
    settle();
    expect(program.take().map(show)).toEqual(['WRITE OK|', 'WRITE OK|', 'WRITE OK|']);
  });

  it('gives up a file that watches and never reads', () => {
    const program = open();
    program.all('WATCH', '/a|t|');
    const path = `/a/${'x'.repeat(2000)}`;
    for (let i = 0; i < 3000 && program.failed === undefined; i++) {
      local.ask('WRITE', `${path.slice(0, 2000 - (i % 7))}|`);
      settle();
    }
    expect(program.failed).toContain('unread');
    settle();
    expect([channel.bus.counts.watches, server.domains.get(0)?.watches]).toEqual([0, 0]);
  });

  it('leaves nothing in the server of files that are closed', () => {
    const programs = Array.from({ length: 20 }, open);
    for (const [i, program] of programs.entries()) {
      program.all('WATCH', `/${i}|t|`);
      program.begin();
      program.send('TRANSACTION_START', '|'); // still on its way when the file is closed
      program.send('WATCH', '/late|t|');
      program.file.release();
      program.file.release();
    }
    settle();
    expect(channel.bus.counts).toEqual({ waiting: 0, watches: 0 });
    const control = server.domains.get(0);
    expect([control?.watches, control?.transactions]).toEqual([0, 0]);
    expect(server.check()).toEqual([]);
  });

  it('passes RESTRICT on, which restricts everybody behind the ring', () => {
    local.ask('WRITE', '/secret|x');
    local.ask('MKDIR', '/local/domain/3|');
    const [one, two] = [open(), open()];
    expect(one.all('RESTRICT', '3|')).toEqual(['RESTRICT OK|']);
    expect(one.all('READ', '/secret|')).toEqual(['ERROR EACCES|']);
    expect(two.all('READ', '/secret|')).toEqual(['ERROR EACCES|']);
    expect(open().all('WRITE', '/new|x')).toEqual(['ERROR EACCES|']);
    expect(local.ask('READ', '/secret|')).toBe('x');
  });
});

describe('the kernel', () => {
  it('starts the driver once, at a port of its own, and gives it its events and nobody else', () => {
    const xen = new FakeHypercalls();
    const kernel = new Dom0Kernel(xen);
    const page = new Uint8Array(4096);
    const bus = kernel.startXenbus(page, () => {});
    expect(xen.events.log).toEqual(['allocUnbound 0', `unmask ${bus.port}`]);
    expect(() => kernel.startXenbus(page, () => {})).toThrow('started already');
    const program = new Program(bus, () => {});
    program.send('READ', 'a|', 3);
    new RingPage(page).replies.write(encode(TYPES.READ as number, bytes('x'), 1));
    kernel.upcall(bus.port + 1);
    expect(program.take()).toEqual([]);
    kernel.upcall(bus.port);
    expect(program.take().map(show)).toEqual(['READ x']);
    expect(xen.events.log).toContain(`acknowledge ${bus.port}`);
  });
});
