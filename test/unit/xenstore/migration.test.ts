// The migration stream: what it holds, and everything that is refused. Random states are the property test's.
import { describe, expect, it } from 'vitest';
import { dump, SlicedDump } from '../../../dist/xenstore/migration/dump.js';
import { JournalRecords } from '../../../dist/xenstore/migration/journal.js';
import { readStream } from '../../../dist/xenstore/migration/record-reader.js';
import { RecordWriter } from '../../../dist/xenstore/migration/record-writer.js';
import { StreamError } from '../../../dist/xenstore/migration/records.js';
import { Restorer } from '../../../dist/xenstore/migration/restore.js';
import { bytes, World } from './harness.js';

function restored(...streams: Uint8Array[]): World {
  const world = new World({ domainExists: (domid) => domid < 100 });
  world.tool.connection.close();
  const restorer = new Restorer(world.server);
  const [stream, ...frames] = streams as [Uint8Array, ...Uint8Array[]];
  restorer.stream(stream);
  for (const frame of frames) restorer.frame(frame);
  restorer.finish({ ring: () => null });
  expect(world.server.check()).toEqual([]);
  return world;
}

/** A stream of records whose bodies are words of 32 bits, and bytes. */
function stream(...records: [type: number, ...body: (number | string)[]][]): Uint8Array {
  const w = new RecordWriter();
  w.streamHeader(2);
  for (const record of records) put(w, record);
  put(w, [0]);
  return w.bytes().slice();
}

function put(w: RecordWriter, [type, ...body]: readonly [number, ...(number | string)[]]): void {
  w.begin(type);
  for (const part of body) {
    if (typeof part === 'number') w.u32(part);
    else w.copy(bytes(part));
  }
  w.end();
}

const n0 = 'n\0\0\0';
const pair = (low: number, high: number): number => ((high << 16) | low) >>> 0;

/** A committed node. */
function node(path: string, perms = n0, value = ''): [number, ...(number | string)[]] {
  return [5, 0, 0, pair(path.length + 1, value.length), pair(0, perms.length / 4), perms, `${path}|`, value];
}

const ring = (domid: number, id = domid + 1): [number, ...number[]] => [2, id, 0, pair(domid, 0x7ff4), 7, 0, 0];
const socket = (id: number, ...rest: (number | string)[]): [number, ...(number | string)[]] => [
  2,
  id,
  pair(1, 0),
  5,
  0,
  ...(rest.length > 0 ? rest : [0, 0]),
];

describe('a stream', () => {
  it('is as Xen 4.17 takes it, where version 1 is asked for', () => {
    const world = new World();
    world.guest(3);
    world.tool.ask('WATCH', '/a|t|2|');
    world.tool.ask('SET_QUOTA', 'nodes|7|');
    const types = (version: 1 | 2) => [
      ...new Set([...readStream(dump(world.server, { version, fdOf: () => 9 }))].map((record) => record.type)),
    ];
    expect(types(2)).toEqual([6, 2, 8, 5]);
    const old = dump(world.server, { version: 1, fdOf: () => 9 });
    expect([...old.subarray(0, 16)]).toEqual([...bytes('xenstore'), 0, 0, 0, 1, 0, 0, 0, 0]);
    const seen = new Set<number>();
    const view = new DataView(old.buffer);
    for (let at = 16; at < old.length; at += 8 + view.getUint32(at + 4, true)) seen.add(view.getUint32(at, true));
    expect([...seen]).toEqual([2, 3, 5, 0]);
  });

  it('leaves out without extensions whom the format would make privileged', () => {
    const world = new World({}, { allowRestrict: true });
    const client = world.client(0);
    client.ask('RESTRICT', '5|');
    const connections = (extensions: boolean) =>
      [...readStream(dump(world.server, { extensions, fdOf: () => 9 }))].filter((r) => r.type === 2).length;
    expect(connections(false)).toBe(1);
    expect(connections(true)).toBe(2);
  });

  it('skips what it does not know, and takes what is stale for nobody', () => {
    const world = restored(
      stream(
        [0xffff0000, 1, 2],
        node('/'),
        node('/a', `n\x00\x05\0r\x01\x06\0w\x00\xf1\x7f`, 'v'),
        node('/b', 'r\x01\x05\0'),
      ),
    );
    const tool = world.client(0);
    expect(tool.ask('READ', '/a|')).toBe('v');
    expect(tool.ask('GET_PERMS', '/a|')).toBe('n5|r6|w32753|');
    expect(tool.ask('GET_PERMS', '/b|')).toBe('r0|');
    expect(world.client(6).ask('READ', '/a|')).toBe('EACCES');
  });

  it('ends domains that have gone meanwhile, with all they had', () => {
    const world = restored(stream(ring(200), node('/'), node('/a', 'n\0\xc8\0'), node('/a/b')));
    expect(world.server.domains.get(200)).toBe(null);
    expect(world.client(0).ask('READ', '/a|')).toBe('ENOENT');
  });

  const good = [node('/'), node('/a')] as const;
  const cases: [name: string, bytes: Uint8Array, reason: RegExp][] = [
    ['nothing', new Uint8Array(0), /no header/],
    ['another file', new Uint8Array(64), /not a XenStore stream/],
    ['a later version', stream().with(11, 3), /version 3 .* is not known/],
    ['big-endian', stream().with(15, 1), /little-endian/],
    ['no end', stream(...good).slice(0, -8), /without an END/],
    ['half a header', stream(...good).slice(0, -4), /half a record header/],
    ['a record cut off', stream(...good).slice(0, -20), /longer than the stream/],
    ['a body too short', stream([5, 0, 0]), /0 bytes where 2 are needed/],
    ['a node twice', stream(...good, node('/a')), /\/a twice/],
    ['a node without a parent', stream(node('/'), node('/a/b')), /\/a\/b has no parent/],
    ['a node without permissions', stream(node('/'), node('/a', '')), /no permissions/],
    ['a permission of no kind', stream(node('/', 'x\0\0\0')), /none of n, r, w, b/],
    ['a path that is none', stream(node('/'), node('/a//b')), /not a path/],
    ['a relative path', stream(node('/'), node('a')), /not a path/],
    ['a path with a nul', stream(node('/'), node('/a|b')), /without its end/],
    ['a value too large', stream(node('/'), node('/a', n0, 'x'.repeat(4097))), /a value of 4097 bytes/],
    ['special permissions removed', stream(node('@releaseDomain', '')), /without permissions/],
    ['connection 0', stream(socket(0)), /connection 0/],
    ['a connection twice', stream(socket(9), socket(9)), /connection 9 twice/],
    ['two rings of a domain', stream(ring(3), ring(3, 77)), /two rings/],
    ['a ring of nobody', stream(ring(0x7ff1)), /can be no domain/],
    ['a connection of no kind', stream([2, 9, 7, 0, 0, 0, 0]), /kind 7/],
    ['output that is no messages', stream(socket(9, 0, 3, 'abc')), /no sequence of messages/],
    ['output too long', stream(socket(9, 0, 99)), /where 99 are needed/],
    ['a watch of nobody', stream([8, 9, pair(3, 2), pair(0xffff, 0), '/a|t|']), /no connection 9/],
    ['a watch twice', stream(socket(9), watch(9, '/a'), watch(9, '/a')), /set twice/],
    ['a watch on no path', stream(socket(9), watch(9, '/a/')), /not a path to watch/],
    ['a transaction of nobody', stream([4, 9, 1]), /no connection 9/],
    ['a transaction twice', stream(socket(9), [4, 9, 1], [4, 9, 1]), /transaction 1/],
    ['transaction 0', stream(socket(9), [4, 9, 0]), /transaction 0/],
    ['a node of no transaction', stream(socket(9), [5, 9, 1, pair(3, 0), 0, '/a|']), /transaction 1 that isn't there/],
    ['limits without names', stream([6, 3, 1, 2]), /3 limits and 0 names/],
    ['a restriction to dom0', stream(socket(9), [0x50530002, 9, 0]), /restriction to domain 0/],
  ];

  function watch(id: number, path: string): [number, ...(number | string)[]] {
    return [8, id, pair(path.length + 1, 2), pair(0xffff, 0), `${path}|t|`];
  }

  it.each(cases)('with %s is refused', (_name, damaged, reason) => {
    expect(() => restored(damaged)).toThrow(StreamError);
    expect(() => restored(damaged)).toThrow(reason);
  });
});

describe('a transaction that can only fail', () => {
  it('is handed on with all that it has looked at, as it was', () => {
    const world = new World();
    const [a, b] = [world.client(0), world.client(0)];
    for (const name of ['value', 'perms', 'removed', 'parent/child', 'mine', 'same']) b.ask('WRITE', `/${name}|old`);
    a.begin('t');
    expect(a.ask('READ', '/value|', 't')).toBe('old');
    expect(a.ask('GET_PERMS', '/perms|', 't')).toBe('n0|');
    expect(a.ask('READ', '/removed|', 't')).toBe('old');
    expect(a.ask('READ', '/parent/child|', 't')).toBe('old');
    expect(a.ask('READ', '/new|', 't')).toBe('ENOENT');
    expect(a.ask('READ', '/same|', 't')).toBe('old');
    a.ask('WRITE', '/mine|mine', 't');
    a.ask('WRITE', '/mine/too|mine', 't');
    for (const name of ['value', 'new/below', 'mine']) b.ask('WRITE', `/${name}|other`);
    b.ask('SET_PERMS', '/perms|n0|r3|');
    for (const name of ['removed', 'parent']) b.ask('RM', `/${name}|`);
    const stream = dump(world.server, { extensions: true, fdOf: (c) => (c === a.connection ? 7 : -1) });
    const next = new World();
    const restorer = new Restorer(next.server);
    restorer.stream(stream);
    const again = next.client(0);
    restorer.finish({ socket: () => again.connection });
    expect(next.server.check()).toEqual([]);
    const [tx] = again.connection.transactions.keys() as unknown as [number];
    const ask = (type: string, payload: string): string | undefined => {
      again.send(type, payload, tx);
      return again.take()[0]?.payload;
    };
    expect(ask('READ', '/value|')).toBe('old');
    expect(ask('GET_PERMS', '/perms|')).toBe('n0|');
    expect(ask('READ', '/removed|')).toBe('old');
    expect(ask('READ', '/parent/child|')).toBe('old');
    expect(ask('READ', '/new|')).toBe('ENOENT|');
    expect(ask('READ', '/new/below|')).toBe('ENOENT|');
    expect(ask('READ', '/same|')).toBe('old');
    expect(ask('READ', '/mine|')).toBe('mine');
    expect(ask('DIRECTORY', '/mine|')).toBe('too|');
    expect(ask('TRANSACTION_END', 'T|')).toBe('EAGAIN|');
    expect(again.ask('READ', '/value|')).toBe('other');
    expect(again.ask('READ', '/new/below|')).toBe('other');
    expect(again.ask('READ', '/removed|')).toBe('ENOENT');
    expect(next.server.check()).toEqual([]);
  });
});

describe('a transaction of a guest that can only fail', () => {
  it('gets to its end, even where what it has looked at is more than the guest may hold', () => {
    const world = new World();
    const guest = world.guest(3);
    const names = Array.from({ length: 10 }, (_, i) => `/local/domain/3/${i}`);
    for (const name of names) guest.ask('WRITE', `${name}|${'a'.repeat(2000)}`);
    guest.begin('t');
    for (const name of names) guest.ask('READ', `${name}|`, 't');
    for (const name of names) guest.ask('WRITE', `${name}|${'b'.repeat(2000)}`);
    world.tool.ask('SET_QUOTA', '3|memory|30000|');
    const next = new World({ domainExists: () => true });
    const restorer = new Restorer(next.server);
    restorer.stream(dump(world.server, { extensions: true }));
    const again = next.client(3);
    restorer.finish({ ring: () => again.connection });
    const [tx] = again.connection.transactions.keys() as unknown as [number];
    expect(again.ask('READ', `${names[0]}|`, tx)).toBe('a'.repeat(2000));
    expect(again.ask('TRANSACTION_END', 'T|', tx)).toBe('EAGAIN');
    expect(next.server.check()).toEqual([]);
  });
});

it('a snapshot that is taken bit by bit has no transaction that ends before its turn', () => {
  const world = new World();
  const guest = world.guest(3);
  guest.connection.ring = { position: { consumed: 0, produced: 0 }, resume: () => 0 };
  for (const name of ['s', 't', 'u']) {
    guest.begin(name);
    expect(guest.ask('WRITE', `mine|${name}`, name)).toBe('OK|');
  }
  const dumping = new SlicedDump(world.server, { extensions: true });
  const chunks: Uint8Array[] = [];
  const begun = (): number[] => {
    const end = new Uint8Array(8);
    const records = [...readStream(Buffer.concat([...chunks, end]))];
    return records.flatMap((record) => (record.type === 4 ? [record.transaction] : []));
  };
  let done = false;
  while (!done) {
    const step = dumping.step(1);
    chunks.push(step.chunk.slice());
    done = step.done;
    if (!done && begun().join() === '1') guest.ask('TRANSACTION_END', 'F|', 't');
  }
  expect(begun()).toEqual([1, 3]);
});

describe('a journal', () => {
  /** What a server looks like after its snapshot and the journal of what `change` does. */
  function journaled(prepare: (world: World) => void, change: (world: World) => void): World {
    const world = new World();
    prepare(world);
    const journal = new JournalRecords(world.server, 5);
    world.server.store.observer = journal;
    const snapshot = new SlicedDump(world.server, { extensions: true }).step(Number.POSITIVE_INFINITY).chunk.slice();
    expect(journal.length).toBe(0);
    change(world);
    expect(journal.length).toBeGreaterThan(0);
    const frame = journal.bytes().slice(5);
    journal.clear();
    expect(journal.length).toBe(0);
    return restored(snapshot, frame);
  }

  const before = (world: World): void => {
    world.tool.ask('WRITE', '/a/b|old');
    world.tool.ask('WRITE', '/a/c|old');
    world.guest(3);
  };

  it('has what a transaction changes: values, permissions, what is new and what is gone', () => {
    const world = journaled(before, ({ tool }) => {
      tool.begin('t');
      tool.ask('WRITE', '/a/b|new', 't');
      tool.ask('SET_PERMS', '/a|n3|', 't');
      tool.ask('RM', '/a/c|', 't');
      tool.ask('WRITE', '/a/d/e|new', 't');
      expect(tool.commit('t')).toBe('OK|');
    });
    const tool = world.client(0);
    expect(tool.ask('READ', '/a/b|')).toBe('new');
    expect(tool.ask('GET_PERMS', '/a|')).toBe('n3|');
    expect(tool.ask('DIRECTORY', '/a|')).toBe('b|d|');
    expect(tool.ask('READ', '/a/d/e|')).toBe('new');
  });

  it('has domains that come, go and come again: nothing is inherited', () => {
    const world = journaled(before, (w) => {
      w.tool.ask('SET_PERMS', '/a/b|n0|r3|');
      w.server.domainGone(3);
      w.tool.ask('INTRODUCE', '3|8|9|');
      w.tool.ask('INTRODUCE', '4|8|10|');
      w.tool.ask('SET_TARGET', '4|3|');
      w.server.domainShutdown(4);
    });
    const { domains } = world.server;
    expect(domains.get(3)?.ring).toEqual({ gfn: 8, port: 9 });
    expect(domains.get(4)?.target).toBe(domains.get(3));
    expect(domains.get(4)?.shutdown).toBe(true);
    expect(domains.get(3)?.shutdown).toBe(false);
    expect(world.client(3).ask('READ', '/a/b|')).toBe('EACCES');
    expect(world.client(0).ask('READ', '/local/domain/3|')).toBe('ENOENT');
  });

  it('has limits, features, and permissions of special watches', () => {
    const world = journaled(before, ({ tool }) => {
      tool.ask('SET_QUOTA', 'nodes|7|');
      tool.ask('SET_QUOTA', '3|soft-memory|5|');
      tool.ask('CONTROL', 'quota|set|watches|9|');
      tool.ask('SET_FEATURE', '5|1|');
      tool.ask('SET_PERMS', '@releaseDomain|n0|r3|');
    });
    const tool = world.client(0);
    expect(tool.ask('GET_QUOTA', 'nodes|')).toBe('7|');
    expect(tool.ask('GET_QUOTA', '3|soft-memory|')).toBe('5|');
    expect(tool.ask('GET_QUOTA', 'watches|')).toBe('9|');
    expect(tool.ask('GET_FEATURE', '5|')).toBe('1|');
    const { special } = world.server.watches;
    expect(String.fromCharCode(...special['@releaseDomain'].text)).toBe('n0\0r3\0');
  });

  it('may say of a transaction or a ring what a snapshot that was finished later has forgotten', () => {
    const w = new RecordWriter();
    put(w, [5, 4, 1, pair(3, 0), pair(0, 0), '/a|']);
    put(w, [8, 9, pair(3, 2), pair(0xffff, 0), '/a|t|']);
    put(w, [0x50530006, 9, pair(3, 2), '/a|t|']);
    put(w, [0x50530007, 8]);
    expect(restored(stream(ring(3), node('/')), w.bytes()).server.domains.get(3)?.introduced).toBe(true);
  });

  it.each([
    ['what waits for nobody', [0x50530003, 9, 0]],
    ['the end of the control domain', [0x50530007, 0]],
    ['the removal of what is not there', [5, 0, 0, pair(3, 0), 0, '/x|']],
    ['the removal of the root', [5, 0, 0, pair(2, 0), 0, '/|']],
    ['an END', [0]],
  ] as [string, [number, ...(number | string)[]]][])('with %s is refused', (_name, record) => {
    const w = new RecordWriter();
    put(w, record);
    expect(() => restored(stream(ring(3), node('/')), w.bytes())).toThrow(StreamError);
  });
});
