import { expect, it } from 'vitest';
import { XS_READ, XS_WRITE } from '../../../dist/abi/xs-wire.js';
import type { Reactor } from '../../../dist/host/reactor.js';
import { XenstoreService } from '../../../dist/host/xenstore-service.js';
import type { Observer } from '../../../dist/xenstore/observer.js';
import { XenstoreServer } from '../../../dist/xenstore/server.js';

/** A clock that is moved by hand, and what has been asked of it. */
class World {
  deadline: number | null = null;
  ticks = 0;
  timers: { ms: number; run: () => void; cancelled: boolean }[] = [];
  readonly events: string[] = [];
  readonly service: XenstoreService;

  constructor() {
    const reactor = {
      after: (ms: number, run: () => void) => {
        const timer = { ms, run, cancelled: false };
        this.timers.push(timer);
        return () => {
          timer.cancelled = true;
        };
      },
    };
    const server = {
      enter() {},
      leave() {},
      nextDeadlineMs: () => this.deadline,
      tick: () => {
        this.ticks++;
        this.deadline = null;
      },
    };
    this.service = new XenstoreService(reactor as unknown as Reactor, server as unknown as XenstoreServer, {
      beforeReplies: () => this.events.push('kept'),
    });
  }

  client(name: string, flush: () => void = () => {}): { flush(): void } {
    return {
      flush: () => {
        this.events.push(name);
        flush();
      },
    };
  }

  get pending(): number {
    return this.timers.filter((timer) => !timer.cancelled).length;
  }
}

it('sends replies in the order in which they became due, after what they acknowledge has been kept', () => {
  const w = new World();
  w.service.due(w.client('a'));
  w.service.due(w.client('b'));
  expect(w.events).toEqual([]);
  w.service.settle();
  w.service.settle();
  expect(w.events).toEqual(['kept', 'a', 'b', 'kept']);
});

it('who becomes due while others are sent to is sent to as well; who has gone is not', () => {
  const w = new World();
  const gone = w.client('gone');
  const late = w.client('late');
  w.service.due(
    w.client('first', () => {
      w.service.forget(gone);
      w.service.due(late);
    }),
  );
  w.service.due(gone);
  w.service.settle();
  expect(w.events).toEqual(['kept', 'first', 'late']);
});

it('keeps one timer, for the earliest deadline', () => {
  const w = new World();
  const now = performance.now();
  w.deadline = now + 1000;
  w.service.settle();
  w.deadline = now + 5000; // later: the timer may come early
  w.service.settle();
  expect(w.timers).toHaveLength(1);
  w.deadline = now + 100;
  w.service.settle();
  expect([w.timers.length, w.pending]).toEqual([2, 1]);
  w.timers[1]?.run();
  expect(w.ticks).toBe(1);
  w.timers[1]!.cancelled = true; // it has run
  w.deadline = now + 9000;
  w.service.settle();
  expect(w.pending).toBe(1);
  w.service.close();
  expect(w.pending).toBe(0);
});

it('a request that waited for its client to take replies is kept before its own reply leaves', () => {
  const events: string[] = [];
  const server = new XenstoreServer({ now: () => 0 }, { hashSeed: 1 });
  const reactor = { after: () => () => {} } as unknown as Reactor;
  const service = new XenstoreService(reactor, server, { beforeReplies: () => events.push('kept') });
  const note = () => {};
  server.store.observer = new Proxy({} as Observer, {
    get: (_, name) => (name === 'nodeChanged' ? () => events.push('changed') : note),
  });
  const sink = { ready: () => service.due(client), closed: note };
  const connection = server.connect({ domid: 0, kind: 'socket', sink });
  const client = {
    flush: () => {
      for (let bytes = connection.output(); bytes.length > 0; bytes = connection.output()) {
        const types = messageTypes(bytes);
        if (types.includes(XS_WRITE)) events.push('sent');
        connection.sent(bytes.length);
      }
    },
  };
  connection.receive(request(XS_WRITE, `/x\0${'v'.repeat(4000)}`));
  service.settle();
  expect(events.splice(0)).toEqual(['changed', 'kept', 'sent']);
  const reads = Array.from({ length: 100 }, () => request(XS_READ, '/x\0'));
  connection.receive(Buffer.concat([...reads, request(XS_WRITE, '/x\0new')]));
  expect(connection.wantsInput).toBe(false); // too much is waiting to be sent
  expect(events).toEqual([]);
  service.settle();
  expect(events).toEqual(['kept', 'changed', 'kept', 'sent']);
});

function request(type: number, payload: string): Buffer {
  const header = Buffer.alloc(16);
  header.writeUInt32LE(type, 0);
  header.writeUInt32LE(payload.length, 12);
  return Buffer.concat([header, Buffer.from(payload, 'latin1')]);
}

function messageTypes(bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const types: number[] = [];
  for (let at = 0; at < bytes.length; at += 16 + view.getUint32(at + 12, true)) types.push(view.getUint32(at, true));
  return types;
}
