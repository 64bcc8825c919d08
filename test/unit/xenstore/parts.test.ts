// The parts below the operations: slots of bytes, paths, the table of nodes, the output queue.
import { describe, expect, it } from 'vitest';
import { ByteArena, latin1, latin1Bytes, sameSlotSize } from '../../../dist/xenstore/arena.js';
import { OPERATIONS, typeName } from '../../../dist/xenstore/operations/index.js';
import { getU32, OutputQueue } from '../../../dist/xenstore/output-queue.js';
import { Path } from '../../../dist/xenstore/path.js';
import type { Cause } from '../../../dist/xenstore/view.js';
import { show, World } from './harness.js';

describe('byte arena', () => {
  it('keeps bytes of every length apart, and reuses what is given back', () => {
    const arena = new ByteArena();
    const data = Uint8Array.from({ length: 4608 }, (_, i) => i * 7);
    const lengths = Array.from({ length: 4609 }, (_, i) => i);
    const refs = lengths.map((n) => arena.store(data, n % 5, n - (n % 5 > n ? 0 : n % 5)));
    lengths.forEach((n, i) => {
      const length = n - (n % 5 > n ? 0 : n % 5);
      if (length > 0) expect(arena.equals(refs[i] as number, data, n % 5, length)).toBe(true);
    });
    const reserved = arena.bytesReserved;
    lengths.forEach((n, i) => {
      arena.free(refs[i] as number, n - (n % 5 > n ? 0 : n % 5));
    });
    expect(arena.slotsInUse).toBe(0);
    for (const n of lengths) arena.store(data, n % 5, n - (n % 5 > n ? 0 : n % 5));
    expect(arena.bytesReserved).toBe(reserved);
  });

  it('says when one value can take the place of another', () => {
    expect(sameSlotSize(1, 8)).toBe(true);
    expect(sameSlotSize(8, 9)).toBe(false);
    expect(sameSlotSize(0, 0)).toBe(false);
  });

  it('latin1 is exact for every byte', () => {
    const all = Uint8Array.from({ length: 256 }, (_, i) => i);
    expect(latin1Bytes(latin1(all, 0, 256))).toEqual(all);
  });
});

it('a path gives the same hashes whether absolute, relative or as a prefix of a longer one', () => {
  const parse = (text: string): Path => {
    const path = new Path(99);
    expect(path.parse(latin1Bytes(text), 0, text.length, latin1Bytes('/home'), 2048)).toBe(true);
    return path;
  };
  expect(parse('a/b').toString()).toBe('/home/a/b');
  expect(parse('a/b').hash).toBe(parse('/home/a/b').hash);
  expect(parse('/home/a/b/c').prefixHash[2]).toBe(parse('/home/a/b').hash);
  expect(parse('/home/a/b/c').prefixLength[2]).toBe('/home/a/b'.length);
  expect(parse('/').depth).toBe(0);
  expect(new Path(1).parse(latin1Bytes('/a'), 0, 2, latin1Bytes('/h'), 2048)).toBe(true);
});

describe('output queue', () => {
  function queue(): { out: OutputQueue; settled: Cause[]; put: (text: string) => void } {
    const settled: Cause[] = [];
    const out = new OutputQueue((cause) => settled.push(cause));
    const put = (text: string): void => {
      const at = out.begin(15, 0, 0, text.length);
      out.buffer.set(latin1Bytes(text), at);
    };
    return { out, settled, put };
  }
  const cause = {} as Cause;

  it('keeps order and bytes whatever is taken when', () => {
    const { out, put } = queue();
    let written = '';
    let taken = '';
    for (let i = 0; i < 3000; i++) {
      const text = `${i}-`.repeat(1 + (i % 90));
      put(text);
      written += text;
      if (i % 3 !== 0) continue;
      // Whole messages only, so that payloads can be told from headers.
      while (out.size > 2000) {
        const bytes = out.bytes();
        const length = getU32(bytes, 12);
        taken += latin1(bytes, 16, 16 + length);
        out.consume(16 + length);
      }
    }
    while (out.size > 0) {
      const length = getU32(out.bytes(), 12);
      taken += latin1(out.bytes(), 16, 16 + length);
      out.consume(16 + length);
    }
    expect(taken === written).toBe(true);
  });

  it('settles a message when its last byte is taken, or when it is dropped', () => {
    const { out, settled, put } = queue();
    put('abc');
    out.mark(3, cause, 0);
    out.consume(18);
    expect(settled).toHaveLength(0);
    out.consume(1);
    expect(settled).toHaveLength(1);
    put('def');
    out.mark(3, cause, 0);
    out.clear();
    expect(settled).toHaveLength(2);
  });

  it('drops stale events, but not one that has begun, and keeps what is between', () => {
    const { out, settled, put } = queue();
    for (const [text, expires] of [
      ['begun', 5],
      ['stale', 5],
      ['reply', 0],
      ['stale too', 6],
      ['fresh', 20],
    ] as const) {
      put(text);
      out.mark(text.length, cause, expires);
    }
    out.consume(3);
    expect(out.nextExpiry()).toBe(5);
    expect(out.dropExpired(10)).toBe(16 + 5 + 16 + 9);
    expect(settled).toHaveLength(2);
    out.consume(16 + 5 - 3);
    expect(latin1(out.bytes(), 16, 21)).toBe('reply');
    out.consume(21);
    expect(latin1(out.bytes(), 16, 21)).toBe('fresh');
    expect(out.nextExpiry()).toBe(20);
    out.consume(21);
    expect(settled).toHaveLength(5);
  });

  it('merges only what is equal and waits', () => {
    const { out, put } = queue();
    put('one');
    expect(out.merge(1, 3)).toBe(false);
    put('one');
    expect(out.merge(1, 3)).toBe(true);
    put('two');
    expect(out.merge(1, 3)).toBe(false);
    out.consume(2 * 19);
    put('two');
    expect(out.merge(1, 3)).toBe(false);
    expect(out.size).toBe(19);
  });
});

it('a store of many nodes finds each, and lists them in order', () => {
  const { tool, server } = new World();
  for (let i = 0; i < 5000; i++) tool.ask('WRITE', `/t/${i % 10}/${i}|${i}`);
  for (let i = 0; i < 5000; i += 7) expect(tool.ask('READ', `/t/${i % 10}/${i}|`)).toBe(`${i}`);
  expect(tool.ask('RM', '/t/3|')).toBe('OK|');
  for (let i = 0; i < 5000; i += 7)
    expect(tool.ask('READ', `/t/${i % 10}/${i}|`)).toBe(i % 10 === 3 ? 'ENOENT' : `${i}`);
  expect(tool.ask('DIRECTORY', '/t|')).toBe('0|1|2|4|5|6|7|8|9|');
  expect(server.check()).toEqual([]);
});

it('the table of operations covers every type that a client may send', () => {
  const missing = Array.from({ length: 27 }, (_, type) => type).filter((type) => OPERATIONS[type] === undefined);
  expect(missing.map(typeName)).toEqual(['WATCH_EVENT', 'ERROR']);
  OPERATIONS.forEach((operation, type) => {
    if (operation !== undefined) expect(operation.type).toBe(type);
  });
});

it('CONTROL tells about quotas, usage, memory and itself', () => {
  const reports: [string, string | null][] = [];
  const w = new World({
    report: (text, file) => {
      reports.push([text, file]);
      return true;
    },
  });
  w.guest(1);
  expect(w.tool.ask('CONTROL', 'quota|1|')).toBe(
    [
      'Domain 1:',
      'nodes           :        1',
      'watches         :        0',
      'transactions    :        0',
      'outstanding     :        0',
      'memory          :       47',
      '|',
    ].join('\n'),
  );
  expect(w.tool.ask('CONTROL', 'memreport|/tmp/x|')).toBe('OK|');
  expect(reports[0]?.[0]).toContain('domain 1: 1 nodes, 47 bytes');
  expect(reports[0]?.[1]).toBe('/tmp/x');
  expect(new World().tool.ask('CONTROL', 'memreport|')).toBe('EINVAL');
  expect(
    w.tool
      .ask('CONTROL', 'help|')
      .split('\n')
      .map((l) => l.split('\t')[0]),
  ).toEqual(['check', 'live-update', 'log', 'memreport', 'print', 'quota', 'quota-soft', 'help', '|']);
  expect(w.tool.ask('CONTROL', 'toString|')).toBe('EINVAL');
});

it('the trace shows every message both ways, unless switched off', () => {
  const seen: string[] = [];
  const w = new World({
    trace: ({ direction, type, payload }) =>
      seen.push(`${direction} ${typeName(type)} ${latin1(payload, 0, payload.length)}`),
  });
  w.tool.ask('WATCH', '/t|tok|');
  w.tool.ask('WRITE', '/t|v');
  w.tool.ask('READ', '/none|', 9);
  w.tool.ask('CONTROL', 'log|off|');
  w.tool.ask('READ', '/t|');
  expect(seen.map((line) => line.replaceAll('\0', '|'))).toEqual([
    'in WATCH /t|tok|',
    'out WATCH OK|',
    'out WATCH_EVENT /t|tok|',
    'in WRITE /t|v',
    'out WATCH_EVENT /t|tok|',
    'out WRITE OK|',
    'in READ /none|',
    'out ERROR ENOENT|',
    'in CONTROL log|off|',
  ]);
});

it('serves the start-up of QEMU', () => {
  const w = new World({ domainExists: (domid) => domid <= 1 });
  const qemu = w.client(0);
  expect(qemu.all('READ', 'domid|')).toEqual(['ERROR ENOENT|']);
  for (const type of ['console', 'vkbd', '9pfs', 'qusb']) {
    expect(qemu.all('MKDIR', `device-model/1/backends/${type}|`)).toEqual(['MKDIR OK|']);
    expect(qemu.all('SET_PERMS', `device-model/1/backends/${type}|n0|n1|`)).toEqual(['SET_PERMS OK|']);
    const watch = `backend/${type}/1|be:0x55b362028970:1:0x55b3623f4e80|`;
    qemu.send('WATCH', watch);
    qemu.send('DIRECTORY', `backend/${type}/1|`);
    expect(qemu.take().map(show)).toEqual(['WATCH OK|', `WATCH_EVENT ${watch}`, 'ERROR ENOENT|']);
  }
  expect(qemu.all('WRITE', 'device-model/1/state|running')).toEqual(['WRITE OK|']);
  expect(w.tool.ask('READ', '/local/domain/0/device-model/1/state|')).toBe('running');
});
