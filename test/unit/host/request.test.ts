/** Requests as clients send them: lengths that lie, what user memory a request stands for, and what goes back. */
import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { encode } from '../../../dist/abi/layout.js';
import {
  MAX_MESSAGE,
  POSTERN_BLOCK_DATA,
  POSTERN_BLOCK_WRITABLE,
  POSTERN_IOCTL,
  POSTERN_MAGIC,
  POSTERN_MAX_BLOCKS,
  POSTERN_MAX_DATA,
  postern_block,
  postern_request,
} from '../../../dist/host/protocol.js';
import { ProtocolViolation, Request } from '../../../dist/host/request.js';
import { verdictOf } from '../../support/dm-op.js';

const R = POSTERN_BLOCK_DATA;
const W = POSTERN_BLOCK_WRITABLE;

interface Block {
  readonly address: number;
  readonly flags: number;
  /** Its bytes; only its length counts where it goes without DATA. */
  readonly bytes: Uint8Array;
}

const block = (address: number, flags: number, ...bytes: number[]): Block => ({
  address,
  flags,
  bytes: Uint8Array.from(bytes),
});

type Header = Partial<{
  magic: number;
  kind: number;
  flags: number;
  process: number;
  call: number;
  token: bigint;
  arg: number;
  cmd: number;
  nr_blocks: number;
}>;

function message(blocks: readonly Block[], header: Header = {}): Uint8Array {
  const zeros = { magic: POSTERN_MAGIC, kind: POSTERN_IOCTL, flags: 0, process: 1, call: 1, token: 0n, arg: 0, cmd: 0 };
  const parts = [encode(postern_request, { ...zeros, nr_blocks: blocks.length, ...header })];
  for (const { address, flags, bytes } of blocks) {
    parts.push(encode(postern_block, { address, size: bytes.length, flags }));
  }
  for (const { flags, bytes } of blocks) if (flags & R) parts.push(bytes);
  return new Uint8Array(Buffer.concat(parts));
}

/** A request whose message stands in a receive buffer as big as the host's, full of what came before. */
function receive(bytes: Uint8Array, length = bytes.length): Request {
  const buffer = new Uint8Array(MAX_MESSAGE + 8).fill(0xaa);
  buffer.set(bytes);
  const request = new Request(buffer);
  request.parse(length);
  return request;
}

const parse = (blocks: readonly Block[], header: Header = {}) => receive(message(blocks, header));

function read(request: Request, address: number, length: number): number[] | string {
  const into = new Uint8Array(length);
  const verdict = verdictOf(() => request.copyIn(address, into));
  return verdict === 'OK' ? [...into] : verdict;
}

const write = (request: Request, address: number, ...bytes: number[]) =>
  verdictOf(() => request.copyOut(address, Uint8Array.from(bytes)));
const pin = (request: Request, address: number, size: number) => verdictOf(() => request.pinForWrite(address, size));

describe('parsing', () => {
  it('takes every field to the bit', () => {
    const header = {
      kind: 0xfffe,
      flags: 0x8005,
      process: 0xdeadbeef,
      call: 0xffffffff,
      token: 0x8000_0001_ffff_fffen,
      arg: 0x7fff_1234_5678,
      cmd: 0x80105005,
    };
    const { token, ...same } = header;
    expect(parse([], header)).toMatchObject({ ...same, tokenLow: 0xffff_fffe, tokenHigh: 0x8000_0001, nrBlocks: 0 });
  });

  it('takes the largest message there can be, and no larger one', () => {
    const last = new Uint8Array(POSTERN_MAX_DATA).fill(7);
    const blocks = Array.from({ length: POSTERN_MAX_BLOCKS - 1 }, (_, i) => block(i, R));
    const bytes = message([...blocks, { address: 0x1000, flags: R, bytes: last }]);
    expect(bytes.length).toBe(MAX_MESSAGE);
    expect(read(receive(bytes), 0x1000 + POSTERN_MAX_DATA - 1, 1)).toEqual([7]);
    expect(() => receive(message([{ address: 0, flags: R, bytes: new Uint8Array(POSTERN_MAX_DATA + 1) }]))).toThrow(
      ProtocolViolation,
    );
  });

  const two = [block(0x1000, R, 1, 2, 3), block(0x2000, R | W, 4)];
  const ok = message(two);
  /** A message with a block's size or flags changed behind the header's back. */
  const patched = (at: number, value: number) => {
    const bytes = ok.slice();
    new DataView(bytes.buffer).setUint32(postern_request.size + at, value, true);
    return bytes;
  };
  const SIZE = 8;
  const FLAGS = 12;

  it.each<[string, Uint8Array, number?]>([
    ['nothing', ok, 0],
    ['less than a magic number', ok, 3],
    ['one byte less than a header', ok, postern_request.size - 1],
    ['a header whose blocks are missing', ok, postern_request.size],
    ['half of the blocks', ok, postern_request.size + postern_block.size],
    ['the blocks without their data', ok, postern_request.size + 2 * postern_block.size],
    ['one byte of data less than announced', ok, ok.length - 1],
    ['one byte more than announced', ok, ok.length + 1],
    ['another magic number', message(two, { magic: POSTERN_MAGIC ^ 1 })],
    ['more blocks than there are', message(two, { nr_blocks: 3 })],
    ['fewer blocks than there are', message(two, { nr_blocks: 1 })],
    ['25 blocks', message(Array.from({ length: 25 }, () => block(0, 0)))],
    ['2^32-1 blocks', message(two, { nr_blocks: 0xffffffff })],
    ['2^31 blocks, whose size wraps to nothing', message([], { nr_blocks: 0x8000_0000 })],
    ['a block a byte longer than its data', patched(SIZE, 4)],
    ['a block a byte shorter than its data', patched(SIZE, 2)],
    ['a block of 2^32-1 bytes', patched(SIZE, 0xffffffff)],
    ['a block of 2^31 bytes', patched(SIZE, 0x80000000)],
    ['a block longer than may be', patched(SIZE, POSTERN_MAX_DATA + 1)],
    [
      'a block without data longer than may be',
      message([{ address: 0, flags: W, bytes: new Uint8Array(POSTERN_MAX_DATA + 1) }]),
    ],
    ['data that no block has', patched(FLAGS, W)],
  ])('%s breaks the protocol', (_name, bytes, length) => {
    expect(() => receive(bytes, length ?? bytes.length)).toThrow(ProtocolViolation);
  });

  it('never throws anything else, nor reads beyond the message, whatever comes', () => {
    let nrTaken = 0;
    const size = fc.oneof(
      { weight: 4, arbitrary: fc.nat(20) },
      { weight: 1, arbitrary: fc.integer({ min: 0, max: 0xffffffff }) },
    );
    const blocks = fc.array(fc.tuple(size, fc.nat(3)), { maxLength: 4 });
    fc.assert(
      fc.property(
        blocks,
        fc.option(fc.nat(30), { nil: undefined }),
        fc.integer({ min: -3, max: 60 }),
        (all, nr, extra) => {
          const bytes = message(
            all.map(([, flags], i) => block(i * 100, flags)),
            nr === undefined ? {} : { nr_blocks: nr },
          );
          const view = new DataView(bytes.buffer);
          let announced = bytes.length;
          for (const [i, [length, flags]] of all.entries()) {
            view.setUint32(postern_request.size + i * postern_block.size + 8, length, true);
            if (flags & R) announced += length;
          }
          const length = extra > 10 ? announced : bytes.length + extra;
          if (length > MAX_MESSAGE) return;
          let request: Request;
          try {
            request = receive(bytes, Math.max(length, 0));
          } catch (error) {
            expect(error).toBeInstanceOf(ProtocolViolation);
            return;
          }
          nrTaken++;
          for (let i = 0; i < 30; i++) {
            const data = request.blockBytes(i);
            if (data) expect(data.byteOffset + data.length).toBeLessThanOrEqual(length);
          }
        },
      ),
      { numRuns: 400 },
    );
    expect(nrTaken).toBeGreaterThan(20);
  });

  it('leaves nothing of the request before', () => {
    const buffer = new Uint8Array(4096);
    const request = new Request(buffer);
    const first = message([block(0x1000, R | W, 1, 2), block(0x2000, R, 3)]);
    buffer.set(first);
    request.parse(first.length);
    expect(write(request, 0x1000, 9)).toBe('OK');
    const second = message([block(0x3000, 0, 1)]);
    buffer.set(second);
    request.parse(second.length);
    expect([request.nrOutputs, request.outputLength, request.nrBlocks]).toEqual([0, 0, 1]);
    expect([request.blockBytes(0), request.blockBytes(1)]).toEqual([undefined, undefined]);
    expect([read(request, 0x1000, 1), read(request, 0x2000, 1), read(request, 0x3000, 1)]).toEqual(
      Array(3).fill('EFAULT'),
    );
    expect([pin(request, 0x1000, 2), write(request, 0x1000, 1)]).toEqual(['EFAULT', 'EFAULT']);
    expect(request.peekU16(0)).toBeUndefined();
    expect(request.writeStraight(new Uint8Array(8), 0)).toBe(0);
  });
});

describe('the memory a request brings', () => {
  const request = () =>
    parse([
      block(0x1000, R, 1, 2, 3, 4),
      block(0x1004, R | W, 5, 6, 7, 8),
      block(0x3000, W, 0, 0),
      block(0x4000, 0, 0),
    ]);

  it.each<[number, number, number[] | string]>([
    [0x1000, 4, [1, 2, 3, 4]],
    [0x1001, 2, [2, 3]],
    [0x1004, 4, [5, 6, 7, 8]],
    [0x1002, 3, 'EFAULT'], // across blocks, even adjacent ones
    [0xfff, 1, 'EFAULT'],
    [0xfff, 2, 'EFAULT'],
    [0x1008, 1, 'EFAULT'],
    [0x1000, 9, 'EFAULT'],
    [0x3000, 1, 'EFAULT'], // brought without its bytes
    [0x4000, 1, 'EFAULT'],
    [0, 1, 'EFAULT'],
    [2 ** 64, 1, 'EFAULT'],
    [0x9999, 0, []],
  ])('reading 0x%x, %i bytes: %j', (address, length, result) =>
    expect(read(request(), address, length)).toEqual(result),
  );

  it.each<[number, number, string]>([
    [0x1000, 1, 'EFAULT'], // read-only
    [0x1003, 2, 'EFAULT'],
    [0x1004, 4, 'OK'],
    [0x1007, 1, 'OK'],
    [0x1007, 2, 'EFAULT'],
    [0x3000, 2, 'OK'],
    [0x3000, 3, 'EFAULT'],
    [0x4000, 1, 'EFAULT'],
    [0x9999, 0, 'OK'],
  ])('writing 0x%x, %i bytes: %s', (address, length, verdict) => {
    const of = request();
    expect(write(of, address, ...new Array(length).fill(1))).toBe(verdict);
    expect(of.nrOutputs).toBe(verdict === 'OK' && length > 0 ? 1 : 0);
  });

  it.each<[number, number, string]>([
    [0x1004, 4, 'OK'],
    [0x1004, 3, 'EFAULT'], // only a block as it was brought: the client looked at its pages as a whole
    [0x1005, 3, 'EFAULT'],
    [0x1000, 4, 'EFAULT'],
    [0x3000, 2, 'EFAULT'],
    [0x4000, 1, 'EFAULT'],
    [0x5000, 1, 'EFAULT'],
  ])('pinning 0x%x, %i bytes: %s', (address, size, verdict) => expect(pin(request(), address, size)).toBe(verdict));

  it('is read again as it was written', () => {
    const of = request();
    expect(write(of, 0x1005, 9, 9)).toBe('OK');
    expect(read(of, 0x1004, 4)).toEqual([5, 9, 9, 8]);
  });

  it('written only where both blocks at an address allow it is the one that does', () => {
    const of = parse([block(0x1000, R, 1, 2), block(0x1000, R | W, 1, 2)]);
    expect([pin(of, 0x1000, 2), write(of, 0x1000, 7)]).toEqual(['OK', 'OK']);
    expect(of.outputs[0]).toMatchObject({ block: 1, offset: 0, length: 1 });
  });

  it('of a preempted call stays while the receive buffer takes the next message', () => {
    const bytes = message([block(0x1000, R | W, 1, 2, 3)]);
    const buffer = new Uint8Array(256);
    buffer.set(bytes);
    const of = new Request(buffer);
    of.parse(bytes.length);
    of.detach();
    buffer.fill(0xff);
    expect(read(of, 0x1000, 3)).toEqual([1, 2, 3]);
    expect([of.peekU16(0), of.peekU16(1), of.peekU16(2)]).toEqual([0x201, 0x302, undefined]);
    expect(write(of, 0x1001, 9)).toBe('OK');
    expect(buffer).toEqual(new Uint8Array(256).fill(0xff));
    const reply = new Uint8Array(8);
    expect([of.writeStraight(reply, 0), ...reply.subarray(0, 2)]).toEqual([2, 1, 9]);
  });
});

describe('what goes back', () => {
  /** The straight answer's bytes, or `scattered`. */
  const straight = (of: Request) => {
    const into = new Uint8Array(64).fill(0xee);
    const length = of.writeStraight(into, 3);
    if (length < 0) return 'scattered';
    expect([...into.subarray(0, 3), into[3 + length]]).toEqual([0xee, 0xee, 0xee, 0xee]);
    return [...into.subarray(3, 3 + length)];
  };
  const argument = block(0x100, R | W, 0, 0);

  it('is nothing where nothing was written', () => expect(straight(parse([block(0x1000, R | W, 1)]))).toEqual([]));

  it('is the start of the last block, with what lies between as it came', () => {
    const of = parse([argument, block(0x1000, R | W, 1, 2, 3, 4, 5)]);
    write(of, 0x1003, 9);
    write(of, 0x1001, 8);
    expect(straight(of)).toEqual([1, 8, 3, 9]);
  });

  it('is one piece for a block that came without its bytes', () => {
    const of = parse([argument, block(0x1000, W, 0, 0, 0)]);
    write(of, 0x1000, 7, 6);
    expect(straight(of)).toEqual([7, 6]);
  });

  it.each<[string, (of: Request) => void]>([
    ['not its start', (of) => write(of, 0x1001, 7)],
    ['two pieces', (of) => [write(of, 0x1000, 7), write(of, 0x1002, 7)]],
    ['another block', (of) => write(of, 0x100, 7)],
    ['another block too', (of) => [write(of, 0x1000, 7), write(of, 0x101, 7)]],
  ])('is scattered where it is %s', (_name, make) => {
    const of = parse([argument, block(0x1000, W, 0, 0, 0)]);
    make(of);
    expect(straight(of)).toBe('scattered');
    expect(of.nrOutputs).toBeGreaterThan(0);
  });

  it('does not grow with an operation that writes the same place over and over', () => {
    const of = parse([block(0x1000, R | W, 0, 0, 0, 0)]);
    for (let i = 0; i < 1000; i++) write(of, 0x1000, i & 0xff, 1);
    expect([of.nrOutputs, of.outputLength]).toEqual([1, 2]);
    expect(straight(of)).toEqual([999 & 0xff, 1]);
  });

  it('can be as long as a block', () => {
    const bytes = Uint8Array.from({ length: 4096 }, (_, i) => i * 7);
    const of = parse([argument, { address: 0x1000, flags: R | W, bytes: new Uint8Array(4096) }]);
    of.copyOut(0x1000, bytes);
    of.copyOut(0x100, Uint8Array.of(5));
    expect(of.outputs.slice(0, of.nrOutputs)).toMatchObject([{ from: 0, length: 4096 }, { from: 4096, length: 1 }]); // biome-ignore format: two rows
    expect(of.output.subarray(0, 4096)).toEqual(bytes);
    expect(of.output[4096]).toBe(5);
  });

  /** What a client's memory is after the reply. */
  function applied(of: Request, memory: Uint8Array[]): Uint8Array[] {
    const after = memory.map((bytes) => bytes.slice());
    const into = new Uint8Array(256);
    const length = of.writeStraight(into, 0);
    if (length >= 0) after.at(-1)?.set(into.subarray(0, length));
    else {
      for (const { block, offset, length, from } of of.outputs.slice(0, of.nrOutputs)) {
        after[block]!.set(of.output.subarray(from, from + length), offset);
      }
    }
    return after;
  }

  test('comes to what was written, in the order it was, however pieces overlap', () => {
    const SIZE = 16;
    const step = fc.record({ block: fc.nat(1), offset: fc.nat(SIZE - 1), length: fc.integer({ min: 1, max: 8 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 12 }), fc.boolean(), fc.boolean(), (steps, one, two) => {
        const memory = [0, 1].map((i) => Uint8Array.from({ length: SIZE }, (_, j) => 100 * i + j));
        const blocks = memory.map((bytes, i) => ({
          address: 0x1000 * (i + 1),
          flags: [one, two][i] ? R | W : W,
          bytes,
        }));
        const of = parse(blocks);
        const wanted = memory.map((bytes) => bytes.slice());
        for (const [i, { block, offset, length }] of steps.entries()) {
          const bytes = new Uint8Array(Math.min(length, SIZE - offset)).fill(200 + i);
          of.copyOut(0x1000 * (block + 1) + offset, bytes);
          wanted[block]!.set(bytes, offset);
        }
        expect(applied(of, memory)).toEqual(wanted);
      }),
      { numRuns: 500 },
    );
  });
});
