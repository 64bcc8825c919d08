/**
 * The xenbus driver between programs that write whatever they like and a daemon that may be another domain: what the
 * driver keeps is bounded, each program gets only what is its own, and an honest daemon leaves nothing behind.
 */
import { RingPage } from '../../dist/boundary/byte-ring.js';
import { Xenbus } from '../../dist/dom0/xenbus.js';
import type { XenbusFile } from '../../dist/dom0/xenbus-file.js';
import { bytes, encode } from '../unit/xenstore/harness.js';
import { type Fuzzer, FuzzFailure, iterate } from './fuzzer.js';
import { Random } from './random.js';

const WORLD_LIFETIME = 500;
const NR_PROGRAMS = 4;
/** More than any program could have waiting, with what the driver lets in for all of them. */
const MAX_WAITING = NR_PROGRAMS * 64 + 300;

interface Sent {
  readonly type: number;
  readonly id: number;
  readonly payload: Uint8Array;
}

class World {
  private readonly page = new Uint8Array(4096);
  private readonly ring = new RingPage(this.page);
  private readonly bus: Xenbus;
  private readonly later: (() => void)[] = [];
  private programs: { file: XenbusFile; name: number; failed: boolean }[] = [];
  private requests = new Uint8Array(0);
  private names = 0;

  constructor() {
    const events = { allocUnbound: () => 2, send() {}, acknowledge() {}, unmask() {} };
    this.bus = new Xenbus(events as never, this.page, 2, (run) => this.later.push(run));
    while (this.programs.length < NR_PROGRAMS) this.open();
  }

  step(random: Random): void {
    const at = random.below(this.programs.length);
    const program = this.programs[at] as (typeof this.programs)[number];
    const kind = random.below(10);
    if (program.failed || random.oneIn(60)) {
      program.file.release();
      this.programs.splice(at, 1);
      this.open();
    } else if (kind < 4) this.write(program.file, requestOf(random, program.name));
    else if (kind < 5) this.read(program.file, random);
    else if (kind < 8) this.answer(random);
    else if (kind < 9) this.page[random.below(2100)] = random.bits();
    else
      this.say(
        random.oneIn(2)
          ? random.bytes(random.below(80))
          : encode(random.below(30), random.bytes(random.below(60)), random.below(60)),
      );
    this.bus.upcall();
    for (const run of this.later.splice(0, 4)) run();
    const { waiting } = this.bus.counts;
    if (waiting > MAX_WAITING) throw new FuzzFailure(`${waiting} requests wait`);
  }

  /** All files are closed, and the daemon has come to its senses: everything is ended. @throws FuzzFailure */
  end(): void {
    for (const { file } of this.programs) file.release();
    this.page.fill(0);
    for (const prod of [2052, 2060]) this.page[prod + 3] = 1; // broken: whatever was half done is forgotten
    this.bus.upcall();
    this.page.fill(0);
    this.requests = new Uint8Array(0);
    for (let id = 0; id < 1 << 16 && this.bus.counts.waiting > 0; id++) {
      this.bus.upcall();
      this.say(encode(16, bytes('EIO|'), id));
      this.bus.upcall();
      this.take();
    }
    const { waiting, watches } = this.bus.counts;
    if (waiting + watches !== 0) throw new FuzzFailure(`${waiting} requests and ${watches} watches are left`);
  }

  private open(): void {
    const program = {
      name: this.names++ % 10,
      failed: false,
      file: this.bus.open({
        ready: () => {},
        failed: () => {
          program.failed = true;
        },
      }),
    };
    this.programs.push(program);
  }

  private write(file: XenbusFile, data: Uint8Array): void {
    const part = data.subarray(0, file.room);
    if (part.length > 0) file.write(part);
  }

  private read(file: XenbusFile, random: Random): void {
    for (let messages = random.below(20); messages > 0; messages--) {
      const data = file.readable;
      if (data.length === 0) return;
      file.taken(1 + random.below(data.length));
    }
  }

  /** The daemon answers one of the requests it has. */
  private answer(random: Random): void {
    const sent = this.take();
    for (const { type, id, payload } of sent) {
      if (random.oneIn(10)) continue;
      if (random.oneIn(6)) this.say(encode(16, bytes('EINVAL|'), id));
      else if (type === 6) this.say(encode(6, bytes(`${random.below(8)}|`), id));
      else if (type === 4) this.answerWatch(id, payload, random);
      else this.say(encode(type, payload, id));
    }
  }

  private answerWatch(id: number, payload: Uint8Array, random: Random): void {
    this.say(encode(4, bytes('OK|'), id));
    for (let events = random.below(4); events > 0; events--) this.say(encode(15, payload));
  }

  private take(): Sent[] {
    const chunk = new Uint8Array(1024);
    const count = Math.max(this.ring.requests.read(chunk), 0);
    const all = Buffer.concat([this.requests, chunk.subarray(0, count)]);
    const sent: Sent[] = [];
    let at = 0;
    while (all.length - at >= 16) {
      const length = all.readUInt32LE(at + 12);
      if (length > 4096) {
        this.requests = new Uint8Array(0); // garbled by the daemon itself
        return sent;
      }
      if (all.length - at < 16 + length) break;
      sent.push({
        type: all.readUInt32LE(at),
        id: all.readUInt32LE(at + 4),
        payload: all.subarray(at + 16, at + 16 + length),
      });
      at += 16 + length;
    }
    this.requests = Uint8Array.from(all.subarray(at));
    return sent;
  }

  private say(data: Uint8Array): void {
    for (let at = 0; at < data.length; ) {
      const count = this.ring.replies.write(data.subarray(at));
      if (count <= 0) return;
      at += count;
      this.bus.upcall();
    }
  }
}

function requestOf(random: Random, name: number): Uint8Array {
  if (random.oneIn(15)) return random.bytes(random.below(64));
  const type = random.pick([2, 2, 4, 4, 5, 6, 7, 11, 20, random.bits()]);
  const payload = type === 7 ? random.pick(['T|', 'F|', 'x']) : `/${name}/${random.below(4)}|t${random.below(3)}|`;
  const message = encode(type, bytes(payload), random.bits(), random.oneIn(3) ? random.below(8) : 0);
  if (random.oneIn(50)) new DataView(message.buffer).setUint32(12, random.bits(), true);
  return message;
}

function fuzzXenbus(seed: number, iterations: number): void {
  const random = new Random(seed);
  let world!: World;
  iterate('xenbus', seed, iterations, (i) => {
    if (i % WORLD_LIFETIME === 0) world = new World();
    world.step(random);
    if (i % WORLD_LIFETIME === WORLD_LIFETIME - 1 || i === iterations - 1) world.end();
  });
}

export const xenbusFuzzer: Fuzzer = { name: 'xenbus', smoke: 15_000, run: fuzzXenbus };
