/** DM operations under random input. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ERRNO } from '../../dist/abi/errno.js';
import * as abi from '../../dist/abi/xen/dm-op.js';
import { DM_OPERATIONS } from '../../dist/hypervisor/hypercalls/dm-op/table.js';
import { MAX_NR_IO_RANGES } from '../../dist/hypervisor/ioreq/ioreq-server.js';
import { RangeSet } from '../../dist/hypervisor/ioreq/range-set.js';
import { addDomain, dm, runRaw, TestBuffer, testDomain, verdictOf } from '../support/dm-op.js';

/** Every errno that an operation on x86 may give. */
const DEFINED = new Set([
  'OK',
  ...['E2BIG', 'EBUSY', 'EEXIST', 'EFAULT', 'EINVAL', 'ENODATA', 'ENOENT', 'ENOMEM', 'ENOSPC'],
  ...['EOPNOTSUPP', 'EOVERFLOW', 'EPERM', 'ERANGE', 'ESRCH'],
]);

describe('ranges against a plain model', () => {
  const SPACE = 64;
  const step = fc.record({ add: fc.boolean(), start: fc.nat(SPACE - 1), length: fc.integer({ min: 1, max: 8 }) });

  /** A set of numbers, and Xen's rules in terms of it. */
  class Model {
    readonly members = new Set<number>();
    constructor(private readonly limit: number) {}

    runs(): [number, number][] {
      const runs: [number, number][] = [];
      for (const n of [...this.members].sort((a, b) => a - b)) {
        const last = runs.at(-1);
        if (last && last[1] + 1 === n) last[1] = n;
        else runs.push([n, n]);
      }
      return runs;
    }

    apply(add: boolean, start: number, end: number): string {
      const wanted = Array.from({ length: end - start + 1 }, (_, i) => start + i);
      const nrRuns = this.runs().length;
      if (add) {
        if (wanted.some((n) => this.members.has(n))) return 'EEXIST';
        if (nrRuns === this.limit && !this.members.has(start - 1)) return 'ENOMEM';
        for (const n of wanted) this.members.add(n);
        return 'OK';
      }
      if (!wanted.every((n) => this.members.has(n))) return 'ENOENT';
      if (nrRuns === this.limit && this.members.has(start - 1) && this.members.has(end + 1)) return 'ENOMEM';
      for (const n of wanted) this.members.delete(n);
      return 'OK';
    }
  }

  test('every answer and every set is the model’s', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.integer({ min: 1, max: 6 }), (steps, limit) => {
        const set = new RangeSet(limit);
        const model = new Model(limit);
        for (const { add, start, length } of steps) {
          const end = Math.min(start + length - 1, SPACE - 1);
          const [s, e] = [BigInt(start), BigInt(end)];
          let isDone = false;
          const verdict = verdictOf(() => {
            isDone = add ? set.add(s, e) : set.remove(s, e);
          });
          const ours = verdict === 'OK' && !isDone ? (add ? 'EEXIST' : 'ENOENT') : verdict;
          expect(ours).toBe(model.apply(add, start, end));
          expect([...set].map((r) => [Number(r.start), Number(r.end)])).toEqual(model.runs());
        }
      }),
      { numRuns: 300 },
    );
  });

  test('the same through DM operations: a request goes to a server exactly where all of it is claimed', () => {
    const t = testDomain();
    const { dispatcher } = t.hvm.ioreq;
    const claim = (op: number, id: number, start: number, end: number) =>
      dm(t, op, { id, type: abi.XEN_DMOP_IO_RANGE_PORT, start: BigInt(start), end: BigInt(end) }).verdict;
    fc.assert(
      fc.property(
        fc.array(
          fc.record({ id: fc.nat(1), add: fc.boolean(), start: fc.nat(60), length: fc.integer({ min: 1, max: 6 }) }),
          {
            maxLength: 25,
          },
        ),
        fc.nat(60),
        fc.constantFrom(1, 2, 4),
        (steps, addr, size) => {
          for (const id of [0, 1]) {
            expect(dm(t, abi.XEN_DMOP_create_ioreq_server).out.id).toBe(id);
            dm(t, abi.XEN_DMOP_set_ioreq_server_state, { id, enabled: 1 });
          }
          const models = [new Model(MAX_NR_IO_RANGES), new Model(MAX_NR_IO_RANGES)];
          for (const { id, add, start, length } of steps) {
            const op = add ? abi.XEN_DMOP_map_io_range_to_ioreq_server : abi.XEN_DMOP_unmap_io_range_from_ioreq_server;
            const end = start + length - 1;
            expect(claim(op, id, start, end)).toBe(models[id]!.apply(add, start, end));
          }
          const bytes = Array.from({ length: size }, (_, i) => addr + i);
          const expected = [1, 0].find((id) => bytes.every((byte) => models[id]!.members.has(byte)));
          const request = { space: 'port' as const, addr: BigInt(addr), size, isWrite: false, data: 0n };
          expect(dispatcher.select(request)?.id).toBe(expected);
          for (const id of [0, 1]) dm(t, abi.XEN_DMOP_destroy_ioreq_server, { id });
        },
      ),
      { numRuns: 150 },
    );
  });
});

describe('hostile buffers', () => {
  const interesting = fc.oneof(
    { weight: 3, arbitrary: fc.nat(0x820).map(BigInt) },
    fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn }),
    fc.constantFrom(0n, 1n, 0xfeff0n, 0xfefffn, 0xff000n, 1n << 32n, 1n << 36n, 1n << 52n, 1n << 63n, (1n << 64n) - 1n),
  );
  const payload = fc.oneof(
    fc.uint8Array({ minLength: 0, maxLength: 24 }),
    fc.array(interesting, { minLength: 3, maxLength: 3 }).map((words) => {
      const bytes = new Uint8Array(24);
      for (const [i, word] of words.entries()) new DataView(bytes.buffer).setBigUint64(i * 8, word, true);
      return bytes;
    }),
    fc.tuple(fc.nat(3), fc.nat(4), fc.nat(3), interesting, interesting).map(([a, b, c, d, e]) => {
      const bytes = new Uint8Array(24);
      const view = new DataView(bytes.buffer);
      view.setUint16(0, a, true);
      view.setUint16(2, c === 0 ? b : 0, true);
      view.setUint32(4, c === 1 ? b : 0, true);
      view.setBigUint64(8, d, true);
      view.setBigUint64(16, e, true);
      return bytes;
    }),
  );
  const op = fc.oneof(
    { weight: 20, arbitrary: fc.integer({ min: 1, max: 20 }) },
    fc.integer({ min: 0, max: 0xffffffff }),
  );
  const call = fc.record({
    op,
    pad: fc.oneof({ weight: 20, arbitrary: fc.constant(0) }, fc.constant(1)),
    payload,
    readable: fc.oneof({ weight: 10, arbitrary: fc.constant(64) }, fc.nat(40)),
    extra: fc.option(fc.uint8Array({ minLength: 0, maxLength: 64 })),
    isWritable: fc.boolean(),
    dueEvery: fc.integer({ min: 1, max: 3 }),
  });

  test('only defined errnos come out; other domains, and this one’s books, stay whole', () => {
    const seen = new Set<string>();
    fc.assert(
      fc.property(fc.array(call, { minLength: 1, maxLength: 40 }), fc.boolean(), (calls, logging) => {
        const t = testDomain();
        const bystander = addDomain(t.hypervisor);
        const before = snapshot(bystander);
        if (logging) t.hvm.logDirty.enable(false);
        for (const c of calls) {
          const bytes = new Uint8Array(8 + c.payload.length);
          new DataView(bytes.buffer).setUint32(0, c.op, true);
          new DataView(bytes.buffer).setUint32(4, c.pad, true);
          bytes.set(c.payload, 8);
          const first = new TestBuffer(bytes);
          first.readableUpTo = c.readable;
          first.isWritable = c.isWritable;
          const second = c.extra ? [new TestBuffer(c.extra)] : [];
          let asked = 0;
          const preemption = { due: () => ++asked % c.dueEvery === 0 };
          const { verdict } = runRaw(t.hypervisor, t.domain.domid, [first, ...second], preemption);
          seen.add(verdict);
          expect(DEFINED).toContain(verdict);
        }
        expect(snapshot(bystander)).toEqual(before);
        t.domain.kill({ due: () => false });
        expect(t.domain.life).toBe('dead');
        expect(t.domain.evtchn.nrActive).toBe(0);
        expect(t.domain.memory.totPages).toBe(0);
      }),
      { numRuns: 60 },
    );
    // The generator reaches past the first checks, or the property says nothing.
    expect([...seen]).toEqual(expect.arrayContaining(['OK', 'EINVAL', 'EFAULT', 'ENOENT', 'EOPNOTSUPP']));
  });

  /** What must not change in a domain that nobody addresses. */
  function snapshot({ domain, hvm }: ReturnType<typeof testDomain>) {
    return {
      mapped: domain.p2m.nrMapped,
      pages: domain.memory.totPages,
      ports: domain.evtchn.nrActive,
      servers: hvm.ioreq.size,
      shutdown: domain.isShutDown,
      types: [0, 1, 0x30, 0x7ff, 0xfeff0].map((gfn) => domain.p2m.type(gfn)),
      gsis: Array.from({ length: 48 }, (_, gsi) => hvm.interrupts.gsiAssertCount(gsi)),
    };
  }

  test('every errno that is said to be defined is one of Xen’s', () => {
    for (const name of DEFINED) if (name !== 'OK') expect(ERRNO).toHaveProperty(name);
    expect(DM_OPERATIONS).toHaveLength(20);
  });

  test('without its second buffer an operation answers the same whatever came before', () => {
    const t = testDomain();
    t.hvm.logDirty.enable(false);
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 64, maxLength: 64 }), fc.constantFrom(7, 11), (noise, number) => {
        runRaw(t.hypervisor, t.domain.domid, [new TestBuffer(noise.slice()), new TestBuffer(noise)]);
        const bytes = new Uint8Array(24);
        new DataView(bytes.buffer).setUint32(0, number, true);
        new DataView(bytes.buffer).setUint32(8, 1, true);
        expect(runRaw(t.hypervisor, t.domain.domid, [new TestBuffer(bytes)]).verdict).toBe('EINVAL');
      }),
      { numRuns: 100 },
    );
  });
});
