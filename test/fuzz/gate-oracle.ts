/** What a gate's policy grants, worked out from its text with regular expressions: slow, and nothing of the gate's own. */
import type { Policy } from '../../dist/xenstore/gate/policy.js';

export interface Oracle {
  rights(path: string): ReadonlySet<string>;
  special(name: string): boolean;
  /** Whether the client may be told that something has happened to the path. */
  mayKnow(path: string): boolean;
  /** Whether a listing may name the path: some pattern matches it or leads through it. */
  mayList(path: string): boolean;
  /** Whether a node may have gone: it or one above may be removed. */
  mayGo(path: string): boolean;
  /** Whether the permissions, as `n0 r1`, may have been set. */
  mayHave(path: string, permissions: string): boolean;
}

export function oracleOf(policy: Policy, numbers: { domid: number; dm: number }): Oracle {
  const fill = (text: string) => text.replaceAll('{domid}', `${numbers.domid}`).replaceAll('{dm}', `${numbers.dm}`);
  const rules = policy.grants.flatMap(({ paths, rights, permissions = [] }) =>
    paths.map((path) => ({
      text: fill(path),
      whole: regular(fill(path)),
      prefixes: prefixesOf(fill(path)),
      rights,
      lists: permissions === 'any' ? 'any' : permissions.map((list) => list.map(fill).join(' ')),
    })),
  );
  const matching = (path: string) => rules.filter(({ whole }) => whole.test(path));
  const rights = (path: string) => new Set<string>(matching(path).flatMap((rule) => rule.rights));
  return {
    rights,
    special: (name) => rules.some(({ text }) => text === name),
    mayKnow: (path) => ['read', 'list', 'watch'].some((right) => rights(path).has(right)),
    mayList: (path) => rules.some(({ prefixes }) => prefixes.some((prefix) => prefix.test(path))),
    mayGo: (path) => ancestors(path).some((above) => rights(above).has('remove')),
    mayHave: (path, list) => matching(path).some(({ lists }) => lists === 'any' || lists.includes(list)),
  };
}

function regular(pattern: string): RegExp {
  if (pattern.startsWith('@') || pattern === '/') return new RegExp(`^${pattern}$`);
  const source = pattern.replace(/\*\*$/, '(?:[^/]+/)@[^/]+').replaceAll('*', '[^/]+');
  return new RegExp(`^${source.replace('(?:[^/]+/)@', '(?:[^/]+/)*')}$`);
}

/** The pattern cut after each of its names. */
function prefixesOf(pattern: string): RegExp[] {
  if (!pattern.startsWith('/')) return [];
  const names = pattern.slice(1).split('/');
  return names.map((_, i) => regular(`/${names.slice(0, i + 1).join('/')}`));
}

function ancestors(path: string): string[] {
  const names = path.slice(1).split('/');
  return [...names.map((_, i) => `/${names.slice(0, i + 1).join('/')}`), '/'];
}
