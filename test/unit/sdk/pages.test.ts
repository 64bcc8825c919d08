/** The shared pages with hostile contents, the dirty bitmap, and guest memory by address. */
import { describe, expect, it } from 'vitest';
import { BufferedRing } from '../../../dist/sdk/buffered-ring.js';
import { DirtyBitmap } from '../../../dist/sdk/dirty-bitmap.js';
import { GuestPhysicalMemory } from '../../../dist/sdk/guest-memory.js';
import { IoreqPage } from '../../../dist/sdk/ioreq-page.js';
import { FakeXen, PAGE } from './fake-xen.js';

describe('synchronous page', () => {
  const filled = (state: number) => {
    const bytes = new Uint8Array(PAGE);
    bytes[30] = state;
    return { bytes, page: new IoreqPage(bytes, 2) };
  };

  it.each(Array.from({ length: 16 }, (_, state) => state))('state %i is taken only when it is READY', (state) => {
    const { bytes, page } = filled(0x70 | state);
    const taken = page.take(0);
    expect(taken !== undefined).toBe(state === 1);
    expect(bytes[30]).toBe(state === 1 ? 0x72 : 0x70 | state);
  });

  it('is taken once', () => {
    const { page } = filled(1);
    expect(page.take(0)).toBeDefined();
    expect(page.take(0)).toBeUndefined();
  });

  it.each([0, 1, 3, 4, 15])('a slot moved to state %i while in process gets no answer', (state) => {
    const { bytes, page } = filled(1);
    page.take(0);
    bytes[30] = state;
    expect(page.complete(0, 0x11, 0x22)).toBe(false);
    expect(bytes[30]).toBe(state);
    expect([...bytes.subarray(8, 16)]).toEqual(new Array(8).fill(0));
  });

  it('keeps the flags beside the state', () => {
    const { bytes, page } = filled(0xf1);
    expect(page.take(0)).toMatchObject({ isRead: true, dataIsPtr: true, df: true });
    expect(page.complete(0, 0x44332211, 0x88776655)).toBe(true);
    expect(bytes[30]).toBe(0xf3);
    expect([...bytes.subarray(8, 16)]).toEqual([0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88]);
  });

  it('refuses a page with fewer slots than vCPUs', () => {
    expect(() => new IoreqPage(new Uint8Array(PAGE), 129)).toThrow(RangeError);
  });
});

describe('buffered ring', () => {
  const ring = (read: number, write: number) => {
    const bytes = new Uint8Array(PAGE);
    const words = new Uint32Array(bytes.buffer);
    words[0] = read;
    words[1] = write;
    return { words, ring: new BufferedRing(bytes) };
  };

  it('is empty when the pointers agree, wherever they are', () => {
    for (const at of [0, 511, 0xffffffff]) expect(ring(at, at).ring.peek()).toBeUndefined();
  });

  it('decodes a slot and takes it by adding to the read pointer', () => {
    const { words, ring: r } = ring(510, 511);
    words[2 + 2 * 510] = (0xb8000 << 12) | (2 << 10) | 1;
    words[3 + 2 * 510] = 0xdeadbeef;
    expect(r.peek()).toEqual({
      type: 1,
      address: 0xb8000,
      size: 4,
      dataLo: 0xdeadbeef,
      dataHi: 0,
      nrSlots: 1,
      isRead: false,
    });
    expect(words[0]).toBe(510);
    r.advance(1);
    expect(words[0]).toBe(511);
  });

  it('joins an 8-byte write across the end of the ring', () => {
    const { words, ring: r } = ring(510, 512);
    words[2 + 2 * 510] = 3 << 10;
    words[3 + 2 * 510] = 1;
    words[3] = 2;
    expect(r.peek()).toMatchObject({ size: 8, dataLo: 1, dataHi: 2, nrSlots: 2 });
  });

  it.each([
    ['far ahead', 0, 512],
    ['behind', 5, 4],
    ['as far as it goes', 0, 0xffffffff],
    ['half an 8-byte write', 0, 1],
  ])('a write pointer %s empties the ring and is counted', (name, read, write) => {
    const { words, ring: r } = ring(read, write);
    if (name.startsWith('half')) words[2] = 3 << 10;
    expect(r.peek()).toBeUndefined();
    expect(r.nrResets).toBe(1);
    expect(words[0]).toBe(words[1]);
  });

  it('takes a full ring', () => {
    const { ring: r } = ring(0, 511);
    let n = 0;
    for (let e = r.peek(); e; e = r.peek()) {
      r.advance(e.nrSlots);
      n++;
    }
    expect(n).toBe(511);
  });
});

describe('dirty bitmap', () => {
  it.each([
    [[], 10, []],
    [[0], 10, [[0, 1]]],
    [[9], 10, [[9, 1]]],
    [
      [0, 1, 2, 8, 9],
      10,
      [
        [0, 3],
        [8, 2],
      ],
    ],
    [
      [7, 8, 63, 64],
      65,
      [
        [7, 2],
        [63, 2],
      ],
    ],
    [[10, 11], 10, []],
  ])('%j of frames → %j', (dirty, nr, runs) => {
    const bits = new Uint8Array(16);
    for (const d of dirty) bits[d >>> 3]! |= 1 << (d & 7);
    const bitmap = new DirtyBitmap(0n, nr, bits);
    expect([...bitmap].map((r) => [r.first, r.count])).toEqual(runs);
    expect(bitmap.nrDirty).toBe(runs.reduce((n, r) => n + (r[1] as number), 0));
    expect(bitmap.isDirty(-1) || bitmap.isDirty(nr)).toBe(false);
  });
});

describe('guest memory by address', () => {
  it('copies across pages and says where there is none', () => {
    const xen = new FakeXen();
    const memory = new GuestPhysicalMemory(xen.openPrivcmd(), 1);
    expect(memory.write(BigInt(PAGE - 2), Uint8Array.of(1, 2, 3, 4))).toBe(true);
    expect([...xen.ram.subarray(PAGE - 2, PAGE + 2)]).toEqual([1, 2, 3, 4]);
    const back = new Uint8Array(4);
    expect(memory.read(BigInt(PAGE - 2), back)).toBe(true);
    expect([...back]).toEqual([1, 2, 3, 4]);
    expect(memory.read(BigInt(16 * PAGE - 1), back)).toBe(false);
    expect(memory.write(1n << 60n, back)).toBe(false);
  });

  it('keeps a bounded number of pages mapped and forgets them all when told', () => {
    const xen = new FakeXen(1, 200);
    const memory = new GuestPhysicalMemory(xen.openPrivcmd(), 1);
    for (let i = 0; i < 200; i++) memory.read(BigInt(i * PAGE), new Uint8Array(1));
    expect(xen.nrMappings).toBe(64);
    memory.invalidate();
    expect(xen.nrMappings).toBe(0);
  });
});
