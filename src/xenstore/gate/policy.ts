/**
 * A policy: which paths a client of the gate may do what to, and how much it may use. Data, as JSON:
 *
 *     {
 *       "name": "console",
 *       "description": "a console backend",
 *       "home": "/local/domain/{dm}",
 *       "grants": [
 *         { "why": "the frontend's ring", "paths": ["/local/domain/{domid}/console/*"], "rights": ["read", "watch"] },
 *         { "paths": ["/local/domain/{dm}/x"], "rights": ["perms"], "permissions": [["n{dm}", "r{domid}"]] }
 *       ],
 *       "introduced": ["{domid}"],
 *       "limits": { "watches": 16 }
 *     }
 *
 * There are grants only: what no rule grants is refused, and no rule takes back what another one grants. A policy is
 * trusted once it is read; before that it is text somebody wrote, and every mistake in it is an error that says where.
 */
import { fill, type Parameters, patternProblem } from './pattern.js';
import { RIGHT_NAMES, type RightName } from './rights.js';

/** Name → default and what it limits. 0 stands for no limit. */
export const LIMITS = {
  connections: [16, 'connections at a time'],
  outstanding: [32, 'requests of one connection that wait for their answer; more of them wait unread'],
  watches: [64, 'watches of all connections together'],
  transactions: [8, 'open transactions of all connections together'],
  nodes: [256, 'paths that the client has written or made and not removed, with the parents it may make'],
  'value-bytes': [2048, 'bytes of one value written'],
  'unread-bytes': [1 << 20, 'bytes that one connection leaves unread before it is ended'],
  'requests-per-second': [
    20_000,
    'requests and new connections, all together; more requests wait, connections are refused',
  ],
} as const satisfies Record<string, readonly [number, string]>;

export type LimitName = keyof typeof LIMITS;
export type PolicyLimits = Readonly<Record<LimitName, number>>;

export interface Grant {
  /** Why the client needs it. */
  readonly why: string;
  readonly paths: readonly string[];
  readonly rights: readonly RightName[];
  /** The lists that SET_PERMS may set, each as it goes over the wire: the owner's entry first. */
  readonly permissions?: PermissionLists;
}

export type PermissionLists = readonly (readonly string[])[] | 'any';

export interface Policy {
  readonly name: string;
  readonly description: string;
  /** What relative paths are relative to. */
  readonly home: string;
  readonly grants: readonly Grant[];
  /** Domains of which the client may ask whether they are introduced. */
  readonly introduced: readonly string[];
  readonly limits: PolicyLimits;
}

/** A mistake in a policy. The message says where: `grants[2].rights[0]: there is no right "raed"; …`. */
export class PolicyError extends Error {
  override readonly name = 'PolicyError';
}

const PERMISSION = /^[nrwb](\d{1,5}|\{domid\}|\{dm\})$/;
const MAX_GRANTS = 1000;
const MAX_PATHS = 1000;
const MAX_LIMIT = 2 ** 31 - 1;

/** @param value from JSON @throws PolicyError */
export function checkPolicy(value: unknown): Policy {
  const top = keysOf(value, '', ['name', 'description', 'home', 'grants', 'introduced', 'limits']);
  const home = top.home === undefined ? '/local/domain/{dm}' : textOf(top.home, 'home');
  checkPattern(home, 'home', /[*@]/);
  const grants = listOf(top.grants, 'grants', MAX_GRANTS).map((grant, i) => checkGrant(grant, `grants[${i}]`));
  const introduced = listOf(top.introduced ?? [], 'introduced', MAX_PATHS).map((entry, i) => {
    const text = textOf(entry, `introduced[${i}]`);
    if (!/^(\d{1,5}|\{domid\}|\{dm\})$/.test(text)) fail(`introduced[${i}]`, 'a number, "{domid}" or "{dm}" is needed');
    return text;
  });
  return {
    name: textOf(top.name, 'name'),
    description: proseOf(top.description, 'description'),
    home,
    grants,
    introduced,
    limits: checkLimits(top.limits ?? {}),
  };
}

function checkGrant(value: unknown, where: string): Grant {
  const grant = keysOf(value, where, ['why', 'paths', 'rights', 'permissions']);
  const paths = listOf(grant.paths, `${where}.paths`, MAX_PATHS).map((path, i) => {
    const text = textOf(path, `${where}.paths[${i}]`);
    checkPattern(text, `${where}.paths[${i}]`);
    return text;
  });
  const rights = listOf(grant.rights, `${where}.rights`, RIGHT_NAMES.length).map((right, i) => {
    const known = RIGHT_NAMES.find((name) => name === right);
    return (
      known ?? fail(`${where}.rights[${i}]`, `there is no right ${show(right)}; there are ${RIGHT_NAMES.join(', ')}`)
    );
  });
  if (rights.length === 0) fail(`${where}.rights`, 'no right is granted');
  if (paths.length === 0) fail(`${where}.paths`, 'no path is named');
  const special = paths.find((path) => path.startsWith('@'));
  if (special !== undefined && rights.some((right) => right !== 'watch')) {
    fail(`${where}.rights`, `a special watch (${special}) has no right but watch`);
  }
  if (!rights.includes('perms') && grant.permissions !== undefined) {
    fail(`${where}.permissions`, 'without the right perms this has no meaning');
  }
  return {
    why: proseOf(grant.why, `${where}.why`),
    paths,
    rights,
    ...(rights.includes('perms') && { permissions: checkPermissions(grant.permissions, where) }),
  };
}

function checkPermissions(value: unknown, where: string): PermissionLists {
  if (value === undefined) fail(`${where}.permissions`, 'the right perms needs the lists that may be set, or "any"');
  if (value === 'any') return value;
  return listOf(value, `${where}.permissions`, 64).map((list, i) => {
    const entries = listOf(list, `${where}.permissions[${i}]`, 64).map((entry, j) => {
      const at = `${where}.permissions[${i}][${j}]`;
      const text = textOf(entry, at);
      if (!PERMISSION.test(text)) fail(at, `${show(text)} is none of n, r, w, b with a domain, such as "r{domid}"`);
      return text;
    });
    if (entries.length === 0) fail(`${where}.permissions[${i}]`, 'an owner is needed');
    return entries;
  });
}

function checkLimits(value: unknown): PolicyLimits {
  const names = Object.keys(LIMITS) as LimitName[];
  const given = keysOf(value, 'limits', names);
  const entries = names.map((name): [LimitName, number] => {
    const limit = given[name] ?? LIMITS[name][0];
    if (!Number.isInteger(limit) || (limit as number) < 0 || (limit as number) > MAX_LIMIT) {
      fail(`limits.${name}`, `a whole number is needed, 0 for no limit; it is ${show(limit)}`);
    }
    return [name, limit as number];
  });
  return Object.fromEntries(entries) as Record<LimitName, number>;
}

function checkPattern(pattern: string, where: string, forbidden?: RegExp): void {
  const problem =
    patternProblem(pattern) ?? (forbidden?.test(pattern) ? 'must be one path, without patterns' : undefined);
  if (problem !== undefined) fail(where, `${show(pattern)} ${problem}`);
}

function keysOf<K extends string>(value: unknown, where: string, known: readonly K[]): Partial<Record<K, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) fail(where, 'an object is needed');
  for (const key of Object.keys(value as object)) {
    if (!(known as readonly string[]).includes(key)) {
      fail(where, `there is no key ${show(key)} here; there are ${known.join(', ')}`);
    }
  }
  return value as Partial<Record<K, unknown>>;
}

function listOf(value: unknown, where: string, max: number): unknown[] {
  if (!Array.isArray(value)) fail(where, `a list is needed${value === undefined ? '' : `; it is ${show(value)}`}`);
  if ((value as unknown[]).length > max) fail(where, `has more than ${max} entries`);
  return value as unknown[];
}

function textOf(value: unknown, where: string): string {
  if (typeof value !== 'string' || value === '') fail(where, 'a text is needed');
  return value as string;
}

/** Text for people. */
function proseOf(value: unknown, where: string): string {
  if (value === undefined) return '';
  if (typeof value !== 'string') fail(where, 'a text is needed');
  return value as string;
}

function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}

function fail(where: string, what: string): never {
  throw new PolicyError(where === '' ? what : `${where}: ${what}`);
}

/** A policy's texts with the numbers of one device model put in. */
export function fillAll(texts: readonly string[], parameters: Parameters): string[] {
  return texts.map((text) => fill(text, parameters));
}
