/** The XenStore ring page: bytes in order through wrap-arounds, and indexes that somebody else has written. */
import { describe, expect, it } from 'vitest';
import { BROKEN, RingPage } from '../../../dist/boundary/byte-ring.js';

const SIZE = 1024;
const REQ_CONS = 2048;
const REQ_PROD = 2052;

function pageAt(index: number) {
  const bytes = new Uint8Array(4096);
  const view = new DataView(bytes.buffer);
  view.setUint32(REQ_CONS, index >>> 0, true);
  view.setUint32(REQ_PROD, index >>> 0, true);
  return { bytes, view, ring: new RingPage(bytes).requests };
}

const sequence = (from: number, length: number) => Uint8Array.from({ length }, (_, i) => (from + i) * 7);

describe('a queue of bytes', () => {
  it.each([0, 1, 1023, 0x7fffffff, 0x7ffffffe, 0xffffffff, 0xfffffe00])(
    'keeps their order from index %i on',
    (start) => {
      const { ring } = pageAt(start);
      const into = new Uint8Array(700);
      let written = 0;
      let read = 0;
      while (read < 20_000) {
        written += ring.write(sequence(written, 333));
        const count = ring.read(into);
        expect(into.subarray(0, count)).toEqual(sequence(read, count));
        read += count;
      }
      expect(ring.waiting).toBe(written - read);
    },
  );

  it('takes what fits and no more', () => {
    const { ring } = pageAt(500);
    expect(ring.write(new Uint8Array(5000))).toBe(SIZE);
    expect(ring.write(new Uint8Array(1))).toBe(0);
    expect(ring.waiting).toBe(SIZE);
    expect(ring.read(new Uint8Array(10))).toBe(10);
    expect(ring.write(new Uint8Array(5000))).toBe(10);
  });

  it('touches nothing but its data and its own index', () => {
    const { bytes, ring } = pageAt(0);
    ring.write(new Uint8Array(SIZE).fill(0xff));
    expect(bytes.subarray(SIZE, REQ_PROD).every((byte) => byte === 0)).toBe(true);
    expect(bytes.subarray(REQ_PROD + 4).every((byte) => byte === 0)).toBe(true);
    expect([...bytes.subarray(REQ_PROD, REQ_PROD + 4)]).toEqual([0, 4, 0, 0]);
  });

  it.each([
    [0, SIZE + 1],
    [0, 0xffffffff],
    [1, 0],
    [0x80000000, 0],
    [0xffffffff, 0x401],
  ])('is broken with the indexes %i and %i, and stays as it is', (cons, prod) => {
    const { view, ring, bytes } = pageAt(0);
    view.setUint32(REQ_CONS, cons, true);
    view.setUint32(REQ_PROD, prod, true);
    const before = bytes.slice();
    expect(ring.waiting).toBe(BROKEN);
    expect(ring.read(new Uint8Array(10))).toBe(BROKEN);
    expect(ring.write(new Uint8Array(10))).toBe(BROKEN);
    expect(bytes).toEqual(before);
    ring.reset();
    expect([view.getUint32(REQ_CONS, true), view.getUint32(REQ_PROD, true), ring.waiting]).toEqual([0, 0, 0]);
  });

  it('is whole at the largest distance', () => {
    const { view, ring } = pageAt(0);
    view.setUint32(REQ_CONS, 0xfffffff0, true);
    view.setUint32(REQ_PROD, 0x3f0, true);
    expect(ring.waiting).toBe(SIZE);
  });
});

describe('a page', () => {
  it('must be one', () => {
    expect(() => new RingPage(new Uint8Array(4095))).toThrow('4095');
  });

  it('has its words where the interface says', () => {
    const bytes = new Uint8Array(4096);
    const page = new RingPage(bytes);
    Object.assign(page, { features: 0xdeadbeef, connection: 1, error: 3 });
    expect([...bytes.subarray(2064, 2076)]).toEqual([0xef, 0xbe, 0xad, 0xde, 1, 0, 0, 0, 3, 0, 0, 0]);
    expect([page.features, page.connection, page.error]).toEqual([0xdeadbeef, 1, 3]);
  });
});
