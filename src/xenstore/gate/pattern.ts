/**
 * Path patterns of a policy: `/local/domain/{domid}/device/*`, `/tool/**`, `@releaseDomain`.
 *
 *     {domid}  the guest's number         {dm}  the number of the domain that the client runs in
 *     *        any one name               **    all below, however deep; only at the end
 *
 * A name with a parameter in it is that name with the number put in: nothing of a pattern matches part of a name.
 */

/** Numbers that stand for a pattern's parameters. */
export interface Parameters {
  readonly domid: number;
  readonly dm: number;
}

export const PARAMETER_NAMES = ['domid', 'dm'] as const satisfies readonly (keyof Parameters)[];

const NAME = /^[A-Za-z0-9_@-]+$/;
const SPECIAL = /^@(introduceDomain|releaseDomain|releaseDomain\/\d+)$/;
/** Longest path a daemon takes. */
const MAX_PATTERN = 2048;

/** What is wrong with a pattern; undefined where it is sound. */
export function patternProblem(pattern: string): string | undefined {
  if (pattern.length > MAX_PATTERN) return `is longer than ${MAX_PATTERN} characters`;
  const unknown = [...pattern.matchAll(/\{([^{}]*)\}/g)].find(([, name]) => !isParameter(name as string));
  if (unknown) return `has an unknown parameter ${unknown[0]}: there are {domid} and {dm}`;
  const filled = fill(pattern, { domid: 1, dm: 1 });
  if (/[{}]/.test(filled)) return 'has a brace without its other';
  if (filled.startsWith('@')) {
    return SPECIAL.test(filled)
      ? undefined
      : 'is no special watch: there are @introduceDomain, @releaseDomain[/<domid>]';
  }
  if (!filled.startsWith('/')) return 'must begin with / (or @ for a special watch)';
  if (filled === '/') return undefined;
  const names = filled.slice(1).split('/');
  for (const [i, name] of names.entries()) {
    if (name === '') return filled.endsWith('/') && i === names.length - 1 ? 'ends in /' : 'has an empty name (//)';
    if (name === '**' && i < names.length - 1) return 'has ** before its end';
    if (name === '*' || name === '**') continue;
    if (name.includes('*')) return `has a * inside a name ("${name}"): it stands for a whole one`;
    if (!NAME.test(name)) return `has a character that no path has ("${name}")`;
  }
  return undefined;
}

/** The text with its parameters' numbers put in. */
export function fill(text: string, parameters: Parameters): string {
  return text.replace(/\{(\w+)\}/g, (whole, name: string) => (isParameter(name) ? String(parameters[name]) : whole));
}

/** Whether a filled pattern matches a path. The slow way, for explanations; decisions take the tree. */
export function matches(pattern: string, path: string): boolean {
  if (pattern.startsWith('@') || path.startsWith('@')) return pattern === path;
  const names = namesOf(path);
  const wanted = namesOf(pattern);
  const isDeep = wanted.at(-1) === '**';
  const fixed = isDeep ? wanted.slice(0, -1) : wanted;
  if (isDeep ? names.length <= fixed.length : names.length !== fixed.length) return false;
  return fixed.every((name, i) => name === '*' || name === names[i]);
}

export function namesOf(path: string): string[] {
  return path === '/' ? [] : path.slice(1).split('/');
}

function isParameter(name: string): name is keyof Parameters {
  return (PARAMETER_NAMES as readonly string[]).includes(name);
}
