/**
 * What a fresh store holds beside C xenstored's own node, which the server makes: what toolstacks take for granted about
 * dom0, which on Xen a program of its own (xen-init-dom0) writes at boot. The domain's kernel writes the rest.
 */
import { latin1Bytes } from '../../xenstore/arena.js';
import type { XenstoreServer } from '../../xenstore/server.js';
import type { Actor } from '../../xenstore/view.js';

const nodes = (domid: number): Record<string, string> => ({
  [`/local/domain/${domid}/domid`]: `${domid}`,
  [`/local/domain/${domid}/name`]: 'Domain-0',
});

export function writeFirstNodes(server: XenstoreServer): void {
  const { control } = server.domains;
  const who: Actor = { domain: control, privileged: true, cause: () => null };
  const { path } = server.request;
  for (const [name, value] of Object.entries(nodes(control.domid))) {
    const bytes = latin1Bytes(name);
    if (!path.parse(bytes, 0, bytes.length, bytes, bytes.length)) throw new Error(`not a path: ${name}`);
    server.store.create(who, path, latin1Bytes(value), 0, value.length);
  }
}
