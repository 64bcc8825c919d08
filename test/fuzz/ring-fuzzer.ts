/**
 * A domain that writes whatever it likes into its ring page, beside one that keeps to the rules. Nothing of the second may
 * show up in the page of the first, the second goes on being served, and when the first is gone nothing of it is left.
 */
import { XENSTORE_RING } from '../../dist/abi/xs-wire.js';
import { StoreRing } from '../../dist/xenstore/ring.js';
import { XenstoreServer } from '../../dist/xenstore/server.js';
import { RingGuest } from '../support/ring-guest.js';
import { bytes, Client, encode, show } from '../unit/xenstore/harness.js';
import { type Fuzzer, FuzzFailure, iterate } from './fuzzer.js';
import type { Random } from './random.js';
import { Random as Seeded } from './random.js';

const ATTACKER = 1;
const VICTIM = 2;
/** In values and names that only the victim and dom0 may read. */
const SECRET = 'q7Zk-secret-Xw29';
const WORLD_LIFETIME = 400;
const WORDS = Object.entries(XENSTORE_RING)
  .filter(([name]) => name !== 'req' && name !== 'rsp')
  .map(([, at]) => at);
const PATHS = [
  'a',
  'data/x',
  '/',
  `/local/domain/${VICTIM}`,
  `/local/domain/${VICTIM}/s`,
  '/shared',
  '@releaseDomain',
  '',
];

/** A domain's page and both ends of its ring; what is due is done by `settle`. */
class Ringed {
  readonly page = new Uint8Array(4096);
  readonly guest: RingGuest;
  readonly ring: StoreRing;
  private readonly pending = new Set<'receive' | 'flush'>();
  closed = false;

  constructor(server: XenstoreServer, domid: number) {
    this.guest = new RingGuest(this.page, () => this.pending.add('receive'));
    const host = {
      notify: () => {},
      due: () => void this.pending.add('flush'),
      more: () => void this.pending.add('receive'),
      closed: () => {
        this.closed = true;
      },
    };
    this.ring = new StoreRing(server, this.page, host, domid);
  }

  /** A few rounds: an attacker can always have more to say. */
  settle(): void {
    for (let round = 0; round < 8 && this.pending.size > 0; round++) {
      if (this.pending.delete('receive')) this.ring.receive();
      if (this.pending.delete('flush')) this.ring.flush();
    }
  }
}

class World {
  private time = 0;
  readonly server = new XenstoreServer({ now: () => this.time }, { hashSeed: 5, allowRestrict: true });
  readonly local = new Client(this.server, { domid: 0 });
  readonly attacker: Ringed;
  readonly victim: Ringed;
  private answered = 0;

  constructor() {
    for (const domid of [ATTACKER, VICTIM]) {
      const home = `/local/domain/${domid}`;
      for (const path of [home, `${home}/s`]) {
        this.local.ask('WRITE', `${path}|${domid === VICTIM ? SECRET : ''}`);
        this.local.ask('SET_PERMS', `${path}|n${domid}|`);
      }
    }
    this.local.ask('WRITE', '/secret|x');
    this.local.ask('SET_PERMS', '/secret|n0|');
    this.attacker = new Ringed(this.server, ATTACKER);
    this.victim = new Ringed(this.server, VICTIM);
  }

  step(random: Random): void {
    const { attacker, victim, local } = this;
    const kind = random.below(12);
    if (kind < 5) attacker.guest.raw(request(random));
    else if (kind < 6) attacker.guest.take();
    else if (kind < 7) attacker.page[random.below(4096)] = random.bits();
    else if (kind < 9) new DataView(attacker.page.buffer).setUint32(random.pick(WORDS), wordOf(random), true);
    else if (kind < 10) attacker.page.set(random.bytes(random.below(64)), random.below(2048));
    else if (kind < 11) this.reconnect();
    else local.ask('WRITE', `${random.pick(PATHS) || 'x'}|${SECRET}`);
    attacker.guest.notify();
    attacker.settle();
    victim.settle();
    this.time += random.below(500);
    this.server.tick();
    if (random.oneIn(8)) this.serveVictim(random);
    local.take();
    this.checkPage();
  }

  /** @throws FuzzFailure */
  check(): void {
    this.checkPage();
    const problems = this.server.check();
    if (problems.length > 0) throw new FuzzFailure(`the store: ${problems.join('; ')}`);
  }

  private checkPage(): void {
    if (Buffer.from(this.attacker.page).includes(SECRET)) throw new FuzzFailure("the victim's secret is in the page");
  }

  /** @throws FuzzFailure where something stays of the attacker */
  end(): void {
    this.server.introduce(ATTACKER, 1, 1);
    this.server.domainGone(ATTACKER);
    if (!this.attacker.closed && !this.attacker.ring.isIgnored)
      throw new FuzzFailure('the ring was not told of the end');
    this.attacker.ring.close();
    const before = this.attacker.page.slice();
    this.attacker.guest.notify();
    this.attacker.settle();
    if (!Buffer.from(before).equals(this.attacker.page)) throw new FuzzFailure('a page that is given back was written');
    this.serveVictim(undefined);
    this.victim.ring.close();
    this.local.connection.close();
    this.check();
    if (this.server.connections.size > 0) throw new FuzzFailure('connections are left');
    for (const domain of this.server.domains) {
      const { domid, watches, transactions, outstanding } = domain;
      if (watches + transactions + outstanding !== 0) {
        throw new FuzzFailure(
          `domain ${domid}: ${watches} watches, ${transactions} transactions, ${outstanding} requests`,
        );
      }
    }
  }

  private reconnect(): void {
    this.attacker.guest.set('connection', 1);
    this.attacker.guest.notify();
    this.attacker.settle();
  }

  /** The victim keeps to the rules, and so must its store. */
  private serveVictim(random: Random | undefined): void {
    const { guest } = this.victim;
    const turn = ++this.answered;
    if (random?.oneIn(3)) guest.send('WATCH', `s|${turn}|`, turn);
    else guest.send('READ', 's|', turn);
    for (let round = 0; round < 40; round++) {
      this.victim.settle();
      const reply = guest.take().find((message) => message.requestId === turn);
      if (reply === undefined) continue;
      const text = show(reply);
      if (text !== `READ ${SECRET}` && text !== 'WATCH OK|' && text !== 'ERROR E2BIG|') throw new FuzzFailure(text);
      return;
    }
    throw new FuzzFailure('the victim is not answered');
  }
}

function wordOf(random: Random): number {
  if (random.oneIn(3)) return random.below(3);
  return random.oneIn(2) ? random.below(2100) : random.bits();
}

function request(random: Random): Uint8Array {
  if (random.oneIn(12)) return random.bytes(random.below(40));
  const type = random.oneIn(10) ? random.bits() : random.oneIn(3) ? 2 : random.below(27);
  const path = random.pick(PATHS);
  const tail = random.pick(['', 'v|', 't|', 'r1|', `n${VICTIM}|`, 'T|', '0|', '|']);
  const payload = random.oneIn(15) ? random.bytes(random.below(3000)) : bytes(`${path}|${tail}`);
  const message = encode(type, payload, random.below(100), random.oneIn(3) ? random.below(6) : 0);
  if (random.oneIn(40)) new DataView(message.buffer).setUint32(12, random.bits(), true);
  return message;
}

/** @param sabotage breaks something in a new world, to see that it is found */
export function fuzzRing(seed: number, iterations: number, sabotage: (world: World) => void = () => {}): void {
  const random = new Seeded(seed);
  let world!: World;
  iterate('ring', seed, iterations, (i) => {
    if (i % WORLD_LIFETIME === 0) {
      world = new World();
      sabotage(world);
    }
    world.step(random);
    if (i % 50 === 49) world.check();
    if (i % WORLD_LIFETIME === WORLD_LIFETIME - 1 || i === iterations - 1) world.end();
  });
}

export const ringFuzzer: Fuzzer = { name: 'ring', smoke: 12_000, run: fuzzRing };
