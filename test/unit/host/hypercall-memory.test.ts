/** Memory for hypercall arguments: shared with the process, bounded, and nothing beside it reachable. */
import { afterEach, describe, expect, it } from 'vitest';
import { HypercallMemory } from '../../../dist/host/hypercall-memory.js';
import { libc, mapShared } from '../../../dist/host/libc.js';
import { verdictOf } from '../../support/dm-op.js';

const PAGE = 4096;
const AT = 0x7f00_0000_0000;
const memories: HypercallMemory[] = [];
afterEach(() => {
  for (const memory of memories.splice(0)) memory.release();
});

function create(): HypercallMemory {
  const memory = new HypercallMemory();
  memories.push(memory);
  return memory;
}

/** Maps, and gives the process's own view. */
function map(memory: HypercallMemory, address: number, nrPages: number): Uint8Array {
  const fd = memory.map(address, nrPages);
  const { bytes } = mapShared(fd, nrPages * PAGE);
  libc.close(fd);
  return bytes;
}

function mapOnly(memory: HypercallMemory, address: number, nrPages: number): string {
  return verdictOf(() => libc.close(memory.map(address, nrPages)));
}

const read = (memory: HypercallMemory, address: number | bigint, length: number): number[] | string => {
  const into = new Uint8Array(length);
  const verdict = verdictOf(() => memory.copyFrom(BigInt(address), into));
  return verdict === 'OK' ? [...into] : verdict;
};
const write = (memory: HypercallMemory, address: number | bigint, ...bytes: number[]) =>
  verdictOf(() => memory.copyTo(BigInt(address), Uint8Array.from(bytes)));

describe('copying', () => {
  it('sees what the process wrote, and the process what was written', () => {
    const memory = create();
    const bytes = map(memory, AT, 2);
    expect(read(memory, AT, 2)).toEqual([0, 0]);
    bytes.set([1, 2, 3], PAGE - 1);
    expect(read(memory, AT + PAGE - 1, 3)).toEqual([1, 2, 3]);
    expect(write(memory, AT + 2 * PAGE - 2, 8, 9)).toBe('OK');
    expect([...bytes.subarray(-3)]).toEqual([0, 8, 9]);
  });

  it.each<[string, number | bigint, number]>([
    ['before it', AT - 1, 1],
    ['into it', AT - 1, 2],
    ['behind it', AT + PAGE, 1],
    ['out of it', AT + PAGE - 1, 2],
    ['around it', AT - 1, PAGE + 2],
    ['at NULL', 0, 8],
    ['at 2^64-1', 0xffff_ffff_ffff_ffffn, 1],
    ['at its address plus 2^64', (1n << 64n) + BigInt(AT), 1],
    ['at its address negated', -BigInt(AT), 1],
  ])('%s is EFAULT', (_name, address, length) => {
    const memory = create();
    map(memory, AT, 1);
    expect(read(memory, address, length)).toBe('EFAULT');
    expect(write(memory, address, ...new Array(length).fill(1))).toBe('EFAULT');
    expect(read(memory, AT, PAGE)).toEqual(new Array(PAGE).fill(0));
  });

  it('of nothing is fine anywhere', () => {
    expect([read(create(), 0, 0), write(create(), 0)]).toEqual([[], 'OK']);
  });

  it('is of one process’s memory only', () => {
    const [one, two] = [create(), create()];
    map(one, AT, 1);
    expect(read(two, AT, 1)).toBe('EFAULT');
  });
});

describe('mapping', () => {
  it('over older memory takes its place', () => {
    const memory = create();
    const old = map(memory, AT, 2);
    old.fill(1);
    const fresh = map(memory, AT, 2);
    expect(read(memory, AT, 1)).toEqual([0]);
    fresh[0] = 5;
    expect([read(memory, AT, 1), old[0]]).toEqual([[5], 1]);
  });

  it('over a part of older memory never leads to the old part', () => {
    const memory = create();
    map(memory, AT, 4).fill(1);
    map(memory, AT + PAGE, 2);
    expect(read(memory, AT + PAGE, 1)).toEqual([0]);
    expect(read(memory, AT + 3 * PAGE - 1, 1)).toEqual([0]);
  });

  it('beside other memory leaves that alone', () => {
    const memory = create();
    map(memory, AT, 1).fill(1);
    map(memory, AT + PAGE, 1).fill(2);
    map(memory, AT - PAGE, 1).fill(3);
    expect([-1, 0, PAGE].map((at) => read(memory, AT + at, 1))).toEqual([[3], [1], [2]]);
  });

  it('ends with unmap, for those addresses', () => {
    const memory = create();
    map(memory, AT, 1);
    map(memory, AT + PAGE, 1);
    memory.unmap(AT, 1);
    memory.unmap(AT, 1);
    memory.unmap(AT + 2 * PAGE, 100);
    memory.unmap(AT + PAGE, 0);
    expect([read(memory, AT, 1), write(memory, AT, 1), read(memory, AT + PAGE, 1)]).toEqual(['EFAULT', 'EFAULT', [0]]);
  });

  it('ends with the process, which may go twice', () => {
    const memory = create();
    map(memory, AT, 1);
    memory.release();
    memory.release();
    expect(read(memory, AT, 1)).toBe('EFAULT');
  });

  it('gives memory whose size nobody can change', () => {
    const fd = create().map(AT, 1);
    expect([libc.ftruncate(fd, 0), libc.ftruncate(fd, 2 * PAGE)]).toEqual([-1, -1]);
    libc.close(fd);
  });
});

describe('limits', () => {
  it.each([0, -1, 16385, 0xffffffff])('%i pages are refused', (nrPages) => {
    const memory = create();
    expect(mapOnly(memory, AT, nrPages)).toBe('ENOMEM');
    expect(mapOnly(memory, AT, 1)).toBe('OK');
  });

  it('64 MiB are a process’s all, and come back when they are unmapped', () => {
    const memory = create();
    const second = AT + 16000 * PAGE;
    expect([mapOnly(memory, AT, 16000), mapOnly(memory, second, 384)]).toEqual(['OK', 'OK']);
    expect(mapOnly(memory, AT - PAGE, 1)).toBe('ENOMEM');
    expect(mapOnly(create(), AT, 1)).toBe('OK');
    memory.unmap(second, 384);
    expect([mapOnly(memory, second, 384), mapOnly(memory, AT - PAGE, 1)]).toEqual(['OK', 'ENOMEM']);
    expect(mapOnly(memory, AT, 16000)).toBe('OK'); // in place of itself
    memory.release();
    expect(mapOnly(memory, AT, 16384)).toBe('OK');
  });

  it('1024 areas are all, too', () => {
    const memory = create();
    for (let i = 0; i < 1024; i++) expect(mapOnly(memory, AT + 2 * i * PAGE, 1)).toBe('OK');
    expect(mapOnly(memory, AT + PAGE, 1)).toBe('ENOMEM');
    memory.unmap(AT, 1);
    expect(mapOnly(memory, AT + PAGE, 1)).toBe('OK');
  });
});
