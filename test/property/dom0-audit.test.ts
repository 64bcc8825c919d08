/**
 * privcmd's audit under random input: what passes lies wholly in user space, is what the caller named at the time of the
 * one reading, and is for the domain the file is restricted to. Nothing else reaches the hypervisor.
 */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { address as addressLayout, array, decode } from '../../dist/abi/layout.js';
import * as E from '../../dist/abi/linux/evtchn.js';
import * as P from '../../dist/abi/linux/privcmd.js';
import type { GuestBuffer } from '../../dist/boundary/guest-buffer.js';
import { XenError } from '../../dist/boundary/xen-error.js';
import { EvtchnFile } from '../../dist/dom0/evtchn.js';
import { PrivcmdFile } from '../../dist/dom0/privcmd.js';
import { type AddressSpace, type Process, X86_64 } from '../../dist/dom0/process.js';
import { FakeHypercalls } from '../support/fake-hypercalls.js';
import { answerOf, TASK_SIZE_MAX as TASK_SIZE_MAX_NUMBER } from '../support/fake-process.js';

const TASK_SIZE_MAX = BigInt(TASK_SIZE_MAX_NUMBER);
const U64 = 1n << 64n;
const LIST = 0x10_0000;
const ARGUMENT = 0x20_0000;

type Block = readonly [uptr: bigint, size: bigint];

/** A process in whose memory every address of user space can be written, and whose only bytes are its call's. */
class AnywhereProcess implements Process {
  readonly pid = 1;
  readonly pins: [number, number][] = [];
  /** Every address that the driver has touched, or pinned. */
  readonly touched: [number, number][] = [];
  readonly memory: Process['memory'];

  constructor(readonly contents: Map<number, Uint8Array>) {
    this.memory = {
      copyIn: (address, into) => {
        this.touched.push([address, into.length]);
        const bytes = contents.get(address);
        if (!bytes || bytes.length < into.length) throw new XenError('EFAULT', 'not the argument');
        into.set(bytes.subarray(0, into.length));
        // Another thread is quick: no second reading gets the same.
        for (let i = 0; i < into.length; i++) bytes[i] = (bytes[i] as number) ^ 0xff;
      },
      copyOut: (address, from) => {
        this.touched.push([address, from.length]);
      },
      pinForWrite: (address, size) => {
        this.pins.push([address, size]);
      },
    };
  }

  readonly addressSpace: AddressSpace = { area: () => 'fresh', mapFrames() {} };
  readonly hypercallMemory = { copyFrom() {}, copyTo() {} };
}

/** Numbers around those where arithmetic goes wrong. */
const corners = [0n, 1n, 4095n, 4096n, 4097n, 1n << 31n, 1n << 32n, 0x1_0000_1000n, 1n << 47n, 1n << 52n, 1n << 53n];
const address = fc.oneof(
  fc.bigInt(0n, U64 - 1n),
  fc.bigInt(-5000n, 5000n).map((near) => TASK_SIZE_MAX + near),
  fc.bigInt(0n, TASK_SIZE_MAX),
  fc.bigInt(0n, TASK_SIZE_MAX >> 12n).map((page) => page << 12n),
  fc
    .tuple(fc.constantFrom(...corners, U64, 1n << 63n), fc.bigInt(-3n, 3n))
    .map(([at, d]) => BigInt.asUintN(64, at + d)),
);
const size = fc.oneof(
  { weight: 6, arbitrary: fc.bigInt(0n, 4096n) },
  { weight: 1, arbitrary: fc.bigInt(4090n, 4100n) },
  { weight: 1, arbitrary: address },
);
const block: fc.Arbitrary<Block> = fc.tuple(address, size);
/** Half of all lists could pass: else the first check is all that is ever seen. */
const soundBlock: fc.Arbitrary<Block> = fc
  .tuple(fc.bigInt(0n, TASK_SIZE_MAX), fc.bigInt(0n, 4096n))
  .map(([at, n]) => [at > TASK_SIZE_MAX - n ? TASK_SIZE_MAX - n : at, n]);
const blocks = fc.oneof(fc.array(block, { maxLength: 18 }), fc.array(soundBlock, { maxLength: 18 }));
const domid = fc.oneof(fc.integer({ min: 0, max: 3 }), fc.integer({ min: 0, max: 0xffff }));

function listOf(all: readonly Block[]): Uint8Array {
  return new Uint8Array(BigUint64Array.from(all.flat()).buffer);
}

function restrictTo(file: PrivcmdFile, to: number): void {
  const process = new AnywhereProcess(new Map([[ARGUMENT, Uint8Array.of(to & 0xff, to >> 8)]]));
  expect(file.ioctl(P.IOCTL_PRIVCMD_RESTRICT, ARGUMENT, process)).toBe(0);
}

/** Linux's rules, in exact arithmetic. */
function expected(restricted: number | undefined, dom: number, all: readonly Block[]): string {
  if (restricted !== undefined && restricted !== dom) return 'EPERM';
  if (all.length === 0) return '0';
  if (all.length > 16) return 'E2BIG';
  for (const [at, n] of all) {
    if (n > 4096n) return 'E2BIG';
    if (at + n > TASK_SIZE_MAX) return 'EFAULT';
  }
  return all.some(([at, n]) => n === 0n && at % 4096n === 0n) ? 'EFAULT' : '0';
}

/** Where a buffer lies, found out through the buffer itself: by copying its first and last byte. */
function rangeOf(buffer: GuestBuffer, process: AnywhereProcess): Block {
  process.touched.length = 0;
  if (buffer.size > 0) {
    buffer.copyTo(0, Uint8Array.of(1));
    buffer.copyTo(buffer.size - 1, Uint8Array.of(1));
    expect(() => buffer.copyTo(buffer.size, Uint8Array.of(1))).toThrow(XenError);
  }
  const [first, last] = process.touched;
  if (!first || !last) return [-1n, 0n];
  expect(last[0] - first[0] + 1).toBe(buffer.size);
  return [BigInt(first[0]), BigInt(buffer.size)];
}

test('a DM_OP gets what Linux’s rules say, and its blocks to the hypervisor only where they are sound', () => {
  let nrPassed = 0;
  fc.assert(
    fc.property(blocks, domid, fc.option(domid, { nil: undefined }), (all, dom, restricted) => {
      const xen = new FakeHypercalls();
      const file = new PrivcmdFile(xen, X86_64);
      if (restricted !== undefined && restricted !== 0x7ff4) restrictTo(file, restricted);
      const argument = new DataView(new ArrayBuffer(16));
      argument.setUint16(0, dom, true);
      argument.setUint16(2, all.length, true);
      argument.setBigUint64(8, BigInt(LIST), true);
      const process = new AnywhereProcess(
        new Map([
          [ARGUMENT, new Uint8Array(argument.buffer)],
          [LIST, listOf(all)],
        ]),
      );
      const answer = answerOf(() => file.ioctl(P.IOCTL_PRIVCMD_DM_OP, ARGUMENT, process));
      expect(answer).toBe(expected(file.restrictedTo, dom, all));
      expect(xen.nrCalls).toBe(xen.dmOps.length);
      expect(xen.nrCalls).toBe(answer === '0' && all.length > 0 ? 1 : 0);
      if (xen.nrCalls === 0) return;
      nrPassed++;
      const { domid: to, buffers } = xen.dmOps[0]!;
      expect(to).toBe(dom);
      expect(process.pins.map((pin) => pin.map(BigInt))).toEqual(all.map((one) => [...one]));
      const passed = buffers.map((buffer) => rangeOf(buffer, process));
      expect(passed).toEqual(all.map(([at, n]) => (n === 0n ? [-1n, 0n] : [at, n])));
      for (const [at, n] of passed) expect(at + n <= TASK_SIZE_MAX).toBe(true);
    }),
    { numRuns: 1500 },
  );
  expect(nrPassed).toBeGreaterThan(100);
});

test('access_ok is exact for every pair of 64-bit numbers', () => {
  fc.assert(
    fc.property(address, fc.oneof(address, size), (at, n) => {
      const bytes = new Uint8Array(BigUint64Array.of(at, n).buffer);
      const [from, length] = decode(array(addressLayout, 2), bytes) as [number, number];
      expect(X86_64.accessOk(from, length)).toBe(at + n <= TASK_SIZE_MAX);
    }),
    { numRuns: 2000 },
  );
});

const COMMANDS = Object.entries(P).flatMap(([name, value]) => (name.startsWith('IOCTL_') ? [value as number] : []));

test('whatever bytes come, a restricted privcmd is for its own domain or for nobody', () => {
  const own = 5;
  const dom = fc.oneof(fc.constant(own), fc.constantFrom(0, 4, 6, 0x0105, 0x7ff4, 0xffff));
  let nrReached = 0;
  fc.assert(
    fc.property(
      fc.constantFrom(...COMMANDS),
      fc.uint8Array({ minLength: 64, maxLength: 64 }),
      dom,
      fc.nat(3),
      (cmd, bytes, d, n) => {
        const xen = new FakeHypercalls();
        const file = new PrivcmdFile(xen, X86_64);
        restrictTo(file, own);
        // Both places where a struct can have its domain, small counts and pointers that lead somewhere, most of the time.
        const view = new DataView(bytes.buffer);
        if (n > 0) {
          view.setUint32(
            0,
            cmd === P.IOCTL_PRIVCMD_DM_OP || cmd === P.IOCTL_PRIVCMD_MMAP_RESOURCE ? d | (n << 16) : n,
            true,
          );
          if (cmd !== P.IOCTL_PRIVCMD_DM_OP && cmd !== P.IOCTL_PRIVCMD_MMAP_RESOURCE) view.setUint16(4, d, true);
          for (const at of [8, 16, 24]) view.setBigUint64(at, BigInt(LIST), true);
        }
        const process = new AnywhereProcess(
          new Map([
            [ARGUMENT, bytes],
            [LIST, new Uint8Array(64)],
          ]),
        );
        const answer = answerOf(() => file.ioctl(cmd, ARGUMENT, process));
        if (cmd === P.IOCTL_PRIVCMD_HYPERCALL) expect(answer).toBe('EPERM');
        expect(xen.hypercalls).toEqual([]);
        for (const to of xen.domids) expect(to).toBe(own);
        for (const [at, length] of process.touched) expect(BigInt(at) + BigInt(length) <= TASK_SIZE_MAX).toBe(true);
        expect(file.restrictedTo).toBe(own);
        nrReached += xen.nrCalls;
      },
    ),
    { numRuns: 1500 },
  );
  expect(nrReached).toBeGreaterThan(50);
});

const EVTCHN = Object.entries(E).flatMap(([name, value]) => (name.startsWith('IOCTL_') ? [value as number] : []));

test('whatever is asked of a restricted evtchn, it binds to its own domain and touches its own ports', () => {
  const own = 5;
  const word = fc.oneof(fc.constantFrom(own, 0x10005, 0, 4, 7, 8, 9), fc.integer({ min: 0, max: 0xffff_ffff }));
  const step = fc.tuple(fc.constantFrom(...EVTCHN), word, word);
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), (steps) => {
      const xen = new FakeHypercalls();
      const file = new EvtchnFile(xen.events, new Map(), () => {}, 8);
      const call = (cmd: number, ...words: number[]) => {
        const bytes = new Uint8Array(Uint32Array.from(words).buffer);
        const process = new AnywhereProcess(new Map([[ARGUMENT, bytes]]));
        return answerOf(() => file.ioctl(cmd, ARGUMENT, process));
      };
      expect(call(E.IOCTL_EVTCHN_RESTRICT_DOMID, own)).toBe('0');
      const owned = new Set<number>();
      let nrSeen = 0;
      for (const [cmd, ...words] of steps) {
        const answer = call(cmd, ...words);
        for (const line of xen.events.log.slice(nrSeen)) {
          const [what, first] = line.split(' ') as [string, string];
          if (what === 'bindInterdomain') {
            expect(Number(first)).toBe(own);
            owned.add(Number(answer));
          } else {
            expect(['send', 'unmask', 'close']).toContain(what);
            expect([...owned]).toContain(Number(first));
            if (what === 'close') owned.delete(Number(first));
          }
        }
        nrSeen = xen.events.log.length;
      }
    }),
    { numRuns: 400 },
  );
});
