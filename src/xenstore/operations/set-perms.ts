/**
 * SET_PERMS path|perm|+: the first entry names the owner; only a privileged client may change it (XSA-352). Also takes the
 * special watches' names.
 * @spec xen:docs/misc/xenstore.txt SET_PERMS
 */
import { XS_PERM_OWNER, XS_PERM_WRITE, XS_SET_PERMS } from '../../abi/xen/xs-wire.js';
import { accessOf, type PermEntry, type Perms } from '../permissions.js';
import { type Outcome, type Request, strtolAll } from '../request.js';
import { VALUE } from '../view.js';
import type { SpecialWatch } from '../watches.js';
import { changeMustWait, type Operation } from './operation.js';

const RIGHTS = XS_PERM_WRITE | XS_PERM_OWNER;

export const setPerms: Operation = {
  type: XS_SET_PERMS,
  name: 'SET_PERMS',
  support: 'supported',
  mustWait: changeMustWait,
  run(request: Request): Outcome {
    const { connection, server } = request;
    const count = request.countStrings() - 1;
    if (count < 1) return 'EINVAL';
    if (!connection.privileged && server.quotas.exceeds(connection.domain, 'permissions', count)) {
      return server.quotas.deny(connection.domain, 'permissions', 'ENOSPC', `${count} permissions for one node`);
    }
    const entries = parseEntries(request, count + 1);
    if (typeof entries === 'string') return entries;
    const perms = server.pool.of(entries);
    const nul = request.stringEnd(request.start);
    if (request.bytes[request.start] === 0x40) return setSpecial(request, request.text(request.start, nul), perms);
    const entry = request.locate(request.start, nul, RIGHTS, VALUE);
    if (entry === null) return request.error;
    if (!connection.privileged && perms.owner !== entry.perms.owner) return 'EPERM';
    return request.view.setPerms(connection, entry, perms) ?? request.ok();
  },
};

function parseEntries(request: Request, strings: number): PermEntry[] | 'EINVAL' | 'ENOENT' {
  const offsets = request.strings(strings);
  const entries: PermEntry[] = [];
  for (let i = 1; i < strings; i++) {
    const at = offsets[i] as number;
    const access = accessOf(request.bytes[at] as number);
    const number = strtolAll(request.text(at + 1, (offsets[i + 1] as number) - 1));
    if (access === null || number === null) return 'EINVAL';
    const domid = number | 0;
    entries.push({ domid, domain: request.server.domains.refer(domid), access });
  }
  return entries[0]?.domain === null ? 'ENOENT' : entries;
}

function setSpecial(request: Request, name: string, perms: Perms): Outcome {
  const { special } = request.server.watches;
  if (!isSpecial(name)) return 'EINVAL';
  if ((special[name].rightsOf(request.connection) & RIGHTS) !== RIGHTS) return 'EACCES';
  special[name] = perms;
  request.server.store.observer?.specialChanged(name);
  return request.ok();
}

function isSpecial(name: string): name is SpecialWatch {
  return name === '@introduceDomain' || name === '@releaseDomain';
}
