/** What a policy can grant on a path. One bit a right, so that what several rules grant together is one number. */

export const RIGHT_READ = 1;
export const RIGHT_LIST = 2;
export const RIGHT_WRITE = 4;
export const RIGHT_CREATE = 8;
export const RIGHT_REMOVE = 16;
export const RIGHT_PERMS = 32;
export const RIGHT_WATCH = 64;

/** Name in a policy → bit and what it allows. */
export const RIGHTS = {
  read: [RIGHT_READ, 'READ, GET_PERMS'],
  list: [RIGHT_LIST, 'DIRECTORY, DIRECTORY_PART: names of children that the policy names too'],
  write: [RIGHT_WRITE, 'WRITE to a node that is there'],
  create: [RIGHT_CREATE, 'MKDIR; with write: WRITE to a node that is not there; being made as a missing parent'],
  remove: [RIGHT_REMOVE, 'RM: the node with all that is below it'],
  perms: [RIGHT_PERMS, "SET_PERMS to one of the rule's lists of permissions"],
  watch: [RIGHT_WATCH, 'WATCH, UNWATCH'],
} as const satisfies Record<string, readonly [number, string]>;

export type RightName = keyof typeof RIGHTS;

export const RIGHT_NAMES = Object.keys(RIGHTS) as readonly RightName[];

/** Who has one of these on a path may be told that something has happened to it. */
export const RIGHTS_TO_KNOW = RIGHT_READ | RIGHT_LIST | RIGHT_WATCH;

/** The name of a right's bit; of several, that of the lowest. */
export function rightName(rights: number): RightName {
  for (const name of RIGHT_NAMES) if ((rights & RIGHTS[name][0]) !== 0) return name;
  throw new Error(`no right in ${rights}`);
}

export function rightNames(rights: number): RightName[] {
  return RIGHT_NAMES.filter((name) => (rights & RIGHTS[name][0]) !== 0);
}
