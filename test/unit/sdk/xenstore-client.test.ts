// The XenStore client against the real store: nodes, transactions, watches, aborts, loss and reconnection.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { XS_ERROR, XS_TRANSACTION_END } from '../../../dist/abi/xs-wire.js';
import { libc, SOCK_STREAM } from '../../../dist/host/libc.js';
import { acceptUnix, connectUnix, listenUnix } from '../../../dist/host/unix-socket.js';
import { XenStore, XenStoreError } from '../../../dist/sdk/xenstore.js';
import { message, StoreServer } from './xenstore-server.js';

let daemon: StoreServer;
let xs: XenStore;

beforeEach(async () => {
  daemon = await new StoreServer().listen();
  xs = await XenStore.connect({ path: daemon.path });
});

afterEach(async () => {
  xs.close();
  await daemon.close();
});

/** The code that a promise is rejected with. */
async function codeOf(wanted: Promise<unknown>): Promise<string> {
  const error = await wanted.then(
    (value) => new Error(`resolved: ${JSON.stringify(value)}`),
    (reason: Error) => reason,
  );
  return error instanceof XenStoreError ? error.code : String(error);
}

describe('nodes', () => {
  it('are written, read, listed and removed', async () => {
    await xs.write('/tool/a', 'one');
    await xs.write('/tool/b/c', Uint8Array.of(0, 255, 0x7c));
    await xs.mkdir('/tool/d');
    expect(await xs.read('/tool/a')).toBe('one');
    expect(await xs.readBytes('/tool/b/c')).toEqual(Uint8Array.of(0, 255, 0x7c));
    expect(await xs.list('/tool')).toEqual(['xenstored', 'a', 'b', 'd']);
    expect(await xs.list('/tool/d')).toEqual([]);
    await xs.remove('/tool/b');
    expect([await xs.exists('/tool/b'), await xs.exists('/tool/a')]).toEqual([false, true]);
    expect([await xs.readIfExists('/tool/b'), await xs.readIfExists('/tool/d')]).toEqual([undefined, '']);
  });

  it('keep text as UTF-8', async () => {
    await xs.write('/tool/a', 'größe €');
    expect(await xs.read('/tool/a')).toBe('größe €');
  });

  it('are told apart by what is wrong with them', async () => {
    expect(await codeOf(xs.read('/nope'))).toBe('ENOENT');
    expect(await codeOf(xs.read('/bad path'))).toBe('EINVAL');
    expect(await codeOf(xs.remove('/'))).toBe('EINVAL');
    expect(await codeOf(xs.control('no-such-command'))).toBe('EINVAL');
    await expect(xs.read('/nope')).rejects.toThrow('read /nope: ENOENT (there is no such node)');
  });

  it('cannot be named by a path that would be two, or none, and nothing is sent', async () => {
    for (const path of ['', '/a\0b', `/${'x'.repeat(4000)}`]) {
      expect(await codeOf(xs.write(path, 'v'))).toBe('EINVAL');
      expect(await codeOf(xs.list(path))).toBe('EINVAL');
      expect(await codeOf(xs.watch(path).next())).toBe('EINVAL');
    }
    expect(await codeOf(xs.control('print', ['a\0b']))).toBe('EINVAL');
    expect(await codeOf(xs.write('/a', 'x'.repeat(4094)))).toBe('E2BIG');
    expect(daemon.seen).toEqual([]);
    expect(await codeOf(xs.write('/a', 'x'.repeat(2000)))).toBe('Error: resolved: undefined');
  });

  it('have typed permissions', async () => {
    await xs.write('/tool/a', '');
    expect(await xs.getPermissions('/tool/a')).toEqual({ owner: 0, others: 'none', domains: [] });
    const permissions = { owner: 3, others: 'read', domains: [{ domid: 5, access: 'both' }] } as const;
    await xs.setPermissions('/tool/a', permissions);
    expect(await xs.getPermissions('/tool/a')).toEqual(permissions);
    await expect(xs.setPermissions('/tool/a', { ...permissions, owner: -1 })).rejects.toThrow(RangeError);
  });

  it('are listed however many they are, and however they change meanwhile', async () => {
    const names = Array.from({ length: 1000 }, (_, i) => `a-rather-long-name-${i}`);
    await Promise.all(names.map((name) => xs.mkdir(`/many/${name}`)));
    expect(await xs.list('/many')).toEqual(names);
    expect(daemon.names().filter((name) => name === 'DIRECTORY_PART').length).toBeGreaterThan(4);
    let parts = 0;
    daemon.intercept = ({ type, payload }) => {
      if (type === 'DIRECTORY_PART' && !payload.endsWith('|0|') && ++parts === 2) void xs.mkdir('/many/another');
      return undefined;
    };
    await xs.list('/many');
    expect(await xs.list('/many')).toEqual([...names, 'another']);
  });

  it('whose list changes all the time are given up on', async () => {
    await Promise.all(Array.from({ length: 600 }, (_, i) => xs.mkdir(`/many/a-rather-long-name-${i}`)));
    let generation = 0;
    daemon.intercept = ({ type, typeNumber, requestId, payload }) =>
      type === 'DIRECTORY_PART' && payload.length > 0
        ? message(typeNumber, requestId, `${++generation}|some|names|`)
        : undefined;
    expect(await codeOf(xs.list('/many'))).toBe('EAGAIN');
  });
});

describe('domains and administration', () => {
  it('are asked about', async () => {
    expect(await xs.domainPath(7)).toBe('/local/domain/7');
    expect(await xs.isDomainIntroduced(7)).toBe(false);
    await xs.introduce({ domid: 7, gfn: 5n, port: 1 });
    await xs.introduce({ domid: 8, gfn: 5n, port: 1 });
    expect(await xs.isDomainIntroduced(7)).toBe(true);
    await xs.setTarget(8, 7);
    await xs.resume(7);
    await xs.release(7);
    expect(await xs.isDomainIntroduced(7)).toBe(false);
    expect(await codeOf(xs.release(7))).toBe('ENOENT');
  });

  it('have quotas and features', async () => {
    expect(await xs.control('quota')).toContain('nodes');
    expect(await xs.quotaNames()).toContain('nodes');
    await xs.setQuota('nodes', 77);
    expect(await xs.quota('nodes')).toBe(77);
    expect(await xs.features()).toEqual({ bits: 7, reconnection: true, ringErrors: true, watchDepth: true });
  });

  it('can be restricted to', async () => {
    await xs.write('/local/domain/7/name', 'guest');
    await xs.write('/secret', 'x');
    await xs.setPermissions('/local/domain/7/name', { owner: 7, others: 'none', domains: [] });
    await xs.restrict(7);
    expect(await xs.read('/local/domain/7/name')).toBe('guest');
    expect(await codeOf(xs.read('/secret'))).toBe('EACCES');
    const client = await XenStore.connect({ path: daemon.path, reconnect: true });
    expect(await codeOf(client.restrict(7))).toBe('EINVAL');
    client.close();
  });
});

describe('transactions', () => {
  it('happen all at once', async () => {
    await xs.write('/n', '1');
    const other = await XenStore.connect({ path: daemon.path });
    const seen = await xs.transaction(async (tx) => {
      await tx.write('/n', '2');
      await tx.write('/m/deep', 'x');
      return [await tx.read('/n'), await other.read('/n'), await other.exists('/m')];
    });
    expect(seen).toEqual(['2', '1', false]);
    expect([await other.read('/n'), await other.read('/m/deep')]).toEqual(['2', 'x']);
    other.close();
  });

  it('are run again after a conflict, and count right under contention', async () => {
    await xs.write('/n', '0');
    const clients = await Promise.all(Array.from({ length: 4 }, () => XenStore.connect({ path: daemon.path })));
    let runs = 0;
    const increment = (client: XenStore): Promise<void> =>
      client.transaction(async (tx) => {
        runs++;
        await tx.write('/n', String(Number(await tx.read('/n')) + 1));
      });
    await Promise.all(
      clients.map(async (client) => {
        for (let i = 0; i < 10; i++) await increment(client);
      }),
    );
    for (const client of clients) client.close();
    expect(await xs.read('/n')).toBe('40');
    expect(runs).toBeGreaterThan(40);
  });

  it('are given up on after as many retries as allowed', async () => {
    daemon.intercept = ({ typeNumber, requestId }) =>
      typeNumber === XS_TRANSACTION_END ? message(XS_ERROR, requestId, 'EAGAIN|') : undefined;
    let runs = 0;
    const failing = xs.transaction(() => void runs++, { retries: 3 });
    await expect(failing).rejects.toThrow('conflicts with other clients at each of 4 attempts');
    expect(runs).toBe(4);
  });

  it('leave nothing when the callback throws, and nothing is sent through them after it', async () => {
    const failure = new Error('changed my mind');
    let late: Promise<void> | undefined;
    const failing = xs.transaction(async (tx) => {
      await tx.write('/n', '2');
      queueMicrotask(() => setTimeout(() => (late = tx.write('/n', '3').catch((error: Error) => error) as never), 0));
      throw failure;
    });
    await expect(failing).rejects.toBe(failure);
    expect(await xs.exists('/n')).toBe(false);
    await expect.poll(() => late).toBeDefined();
    expect(String(await late)).toContain('this transaction is over');
    expect(daemon.names()).toEqual(['TRANSACTION_START', 'WRITE', 'TRANSACTION_END', 'READ']);
    expect(daemon.seen[2]?.payload).toBe('F|');
    expect([...daemon.server.connections].map((c) => c.transactions.size)).toEqual([0]);
  });

  it('end when they are aborted, also before they have begun', async () => {
    const inside = new AbortController();
    const failing = xs.transaction(
      async (tx) => {
        await tx.write('/n', '2');
        inside.abort();
        await new Promise(() => {}); // never
      },
      { signal: inside.signal },
    );
    await expect(failing).rejects.toThrow('aborted');
    const early = new AbortController();
    const starting = xs.transaction(() => {}, { signal: early.signal });
    await Promise.resolve().then(() => {});
    early.abort();
    await expect(starting).rejects.toThrow('aborted');
    expect(await xs.exists('/n')).toBe(false);
    await expect.poll(() => [...daemon.server.connections].map((c) => c.transactions.size)).toEqual([0]);
    await expect(xs.transaction(() => {}, { signal: AbortSignal.abort(new Error('no')) })).rejects.toThrow('no');
  });
});

describe('a callback that fails after its transaction was aborted', () => {
  it("is nobody's unhandled rejection", async () => {
    const controller = new AbortController();
    let fail: ((error: Error) => void) | undefined;
    const failing = xs.transaction(
      () => {
        controller.abort(new Error('enough'));
        return new Promise<never>((_, reject) => {
          fail = reject;
        });
      },
      { signal: controller.signal },
    );
    await expect(failing).rejects.toThrow('enough');
    fail?.(new Error('too late')); // vitest fails the run for a rejection that nobody takes
    await new Promise((resolve) => setImmediate(resolve));
    expect([...daemon.server.connections].map((c) => c.transactions.size)).toEqual([0]);
  });
});

describe('watches', () => {
  it('fire at once, then for changes at and below the path, until the loop is left', async () => {
    const paths: string[] = [];
    for await (const { path, collapsed } of xs.watch('/tool/a')) {
      expect(collapsed).toBe(false);
      paths.push(path);
      if (paths.length === 1) await xs.write('/tool/a/b', '');
      if (paths.length === 2) await xs.remove('/tool/a');
      if (paths.length === 3) break;
    }
    expect(paths).toEqual(['/tool/a', '/tool/a/b', '/tool/a']);
    expect([...daemon.server.connections].map((c) => c.watches.size)).toEqual([0]);
  });

  it('can be many on one path, relative, special and limited in depth', async () => {
    const watched = {
      all: xs.watch('/t'),
      again: xs.watch('/t'),
      home: xs.watch('data'),
      flat: xs.watch('/t', { depth: 1 }),
    };
    const special = xs.watch('@releaseDomain', { depth: 1 });
    for (const watch of [...Object.values(watched), special]) await watch.next();
    await xs.write('/t/x/y', '');
    await xs.write('data', '');
    await xs.write('/t/z', '');
    await xs.introduce({ domid: 7, gfn: 5n, port: 1 });
    await xs.release(7);
    const taken: Record<string, string[]> = {};
    for (const [name, watch] of Object.entries({ ...watched, special })) {
      watch.finish(); // what has come can still be taken
      taken[name] = [];
      for await (const { path } of watch) taken[name].push(path);
    }
    expect(taken).toEqual({
      all: ['/t/x/y', '/t/z'],
      again: ['/t/x/y', '/t/z'],
      home: ['data'],
      flat: ['/t/z'],
      special: ['@releaseDomain/7'],
    });
  });

  it('end with the reason of their signal', async () => {
    const controller = new AbortController();
    const watch = xs.watch('/t', { signal: controller.signal });
    await watch.next();
    const waiting = watch.next();
    controller.abort(new Error('enough'));
    await expect(waiting).rejects.toThrow('enough');
    expect(await watch.next()).toEqual({ done: true, value: undefined });
    await expect.poll(() => [...daemon.server.connections].map((c) => c.watches.size)).toEqual([0]);
    await expect(xs.watch('/t', { signal: controller.signal }).next()).rejects.toThrow('enough');
  });

  it('that the server refuses end with its error', async () => {
    expect(await codeOf(xs.watch('/bad path').next())).toBe('EINVAL');
    expect(await codeOf(xs.watch('/a', { depth: 0.5 }).next())).toBe('EINVAL');
  });

  it('that are not read fail when their queue is full, after what it holds', async () => {
    const watch = xs.watch('/t', { queueLength: 2 });
    for (const name of ['a', 'b', 'c']) await xs.write(`/t/${name}`, '');
    expect((await watch.next()).value?.path).toBe('/t');
    expect((await watch.next()).value?.path).toBe('/t/a');
    expect(await codeOf(watch.next())).toBe('EOVERFLOW');
    expect(await watch.next()).toEqual({ done: true, value: undefined });
    await expect.poll(() => [...daemon.server.connections].map((c) => c.watches.size)).toEqual([0]);
  });

  it('or collapse to one event, where they are told to', async () => {
    const watch = xs.watch('/t', { queueLength: 3, onOverflow: 'collapse' });
    for (let i = 0; i < 4; i++) await xs.write(`/t/${i}`, '');
    const events = [await watch.next(), await watch.next()].map(({ value }) => [value?.path, value?.collapsed]);
    expect(events).toEqual([
      ['/t', true],
      ['/t/3', false],
    ]);
  });

  it('are done when the client is closed', async () => {
    const watch = xs.watch('/t');
    await watch.next();
    const waiting = watch.next();
    xs.close();
    expect(await waiting).toEqual({ done: true, value: undefined });
  });
});

describe('requests', () => {
  it('that are made at once are served in order', async () => {
    const results = await Promise.all([
      xs.write('/n', '1'),
      xs.read('/n'),
      codeOf(xs.read('/nope')),
      xs.write('/n', '2'),
      xs.read('/n'),
    ]);
    expect(results).toEqual([undefined, '1', 'ENOENT', undefined, '2']);
  });

  it('that are aborted reject at once and disturb nobody', async () => {
    await xs.write('/n', '1');
    const controller = new AbortController();
    const reads = Array.from({ length: 50 }, (_, i) => xs.read('/n', i % 2 === 0 ? { signal: controller.signal } : {}));
    const settled = Promise.allSettled(reads);
    controller.abort(new Error('enough'));
    const outcomes = (await settled).map((r) => (r.status === 'fulfilled' ? r.value : (r.reason as Error).message));
    expect(outcomes).toEqual(reads.map((_, i) => (i % 2 === 0 ? 'enough' : '1')));
    await expect(xs.read('/n', { signal: controller.signal })).rejects.toThrow('enough');
    expect(await xs.read('/n')).toBe('1');
  });

  it('that wait are rejected when the connection is lost, and so is what comes later', async () => {
    daemon.intercept = ({ type }) => (type === 'READ' ? Buffer.alloc(0) : undefined);
    const watch = xs.watch('/t');
    const waiting = codeOf(xs.read('/n'));
    await expect.poll(() => daemon.names()).toContain('READ');
    await daemon.stop();
    expect(await waiting).toBe('ECONNRESET');
    expect((await watch.next()).value?.path).toBe('/t');
    expect(await codeOf(watch.next())).toBe('ECONNRESET');
    expect(await codeOf(xs.read('/n'))).toBe('ECONNRESET');
    expect(await codeOf(xs.watch('/t').next())).toBe('ECONNRESET');
    expect(await codeOf(xs.transaction(() => {}))).toBe('ECONNRESET');
  });

  it('are rejected once the client is closed', async () => {
    const waiting = codeOf(xs.read('/n'));
    xs.close();
    expect([await waiting, await codeOf(xs.read('/n'))]).toEqual(['ECANCELED', 'ECANCELED']);
  });
});

describe('with reconnect', () => {
  it('watches are set again and fire once more; requests made meanwhile wait', async () => {
    const client = await XenStore.connect({ path: daemon.path, reconnect: true });
    const watch = client.watch('/t');
    const ended = client.watch('/u');
    await watch.next();
    await ended.next();
    await daemon.stop();
    await ended.return();
    const waiting = client.write('/t/a', '1');
    const counted = client.transaction(async (tx) => await tx.read('/t/a'));
    daemon.seen.length = 0;
    await daemon.listen();
    await waiting.catch((error) => expect(error).toMatchObject({ code: 'ECONNRESET' })); // it may have been on its way
    await client.write('/t/b', '1');
    const paths = [(await watch.next()).value?.path];
    while (paths.at(-1) !== '/t/b') paths.push((await watch.next()).value?.path);
    expect(paths[0]).toBe('/t');
    expect(await counted.catch((error: XenStoreError) => error.code)).toMatch(/1|ECONNRESET|ENOENT/);
    expect(daemon.names().filter((name) => name === 'WATCH')).toHaveLength(1);
    client.close();
    expect(await watch.next()).toMatchObject({ done: true });
  });

  it('gives up after the time allowed', async () => {
    const client = await XenStore.connect({ path: daemon.path, reconnect: { timeoutMs: 50 } });
    const watch = client.watch('/t');
    await watch.next();
    await daemon.stop();
    expect(await codeOf(watch.next())).toBe('ECONNRESET');
    await expect(client.read('/n')).rejects.toThrow('not made again within 50 ms');
    client.close();
  });

  it('can be closed while there is no connection', async () => {
    const client = await XenStore.connect({ path: daemon.path, reconnect: true });
    const watch = client.watch('/t');
    await watch.next();
    await daemon.stop();
    await expect.poll(() => codeOf(client.read('/n', { signal: AbortSignal.timeout(20) }))).toContain('TimeoutError');
    const waiting = codeOf(client.read('/n'));
    client.close();
    expect(await waiting).toBe('ECANCELED');
    expect(await watch.next()).toMatchObject({ done: true });
  });
});

describe('connecting', () => {
  it('says what was tried', async () => {
    await expect(XenStore.connect({ path: '/nonexistent/socket' })).rejects.toThrow(
      'connect: ENOTCONN (no XenStore was reached; /nonexistent/socket: not there)',
    );
    await expect(XenStore.connect({ path: '/etc/passwd' })).rejects.toThrow('neither a socket nor a device');
    await daemon.stop();
    await expect(XenStore.connect({ path: daemon.path })).rejects.toThrow(/not there|nobody listens there/);
  });

  it('waits where others wait to be let in', async () => {
    const path = `${daemon.path}-busy`;
    const listener = listenUnix(path, SOCK_STREAM, 1);
    const first = [connectUnix(path, SOCK_STREAM), connectUnix(path, SOCK_STREAM)];
    await expect(XenStore.connect({ path, signal: AbortSignal.timeout(50) })).rejects.toThrow('timeout');
    const connecting = XenStore.connect({ path });
    const accepted: number[] = [];
    await expect
      .poll(() => {
        const fd = acceptUnix(listener)?.fd;
        if (fd !== undefined) accepted.push(fd);
        return accepted.length;
      })
      .toBe(3);
    (await connecting).close();
    for (const fd of [...first, ...accepted, listener]) libc.close(fd);
  });

  it('can be aborted', async () => {
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(XenStore.connect({ path: daemon.path, signal })).rejects.toThrow('enough');
  });

  it('follows the environment as libxenstore does', async () => {
    const { locate } = await import('../../../dist/sdk/xenstore/locate.js');
    const paths = (environment: NodeJS.ProcessEnv): readonly string[] =>
      locate(undefined, undefined, environment).paths;
    const devices = ['/dev/xen/xenbus', '/proc/xen/xenbus'];
    expect(paths({ XENSTORED_PATH: '/p', XENSTORED_RUNDIR: '/r' })).toEqual(['/p']);
    expect(paths({ XENSTORED_RUNDIR: '/r' })).toEqual(['/r/socket', ...devices]);
    expect(paths({})).toEqual(['/run/xenstored/socket', '/var/run/xenstored/socket', ...devices]);
    expect(locate(undefined, '/h', {})).toEqual({ paths: ['/h.xenstored', '/dev/xen/xenbus'], host: '/h' });
    expect(locate('/p', undefined, { POSTERN_HOST: '/h' })).toEqual({ paths: ['/p'], host: '/h' });
  });
});
