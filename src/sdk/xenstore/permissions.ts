/** Who may do what with a node. @spec xen:docs/misc/xenstore.txt GET_PERMS */
import { XenStoreError } from './error.js';

export type Access = 'none' | 'read' | 'write' | 'both';

export interface DomainAccess {
  readonly domid: number;
  readonly access: Access;
}

export interface NodePermissions {
  /** The domain that owns the node: it may do everything with it, and the node counts against its quota. */
  readonly owner: number;
  /** What domains may do that are not named. Domain 0 may always do everything. */
  readonly others: Access;
  /** Exceptions from that; a domain's first entry counts. */
  readonly domains: readonly DomainAccess[];
}

const LETTER: Readonly<Record<Access, string>> = { none: 'n', read: 'r', write: 'w', both: 'b' };
const ACCESS: Readonly<Record<string, Access>> = { n: 'none', r: 'read', w: 'write', b: 'both' };

/** As the tools write them: `n0`, `r1`. The owner comes first. */
export function formatPermissions({ owner, others, domains }: NodePermissions): string[] {
  return [{ domid: owner, access: others }, ...domains].map(({ domid, access }) => {
    if (!Number.isInteger(domid) || domid < 0 || domid > 0xffff) throw new RangeError(`${domid} is no domain's number`);
    return `${LETTER[access]}${domid}`;
  });
}

/** What `formatPermissions` writes. @returns undefined where a text is something else */
export function parsePermissions(texts: readonly string[]): NodePermissions | undefined {
  const entries = texts.map((text) => /^([nrwb])(\d{1,5})$/.exec(text));
  const [first, ...domains] = entries.map((match) => ({
    domid: Number(match?.[2]),
    access: ACCESS[match?.[1] ?? ''] as Access,
  }));
  if (first === undefined || entries.includes(null)) return undefined;
  return { owner: first.domid, others: first.access, domains };
}

/** The same of a server's reply. @throws XenStoreError EPROTO */
export function permissionsFromServer(texts: readonly string[], path: string): NodePermissions {
  const permissions = parsePermissions(texts);
  if (permissions === undefined) {
    throw new XenStoreError('EPROTO', 'get permissions', path, 'the server answered with malformed permissions');
  }
  return permissions;
}
