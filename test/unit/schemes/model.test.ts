/** The model itself: it protects nothing, and it misses nothing. */
import { describe, expect, test } from 'vitest';
import { Lab, track } from '../../../dist/schemes/attacks/attack.js';
import { proposal } from '../../../dist/schemes/index.js';
import { PLATFORMS } from '../../../dist/schemes/model/platform.js';
import { Random } from '../../../dist/schemes/model/random.js';
import { Scheduler, schedules } from '../../../dist/schemes/model/scheduler.js';
import { World } from '../../../dist/schemes/model/world.js';

const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8];
const [X86_32, X86_64, PHYSICAL] = PLATFORMS as [(typeof PLATFORMS)[0], (typeof PLATFORMS)[0], (typeof PLATFORMS)[0]];

const invariants = (world: World) => new Set(world.breaches.map(({ invariant }) => invariant));

describe('what is there to find after a run', () => {
  test.each(PLATFORMS.map(({ id }) => id))('nothing, where nothing happened: %s', (id) => {
    for (const seed of SEEDS) {
      const world = new World(PLATFORMS.find((platform) => platform.id === id)!, seed);
      world.inspect();
      expect(world.breaches).toEqual([]);
    }
  });

  test('a byte of kernel memory that changed, however it came about', () => {
    for (const seed of SEEDS) {
      const world = new World(X86_64, seed);
      world.attacker.space.walk(world.canary)!.frame.bytes[4095]! ^= 1;
      world.inspect();
      expect(invariants(world)).toEqual(new Set(['kernel-integrity']));
    }
  });

  test('a word of the kernel’s, the hypervisor’s or another program’s in the attacker’s memory', () => {
    for (const seed of SEEDS) {
      for (const source of ['kernel', 'stack'] as const) {
        const world = new World(X86_64, seed);
        const at = world.attacker.allocate(1, 'loot');
        const secret = world.attacker.space.walk(world.secret)!.frame.bytes.slice(0, 8);
        if (source === 'kernel') world.attacker.write(at + 12n, secret);
        else world.attacker.writeU64(at + 8n, world.stackMark);
        world.inspect();
        expect(invariants(world)).toEqual(new Set([source === 'kernel' ? 'kernel-secrecy' : 'hypervisor-secrecy']));
      }
    }
  });

  test('another domain that was shut down', () => {
    const world = new World(X86_64, 1);
    world.theirs.shutdown(0);
    world.inspect();
    expect(invariants(world)).toEqual(new Set(['domain-isolation']));
  });
});

describe('copies', () => {
  const bytes = () => new Uint8Array(16);

  test('with the kernel’s rights reach the kernel, and that is a hit', () => {
    const world = new World(X86_64, 1);
    world.copyVirtual('attacker', world.attacker.space, world.secret, bytes(), 'read');
    expect(world.hits).toMatchObject([{ direction: 'read', owner: 'kernel', bytes: 16 }]);
    expect(invariants(world)).toEqual(new Set(['kernel-secrecy']));
  });

  test('for the kernel itself are none', () => {
    const world = new World(X86_64, 1);
    world.copyVirtual('kernel', world.attacker.space, world.kernelBuffer, bytes(), 'write');
    world.inspect();
    expect(world.breaches).toEqual([]);
  });

  test('go from one half into the other where nothing is between', () => {
    const world = new World(X86_32, 1);
    world.attacker.mapFresh(X86_32.userEnd - 4096n, 'top');
    world.copyVirtual('attacker', world.attacker.space, X86_32.userEnd - 8n, bytes(), 'read');
    expect(world.hits).toMatchObject([{ bytes: 8, address: X86_32.kernelBase }]);
  });

  test('wrap as wide as an address is', () => {
    const world = new World(X86_32, 1);
    const at = world.attacker.allocate(1, 'block');
    world.attacker.write(at, new Uint8Array([1, 2, 3]));
    const into = new Uint8Array(3);
    world.copyVirtual('attacker', world.attacker.space, at + (1n << 32n), into, 'read');
    expect([...into]).toEqual([1, 2, 3]);
  });

  test('of physical memory don’t reach another domain', () => {
    const world = new World(PHYSICAL, 1);
    const at = BigInt(world.victim.pfn) * 4096n;
    expect(() => world.copyPhysical('attacker', at, bytes(), 'read')).toThrow(/EFAULT/);
  });
});

describe('frames', () => {
  test('that are freed go to the next who asks', () => {
    const world = new World(PHYSICAL, 1);
    const at = world.attacker.allocate(1, 'block');
    const frame = world.attacker.unmap(at);
    expect(world.memory.allocate('kernel', 'reused').pfn).toBe(frame?.pfn);
  });

  test('that are pinned do so only after they are unpinned', () => {
    const world = new World(PHYSICAL, 1);
    const at = world.attacker.allocate(1, 'block');
    expect(world.attacker.space.pin(at)).toBe(true);
    const frame = world.attacker.unmap(at);
    expect(world.memory.allocate('kernel', 'another').pfn).not.toBe(frame?.pfn);
    world.attacker.space.unpinAll();
    expect(world.memory.allocate('kernel', 'reused').pfn).toBe(frame?.pfn);
  });

  test('lie in pieces where memory is physical', () => {
    const world = new World(PHYSICAL, 1);
    const pfns = Array.from({ length: 20 }, () => world.memory.allocate('attacker', 'piece').pfn);
    expect(pfns.some((pfn, i) => i > 0 && pfn !== pfns[i - 1]! + 1)).toBe(true);
  });
});

describe('the second thread', () => {
  test('runs where the schedule says, and only in a call', () => {
    const ran: number[] = [];
    const scheduler = new Scheduler([1, 1, 3]);
    scheduler.secondThread(
      () => ran.push(1),
      () => ran.push(2),
      () => ran.push(3),
    );
    scheduler.point('outside');
    scheduler.during(() => {
      for (const label of ['a', 'b', 'c']) scheduler.point(label);
      expect(ran).toEqual([1, 2]);
      scheduler.point('d');
    });
    expect(ran).toEqual([1, 2, 3]);
    expect(scheduler.points).toBe(4);
  });

  test('is tried at every point', () => {
    const firsts = new Set(schedules(9, new Random(1)).map((schedule) => schedule[0]));
    for (let at = 0; at < 9; at++) expect(firsts).toContain(at);
  });
});

describe('the shipped form answers as real Xen did', () => {
  const sizes: [string, number, bigint, string | undefined][] = [
    ['nr_vcpus exact size (12)', 1, 12n, undefined],
    ['size 11 (short)', 1, 11n, 'EFAULT'],
    ['size 8 (header only)', 1, 8n, 'EFAULT'],
    ['size 7', 1, 7n, 'EFAULT'],
    ['size 0, unaligned', 1, 0n, 'EFAULT'],
    ['size 4096 (max)', 1, 4096n, undefined],
    ['size 4097 (oversize)', 1, 4097n, 'E2BIG'],
    ['size SIZE_MAX', 1, 0xffff_ffff_ffff_ffffn, 'E2BIG'],
    ['num=0', 0, 12n, undefined],
    ['num=2 bufs', 2, 12n, undefined],
    ['num=15 bufs', 15, 12n, 'E2BIG'],
    ['num=16 bufs', 16, 12n, 'E2BIG'],
    ['num=65535 bufs', 65535, 12n, 'E2BIG'],
  ];
  test.each(sizes)('%s', (_, count, size, errno) => {
    const lab = new Lab(new World(X86_64, 1), proposal('array-shipped')!);
    const address = lab.block + (size === 0n ? 100n : 0n);
    const blocks = Array.from({ length: 15 }, () => ({ address: lab.out, size: 64n }));
    const result = lab.call({ domid: lab.mine, op: 20, first: { address, size }, blocks, count });
    expect(result.errno).toBe(errno);
  });

  test('a bitmap buffer that is one byte short', () => {
    const lab = new Lab(new World(X86_64, 1), proposal('array-shipped')!);
    const call = (size: bigint) =>
      lab.call({ domid: lab.mine, op: 7, payload: track(64), blocks: [{ address: lab.out, size }] });
    expect(call(7n).errno).toBe('EINVAL');
    expect(call(8n).errno).toBeUndefined();
  });
});
