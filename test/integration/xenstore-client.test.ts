/**
 * The client for Node on every way to a store that there is, C xenstored among them; and the README's example as it stands
 * there, under the library too.
 */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { XenStore, XenStoreError } from '../../dist/sdk/xenstore.js';
import {
  type RunningStore,
  startTransport,
  TRANSPORT_NAMES,
  TRANSPORTS,
  xenPrograms,
} from '../support/xenstore-transports.js';

const README = new URL('../../README.md', import.meta.url);
const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** The block of code that uses the client. */
function exampleOf(file: URL): string | undefined {
  const blocks = readFileSync(file, 'utf8').matchAll(/```\w*\n([\s\S]*?)```/g);
  return [...blocks].map((block) => block[1] as string).find((code) => code.includes("from 'postern/xenstore'"));
}

for (const name of TRANSPORT_NAMES) {
  const { title, needs } = TRANSPORTS[name];

  describe.skipIf(!needs.ok)(needs.named(title), () => {
    let store: RunningStore;
    const clients: XenStore[] = [];

    const connect = async (): Promise<XenStore> => {
      const { XENSTORED_PATH: path, POSTERN_HOST: host } = store.env;
      const client = await XenStore.connect({ path, host });
      clients.push(client);
      return client;
    };

    beforeAll(async () => {
      store = await startTransport(name);
    });

    afterAll(async () => {
      for (const client of clients) client.close();
      await store?.close();
    });

    it('serves requests made at once, in order', async () => {
      const xs = await connect();
      const names = Array.from({ length: 400 }, (_, i) => `a-node-with-a-rather-long-name-${i}`);
      await Promise.all(names.map((each, i) => xs.write(`/client/many/${each}`, String(i))));
      expect(await Promise.all(names.map((each) => xs.read(`/client/many/${each}`)))).toEqual(
        names.map((_, i) => `${i}`),
      );
      expect((await xs.list('/client/many')).sort()).toEqual(names.sort());
      await xs.remove('/client');
      expect(await xs.exists('/client/many')).toBe(false);
    });

    it('carries values of all bytes, and says what is wrong', async () => {
      const xs = await connect();
      const bytes = Uint8Array.from({ length: 512 }, (_, i) => i & 0xff);
      await xs.write('/client/bytes', bytes);
      expect(await xs.readBytes('/client/bytes')).toEqual(bytes);
      await expect(xs.read('/client/nope')).rejects.toMatchObject({ code: 'ENOENT', path: '/client/nope' });
      await expect(xs.write('/client/bad path', '')).rejects.toBeInstanceOf(XenStoreError);
      await expect(xs.watch('/client/bad path').next()).rejects.toMatchObject({ code: 'EINVAL' });
      const permissions = { owner: 0, others: 'read', domains: [{ domid: 0, access: 'both' }] } as const;
      await xs.setPermissions('/client/bytes', permissions);
      expect(await xs.getPermissions('/client/bytes')).toEqual(permissions);
    });

    it('counts right with transactions of several clients at once', async () => {
      const all = await Promise.all([connect(), connect(), connect()]);
      const xs = all[0] as XenStore;
      await xs.write('/client/count', '0');
      const add = (client: XenStore): Promise<void> =>
        client.transaction(async (tx) => {
          await tx.write('/client/count', String(Number(await tx.read('/client/count')) + 1));
        });
      await Promise.all(all.flatMap((client) => Array.from({ length: 8 }, () => add(client))));
      expect(await xs.read('/client/count')).toBe('24');
    });

    it('tells of changes, and leaves no watch behind', async () => {
      const [xs, other] = await Promise.all([connect(), connect()]);
      const seen: string[] = [];
      for await (const { path } of xs.watch('/client/watched')) {
        seen.push(path);
        if (seen.length === 1) await other.write('/client/watched/a', '1');
        if (seen.length === 2) await other.transaction((tx) => tx.write('/client/watched/b', '2'));
        if (seen.length === 3) break;
      }
      expect(seen).toEqual(['/client/watched', '/client/watched/a', '/client/watched/b']);
      const controller = new AbortController();
      const watch = xs.watch('/client/watched', { signal: controller.signal });
      await watch.next();
      controller.abort();
      await expect(watch.next()).rejects.toThrow('aborted');
      await other.write('/client/watched/c', '3');
      expect(await xs.read('/client/watched/c')).toBe('3');
    });

    it('goes on after what was aborted', async () => {
      const xs = await connect();
      await xs.write('/client/n', '1');
      const controller = new AbortController();
      const { signal } = controller;
      const work = [
        ...Array.from({ length: 20 }, () => xs.read('/client/n', { signal })),
        xs.transaction((tx) => tx.write('/client/n', '2'), { signal }),
      ];
      const settled = Promise.allSettled(work);
      controller.abort();
      expect((await settled).every(({ status }) => status === 'rejected')).toBe(true);
      expect(await xs.read('/client/n')).toBe('1');
      expect(await xs.transaction((tx) => tx.read('/client/n'))).toBe('1');
    });

    if (name.startsWith('xenbus')) {
      it.skipIf(!xenPrograms.ok)('is found by the host alone', async () => {
        const host = store.env.POSTERN_HOST as string;
        const xs = await XenStore.connect({ host });
        clients.push(xs);
        // Where the store is not served beside the host's own socket, there is still the device.
        expect(xs.path).toBe(name === 'xenbus-postern' ? `/dev/xen/xenbus of ${host}` : `${host}.xenstored`);
        await xs.write('/client/found', 'yes');
        expect((await store.run(['xenstore-read', '/client/found'])).stdout).toBe('yes\n');
      });
    }

    it("runs the README's example", async () => {
      const modules = store.file('node_modules');
      mkdirSync(modules, { recursive: true });
      symlinkSync(ROOT, `${modules}/postern`);
      writeFileSync(store.file('example.mjs'), exampleOf(README) as string);
      const ran = await store.run([process.execPath, store.file('example.mjs')]);
      expect(ran, store.output).toEqual({
        status: 0,
        stdout: "/tool/example\n/tool/example/done\ncounted to 1 [ 'count', 'done' ]\n",
        stderr: '',
      });
    });
  });
}
