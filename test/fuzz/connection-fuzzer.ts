/**
 * The connection protocol: valid messages, mutated, against a real device server on real sockets, all in this thread. A
 * client that does nothing wrong is served beside it.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import {
  IOCTL_EVTCHN_BIND_UNBOUND_PORT,
  IOCTL_EVTCHN_NOTIFY,
  IOCTL_EVTCHN_RESTRICT_DOMID,
} from '../../dist/abi/linux/evtchn.js';
import * as P from '../../dist/abi/linux/privcmd.js';
import { DeviceServer } from '../../dist/host/device-server.js';
import {
  MAX_MESSAGE,
  POSTERN_HELLO,
  POSTERN_IOCTL,
  POSTERN_MMAP,
  POSTERN_MUNMAP,
  POSTERN_OPEN,
  POSTERN_VERSION,
} from '../../dist/host/protocol.js';
import { Reactor } from '../../dist/host/reactor.js';
import { Trace } from '../../dist/host/trace.js';
import {
  dmOpBlocks,
  encodeMessage,
  GoodClient,
  RawConnection,
  RawProcess,
  SOMEWHERE,
} from '../integration/raw-client.js';
import { type Fuzzer, FuzzFailure, iterate } from './fuzzer.js';
import { Random } from './random.js';
import { ATTACKED, VICTIM, World } from './world.js';

/** Room for what several rounds of a flood bring. */
const ROUNDS = 8;
const CHECK_EVERY = 100;

/** The attacker: a process, and a restricted file of each kind. */
class Attacker {
  readonly process: RawProcess;
  readonly files: readonly RawConnection[];

  constructor(path: string) {
    this.process = new RawProcess(path);
    const privcmd = this.process.open('privcmd');
    const evtchn = this.process.open('evtchn');
    this.process.ioctl(privcmd, P.IOCTL_PRIVCMD_RESTRICT, Uint8Array.of(ATTACKED, 0));
    this.process.ioctl(evtchn, IOCTL_EVTCHN_RESTRICT_DOMID, Uint8Array.of(ATTACKED, 0, 0, 0));
    this.files = [privcmd, evtchn, this.process.open('hypercall')];
  }

  close(): void {
    this.process.close();
  }
}

/** A message as a client could send it. */
function validMessage(random: Random, { process }: Attacker): Buffer {
  const ioctl = (cmd: number, blocks: object[]) =>
    process.message({
      kind: POSTERN_IOCTL,
      cmd,
      arg: BigInt(SOMEWHERE),
      call: random.bits(),
      blocks,
      flags: random.below(6),
    });
  const op = Buffer.alloc(64);
  op.writeUInt32LE(random.below(22), 0);
  for (let at = 8; at < 40; at += 4) if (random.oneIn(2)) op.writeUInt32LE(Number(random.number() & 0xffffffffn), at);
  switch (random.below(9)) {
    case 0:
      return encodeMessage({ kind: POSTERN_HELLO, arg: BigInt(POSTERN_VERSION) });
    case 1:
      return process.message({
        kind: POSTERN_OPEN,
        blocks: [{ data: Buffer.from(random.pick(['privcmd', 'gntdev', 'x'])) }],
      });
    case 2:
      return process.message({ kind: POSTERN_MMAP, arg: BigInt(random.below(64)) << 12n, cmd: random.below(5) });
    case 3:
      return process.message({ kind: POSTERN_MUNMAP, arg: BigInt(random.below(64)) << 12n, cmd: random.below(9) });
    case 4:
      return ioctl(random.pick([IOCTL_EVTCHN_BIND_UNBOUND_PORT, IOCTL_EVTCHN_NOTIFY]), [
        { data: Uint8Array.of(random.below(30), 0, 0, 0) },
      ]);
    case 5:
      return ioctl(random.pick([P.IOCTL_PRIVCMD_MMAPBATCH_V2, P.IOCTL_PRIVCMD_MMAP_RESOURCE]), batch(random));
    case 6:
      return ioctl(random.pick([P.IOCTL_PRIVCMD_HYPERCALL, P.IOCTL_PRIVCMD_MMAP]), [{ data: random.bytes(48) }]);
    default:
      return ioctl(
        P.IOCTL_PRIVCMD_DM_OP,
        dmOpBlocks(ATTACKED, [op, Buffer.from(random.bytes(64))].slice(0, 1 + random.below(2))),
      );
  }
}

function batch(random: Random): object[] {
  const num = 1 + random.below(8);
  const argument = Buffer.alloc(32);
  argument.writeUInt32LE(num, 0);
  argument.writeUInt16LE(ATTACKED, 4);
  for (const [i, at] of [8, 16, 24].entries()) argument.writeBigUInt64LE(BigInt(SOMEWHERE + 0x1000 * (i + 1)), at);
  const frames = Buffer.alloc(num * 8);
  for (let i = 0; i < num; i++) frames.writeUInt32LE(random.below(4096), i * 8);
  return [
    { data: argument },
    { address: SOMEWHERE + 0x2000, data: frames },
    { address: SOMEWHERE + 0x3000, size: num * 4, flags: 2 },
  ];
}

/** Changes a message, or leaves it. */
function mutate(random: Random, message: Buffer): Uint8Array {
  const bytes = Buffer.from(message);
  switch (random.below(8)) {
    case 0:
    case 1:
      return bytes;
    case 2:
      return bytes.subarray(0, random.below(bytes.length + 1));
    case 3:
      return Buffer.concat([bytes, random.bytes(random.below(200))]);
    case 4:
      return Buffer.concat([bytes, bytes]);
    case 5: {
      const at = random.below(bytes.length);
      bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
      return bytes;
    }
    case 6: // a field of the header or of a block becomes something remarkable
      bytes.writeUInt32LE(
        Number(random.number() & 0xffffffffn),
        4 * random.below(Math.floor(Math.min(bytes.length, 120) / 4)),
      );
      return bytes;
    default:
      return random.oneIn(20) ? Buffer.alloc(MAX_MESSAGE + 100, 1) : Buffer.from(random.bytes(random.below(100)));
  }
}

/** A device server in this thread, and whoever talks to it. */
class Arena {
  readonly world = new World();
  private readonly reactor = new Reactor();
  private readonly server: DeviceServer;

  constructor(path: string) {
    this.server = new DeviceServer(this.reactor, this.world.kernel, new Trace(), path);
    RawConnection.pump = () => this.serve();
  }

  /** Lets the server do everything that waits. */
  serve(): void {
    for (let i = 0; i < ROUNDS; i++) this.reactor.round(0);
  }

  get nrConnections(): number {
    return this.server.nrConnections;
  }

  close(): void {
    RawConnection.pump = () => {};
    this.server.close();
    this.reactor.close();
  }
}

function fuzzConnection(seed: number, iterations: number): void {
  const folder = mkdtempSync(join(tmpdir(), 'postern-fuzz-'));
  const path = join(folder, 'host');
  const arena = new Arena(path);
  try {
    attack(arena, path, seed, iterations);
  } finally {
    arena.close();
    rmSync(folder, { recursive: true });
  }
}

function attack(arena: Arena, path: string, seed: number, iterations: number): void {
  const random = new Random(seed);
  const good = new GoodClient(path);
  const outsiders = arena.nrConnections;
  let attacker = new Attacker(path);
  iterate('connection', seed, iterations, (i) => {
    const isStranger = random.oneIn(6);
    const message = mutate(random, validMessage(random, attacker));
    const target = isStranger ? new RawConnection(path) : random.pick([attacker.process.own, ...attacker.files]);
    target.send(message);
    arena.serve();
    if (isStranger) target.close();
    for (const each of [attacker.process.own, ...attacker.files]) {
      if (!drain(each)) {
        attacker.close();
        attacker = new Attacker(path);
        break;
      }
    }
    if (i % 10 === 0 && good.nrVcpus(VICTIM) !== 1) throw new FuzzFailure('the good client is not served');
    if (i % CHECK_EVERY === CHECK_EVERY - 1 || i === iterations - 1) arena.world.assertUntouched();
  });
  attacker.close();
  arena.serve();
  if (arena.nrConnections !== outsiders)
    throw new FuzzFailure(`${arena.nrConnections - outsiders} connections are left`);
  good.close();
}

/** Takes what has come. @returns false where the host has closed the connection */
function drain(connection: RawConnection): boolean {
  while (connection.isReadable()) if (connection.receive() === undefined) return false;
  return true;
}

export const connectionFuzzer: Fuzzer = { name: 'connection', smoke: 3000, run: fuzzConnection };
