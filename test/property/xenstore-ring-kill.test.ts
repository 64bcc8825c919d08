// A domain whose daemon is killed at any moment, again and again, and goes on from its journal: the domain notices nothing
// but that its open transactions end with EAGAIN. Every request is done once and answered once, every event comes once;
// and what a transaction has seen and written is there for it until its end.
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { SlicedDump } from '../../dist/xenstore/migration/dump.js';
import { JournalRecords } from '../../dist/xenstore/migration/journal.js';
import { Restorer } from '../../dist/xenstore/migration/restore.js';
import { StoreRing } from '../../dist/xenstore/ring.js';
import { XenstoreServer } from '../../dist/xenstore/server.js';
import { RingGuest } from '../support/ring-guest.js';
import { Client } from '../unit/xenstore/harness.js';

const DOMID = 3;
/** Of a snapshot, a round: it takes a few rounds. */
const SLICES = 3;
/** Where a daemon is killed: having served and not written, having written and not sent, or between two rounds. */
type Kill = 'served' | 'written' | 'between';

class Machine {
  readonly page = new Uint8Array(4096);
  readonly guest = new RingGuest(this.page, () => {});
  server: XenstoreServer;
  ring!: StoreRing;
  kills = 0;
  /** Of transactions. */
  again = 0;
  /** Snapshots that were finished after something had changed that they show. */
  late = 0;
  #journal!: JournalRecords;
  #snapshot = new Uint8Array(0);
  #frames: Uint8Array[] = [];
  /** The next snapshot, some slices a round, and the frames since it was begun. */
  #next!: { readonly dump: SlicedDump; readonly chunks: Uint8Array[]; readonly frames: Uint8Array[] };

  constructor() {
    this.server = this.#make();
    const tool = new Client(this.server, { domid: 0 });
    this.server.introduce(DOMID, 1, 1);
    tool.ask('MKDIR', `/local/domain/${DOMID}|`);
    tool.ask('SET_PERMS', `/local/domain/${DOMID}|n${DOMID}|`);
    tool.connection.close();
    this.#keep();
    while (this.#snapshot.length === 0) this.#slice();
  }

  #make(): XenstoreServer {
    const server: XenstoreServer = new XenstoreServer(
      {
        now: () => 0,
        introduce: (domid) => {
          const host = { notify: () => {}, due: () => {}, more: () => {}, closed: () => {} };
          this.ring = new StoreRing(server, this.page, host, domid);
          return null;
        },
      },
      { hashSeed: 1 },
    );
    return server;
  }

  /** Changes from now on, and a new snapshot. */
  #keep(): void {
    this.#journal = new JournalRecords(this.server);
    this.server.store.observer = this.#journal;
    this.#begin();
  }

  #begin(): void {
    this.#next = { dump: new SlicedDump(this.server, { extensions: true }), chunks: [], frames: [] };
  }

  #slice(): void {
    const { dump, chunks, frames } = this.#next;
    const { chunk, done } = dump.step(1);
    chunks.push(chunk.slice());
    if (!done) return;
    this.#snapshot = new Uint8Array(Buffer.concat(chunks));
    this.#frames = frames;
    if (frames.length > 0) this.late++;
    this.#begin();
  }

  #write(): void {
    if (this.#journal.length === 0) return;
    const frame = this.#journal.bytes().slice();
    this.#frames.push(frame);
    this.#next.frames.push(frame);
    this.#journal.clear();
  }

  /** One round of the daemon, in which it may be killed. */
  round(kill: Kill | null): void {
    this.guest.push();
    this.ring.receive();
    if (kill === 'served') return this.#kill();
    this.#write();
    if (kill === 'written') return this.#kill();
    this.ring.flush();
    for (let i = 0; i < SLICES; i++) this.#slice();
    if (kill === 'between') this.#kill();
  }

  #kill(): void {
    this.kills++;
    this.server = this.#make();
    const restorer = new Restorer(this.server);
    restorer.stream(this.#snapshot);
    for (const frame of this.#frames) restorer.frame(frame);
    restorer.finish();
    expect(this.server.check()).toEqual([]);
    this.#keep();
  }
}

interface Step {
  readonly op: 'watch' | 'write' | 'long' | 'start' | 'in' | 'out' | 'look' | 'remove' | 'end';
  readonly rounds: readonly (Kill | null)[];
  /** How many replies it waits for before it goes on. */
  readonly patience: number;
}

const step: fc.Arbitrary<Step> = fc.record({
  op: fc.constantFrom(
    'watch',
    'write',
    'write',
    'long',
    'start',
    'start',
    'in',
    'out',
    'look',
    'look',
    'remove',
    'end',
  ),
  rounds: fc.array(
    fc.oneof(
      { weight: 6, arbitrary: fc.constant<Kill | null>(null) },
      { weight: 1, arbitrary: fc.constantFrom<Kill>('served', 'written', 'between') },
    ),
    { maxLength: 5 },
  ),
  patience: fc.nat(3),
});

const ANY = /^(\d+|ENOENT\|)$/;

it('notices nothing of it', () => {
  let kills = 0;
  let again = 0;
  let late = 0;
  /** Looks of transactions that had looked or written before a kill. */
  let looks = 0;
  const property = fc.property(fc.array(step, { maxLength: 40, size: 'max' }), (steps) => {
    const machine = new Machine();
    const { guest } = machine;
    const expected: { id: number; what: RegExp }[] = [];
    const events: string[] = [];
    const wanted: string[] = [];
    let id = 1;
    let tx = 0;
    let txKills = 0;
    /** What the open transaction sees at `x`; not known before it has looked. */
    let seen: string | null = null;
    let seenKills = 0;
    const ask = (type: string, payload: string, what: RegExp, transaction = 0): void => {
      expected.push({ id, what });
      guest.send(type, payload, id++, transaction);
    };
    const take = (): void => {
      for (const { type, requestId, payload } of guest.take()) {
        if (type === 'WATCH_EVENT') {
          events.push(payload);
          continue;
        }
        const next = expected.shift();
        expect({ requestId, payload }).toEqual({
          requestId: next?.id,
          payload: expect.stringMatching(next?.what ?? /^$/),
        });
        if (type === 'TRANSACTION_START') tx = Number.parseInt(payload, 10);
        if (next?.what === ANY) seen = payload;
      }
    };
    const settle = (): void => {
      for (let n = 0; expected.length > 0; n++) {
        expect(n, `replies to ${expected.map((e) => e.id).join()}`).toBeLessThan(200);
        machine.round(null);
        take();
      }
    };
    ask('WATCH', 'w|t|', /^OK/);
    wanted.push('w|t|');
    let watched = 0;
    let written = 0;
    for (const { op, rounds, patience } of steps) {
      if (op === 'watch') {
        // Done twice, each would fail.
        if (watched % 2 === 0) ask('WATCH', 'v|u|', /^OK\|$/);
        else ask('UNWATCH', 'v|u|', /^OK\|$/);
        if (watched++ % 2 === 0) wanted.push('v|u|');
      } else if (op === 'write' || op === 'long') {
        const name = `w/${written++}`;
        ask('WRITE', `${name}|${op === 'long' ? '.'.repeat(1500) : ''}`, /^OK\|$/);
        wanted.push(`${name}|t|`);
      } else if (op === 'start' && tx === 0) {
        ask('TRANSACTION_START', '|', /^\d+\|$/);
        settle();
        txKills = machine.kills;
        seen = null;
      } else if (op === 'in' && tx > 0) {
        seen = String(id);
        ask('WRITE', `x|${seen}`, /^OK\|$/, tx);
        seenKills = machine.kills;
      } else if (op === 'out') {
        ask('WRITE', `x|${id}`, /^OK\|$/);
      } else if (op === 'look' && tx > 0) {
        if (seen === null) {
          ask('READ', 'x|', ANY, tx);
          settle();
          seenKills = machine.kills;
        } else {
          ask('READ', 'x|', seen === 'ENOENT|' ? /^ENOENT\|$/ : new RegExp(`^${seen}$`), tx);
          if (machine.kills > seenKills) looks++;
        }
      } else if (op === 'remove' && tx > 0 && seen !== null) {
        ask('RM', 'x|', /^OK\|$/, tx);
        seen = 'ENOENT|';
        seenKills = machine.kills;
      } else if (op === 'end' && tx > 0) {
        settle();
        const before = machine.kills > txKills;
        ask('TRANSACTION_END', 'T|', before ? /^EAGAIN\|$/ : /^(OK|EAGAIN)\|$/, tx);
        if (before) again++;
        tx = 0;
      }
      for (const kill of rounds) machine.round(kill);
      if (patience > 0) take();
      if (patience > 2) settle();
    }
    settle();
    for (let n = 0; n < 20; n++) {
      machine.round(null);
      take();
    }
    // A watch set again while its first event still waits: the two are the same, and the server sends one.
    const isAgain = (event: string): boolean => event === 'v|u|';
    expect(events.filter((event) => !isAgain(event)).sort()).toEqual(wanted.filter((event) => !isAgain(event)).sort());
    expect(events.filter(isAgain).length).toBeLessThanOrEqual(wanted.filter(isAgain).length);
    expect(events.some(isAgain)).toBe(wanted.some(isAgain));
    expect(machine.server.domains.get(DOMID)?.watches).toBe(1 + (watched % 2));
    const names = [...machine.server.store.table].filter((node) => node.death === 0).length;
    expect(names).toBeGreaterThanOrEqual(written);
    kills += machine.kills;
    late += machine.late;
  });
  fc.assert(property, { numRuns: 300 });
  expect(kills).toBeGreaterThan(500);
  expect(late).toBeGreaterThan(30);
  expect(again).toBeGreaterThan(3);
  expect(looks).toBeGreaterThan(3);
});

it('has nothing of a transaction in another one of the same number, after the ring has begun anew', () => {
  const machine = new Machine();
  const { guest } = machine;
  const round = (kill: Kill | null = null): string[] => {
    machine.round(kill);
    return guest.take().map(({ payload }) => payload);
  };
  guest.send('TRANSACTION_START', '|');
  expect(round()).toEqual(['1|']);
  guest.send('WRITE', 'x|old', 0, 1);
  guest.send('WRITE', 'y|old', 0, 1);
  expect(round()).toEqual(['OK|', 'OK|']);
  machine.ring.reset();
  guest.send('TRANSACTION_START', '|');
  guest.send('READ', 'x|', 0, 1);
  expect(round('between')).toEqual(['1|', 'ENOENT|']);
  for (const name of ['x', 'y']) guest.send('READ', `${name}|`, 0, 1);
  guest.send('TRANSACTION_END', 'T|', 0, 1);
  expect(round()).toEqual(['ENOENT|', 'ENOENT|', 'EAGAIN|']);
});
